//! `infera config`: the settings, from the command line.

use std::process::ExitCode;

use infera_node::app::api::AppState;
use infera_node::app::settings::{Preferences, SettingsChange};
use serde_json::{Map, Value};

use super::Show;
use super::remote::{Control, output};
use super::terminal::Fault;

const UNCHANGED: &str = "nothing was changed";

/// Shows all settings, or one, or changes one.
pub(super) async fn config(
    show: &Show,
    name: Option<&str>,
    value: Option<&str>,
) -> Result<ExitCode, Fault> {
    let folder = show.data.folder()?;
    let control = Control::of(show);
    let mut settings = if let Ok(control) = &control {
        control.call::<AppState>("state", &()).await?.settings
    } else {
        // Without a running node, as it was left.
        let read = Preferences::read(&folder.settings());
        read.map_err(|error| Fault::new(&error.to_string(), "nothing is shown"))?
            .settings
    };
    let fields = flat(settings.fields());
    let Some(name) = name else {
        return output(show, &settings, |_| {
            let lines = fields
                .iter()
                .map(|(name, value)| format!("{name} = {value}"));
            lines.collect::<Vec<_>>().join("\n")
        });
    };
    if !fields.contains_key(name) {
        let names: Vec<_> = fields.keys().map(String::as_str).collect();
        return Err(Fault::with_advice(
            &format!("there is no setting {name}"),
            UNCHANGED,
            &format!("choose one of {}", names.join(", ")),
        )
        .code(2));
    }
    if let Some(value) = value {
        // What is no JSON is a text, and so is a number that would lose a digit: a price of 0.30.
        let value_in_json = match serde_json::from_str(value) {
            Ok(Value::Number(number)) if number.to_string() != value => Value::from(value),
            Ok(json) => json,
            Err(_) => Value::from(value),
        };
        let change = SettingsChange(Map::from_iter([(name.to_owned(), value_in_json)]));
        change.clone().apply(&settings).map_err(|error| {
            Fault::with_advice(
                &format!("{name} cannot be {value}: {error}"),
                UNCHANGED,
                "write it as `infera config` shows it",
            )
            .code(2)
        })?;
        let state: AppState = control?.call("change_settings", &change).await?;
        settings = state.settings;
    }
    let shown = flat(settings.fields()).remove(name).unwrap_or_default();
    output(show, &shown, Value::to_string)
}

/// Settings that have parts, each part by its path. A choice between several things has a name for
/// the chosen one among its fields, and is set as a whole.
fn flat(fields: Map<String, Value>) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, value) in fields {
        match value {
            Value::Object(parts) if !parts.contains_key(&name) => {
                let parts = flat(parts).into_iter();
                all.extend(parts.map(|(part, value)| (format!("{name}.{part}"), value)));
            }
            value => _ = all.insert(name, value),
        }
    }
    all
}
