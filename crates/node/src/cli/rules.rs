//! `infera rules`: when the node leaves the machine to its owner, and what it sees of them.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use infera_node::app::api::AppState;
use infera_node::app::settings::SettingsChange;
use infera_node::governor::gpu_rules::{GpuHeat, GpuLoad};
use infera_node::governor::rules::{Held, Preset, Rule, Rules};
use infera_node::governor::schedule::Hours;
use infera_node::gpu::GpuSeen;
use infera_node::state::{DeviceStatus, NodeSnapshot};
use infera_surroundings::{Input, Network, RunningProgram, Seen, Session, Surroundings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::Show;
use super::remote::{Control, output};
use super::terminal::{Fault, table};

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PresetName {
    /// Whenever you neither play nor watch something in full screen
    NotPlaying,
    /// Only while nobody uses the machine
    Away,
    /// Only at night
    Nights,
    /// Whatever you do
    Always,
}

impl From<PresetName> for Preset {
    fn from(name: PresetName) -> Self {
        match name {
            PresetName::NotPlaying => Self::NotPlaying,
            PresetName::Away => Self::Away,
            PresetName::Nights => Self::Nights,
            PresetName::Always => Self::Always,
        }
    }
}

#[derive(Subcommand)]
pub(super) enum RulesCommand {
    /// Show the programs beside which the node does not work, and what runs now, or change the list
    Programs {
        /// Do not work while this program runs; may be given again
        #[arg(long, value_name = "NAME")]
        add: Vec<String>,
        /// Work beside this program; may be given again
        #[arg(long, value_name = "NAME")]
        remove: Vec<String>,
        #[command(flatten)]
        show: Show,
    },
}

pub(super) async fn run(command: RulesCommand) -> Result<ExitCode, Fault> {
    let RulesCommand::Programs { add, remove, show } = command;
    let control = Control::of(&show)?;
    let state: AppState = control.call("state", &()).await?;
    let mut named = state.settings.rules.programs;
    if !add.is_empty() || !remove.is_empty() {
        named.retain(|name| !remove.contains(name));
        named.extend(add);
        let change = Map::from_iter([("rules.programs".to_owned(), json!(named))]);
        let state: AppState = control
            .call("change_settings", &SettingsChange(change))
            .await?;
        named = state.settings.rules.programs;
    }
    let running = control.call("running_programs", &()).await?;
    output(&show, &Programs { named, running }, describe_programs)
}

/// What is shown of programs.
#[derive(Serialize)]
struct Programs {
    named: Vec<String>,
    running: Option<Vec<RunningProgram>>,
}

fn describe_programs(shown: &Programs) -> String {
    let named = if shown.named.is_empty() {
        "No program is named".to_owned()
    } else {
        format!("Does not work beside {}", shown.named.join(", "))
    };
    let Some(running) = &shown.running else {
        return format!("{named}\n\nWhat runs now is not reported here");
    };
    if running.is_empty() {
        return format!("{named}\n\nNothing runs now that is worth naming");
    }
    let mut rows = vec![["Runs now", "Memory", ""].map(str::to_owned).to_vec()];
    rows.extend(running.iter().map(|program| {
        let memory = program
            .memory_bytes
            .map_or_else(|| "not reported here".to_owned(), gigabytes);
        let draws = if program.uses_gpu == Some(true) {
            "uses the GPU"
        } else {
            ""
        };
        vec![program.name.clone(), memory, draws.to_owned()]
    }));
    format!(
        "{named}\n\n{}\n\nName one: infera rules programs --add NAME",
        table(&rows, &[1])
    )
}

/// What is shown.
#[derive(Serialize)]
struct Shown {
    preset: Option<Preset>,
    rules: Rules,
    seen: Surroundings,
    gpus: Vec<SeenGpu>,
    held: Vec<Held>,
}

/// A device of the node, as far as the rules look at it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SeenGpu {
    name: String,
    /// None while nobody looks, and for a device that is no GPU.
    seen: Option<GpuSeen>,
}

pub(super) async fn rules(show: &Show, preset: Option<PresetName>) -> Result<ExitCode, Fault> {
    let control = Control::of(show)?;
    let state: AppState = match preset {
        Some(name) => control.call("choose_preset", &Preset::from(name)).await?,
        None => control.call("state", &()).await?,
    };
    let node = state.node.ok_or_else(|| {
        Fault::with_advice(
            &state.state.sentence,
            "nothing is seen",
            "end the node and start it again if this stays so",
        )
    })?;
    let shown = Shown {
        preset: state.preset,
        rules: state.settings.rules,
        gpus: node.devices.iter().map(SeenGpu::from).collect(),
        held: held_anywhere(&node),
        seen: node.surroundings,
    };
    let sentence = node.state.sentence;
    output(show, &shown, |shown| describe(shown, &sentence))
}

fn describe(shown: &Shown, sentence: &str) -> String {
    let preset = match shown.preset {
        Some(Preset::NotPlaying) => "Works whenever you neither play nor watch in full screen",
        Some(Preset::Away) => "Works while you are away",
        Some(Preset::Nights) => "Works at night",
        Some(Preset::Always) => "Works whatever you do",
        None => "Works by rules of your own",
    };
    let mut rows = vec![["Rule", "Is", "Sees now"].map(str::to_owned).to_vec()];
    rows.extend(RULES.map(|rule| {
        let holds = shown.held.iter().any(|held| held.rule == rule);
        let (name, is) = set(rule, &shown.rules);
        let mut sees = if rule.is_about_a_gpu() {
            on_each(rule, &shown.gpus)
        } else {
            sees(rule, &shown.seen)
        };
        if holds {
            sees += " (keeps the node from working)";
        }
        vec![name.to_owned(), is, sees]
    }));
    let duty = shown.rules.gpu.duty_percent;
    rows.push(vec![
        "gpu.duty_percent".to_owned(),
        format!("{duty} % of the time"),
        String::new(),
    ]);
    let spared = if shown.rules.metered_downloads {
        "on"
    } else {
        "off"
    };
    let line = match shown.seen.network {
        Some(Network::Metered) => "a metered connection",
        Some(Network::Unmetered) => "not metered",
        Some(Network::Offline) => "no network",
        None => "not reported here",
    };
    rows.push(
        ["metered_downloads", spared, line]
            .map(str::to_owned)
            .to_vec(),
    );
    format!("{sentence}\n{preset}\n\n{}", table(&rows, &[]))
}

impl From<&DeviceStatus> for SeenGpu {
    fn from(device: &DeviceStatus) -> Self {
        Self {
            name: device.name.clone(),
            seen: device.seen.clone(),
        }
    }
}

/// By the node, or by one of its devices.
fn held_anywhere(node: &NodeSnapshot) -> Vec<Held> {
    let on_devices = node.devices.iter().flat_map(|device| &device.held);
    node.decision
        .held
        .iter()
        .chain(on_devices)
        .cloned()
        .collect()
}

/// Those with a switch.
const RULES: [Rule; 10] = [
    Rule::Games,
    Rule::Programs,
    Rule::FullScreen,
    Rule::Memory,
    Rule::Battery,
    Rule::GpuLoad,
    Rule::GpuMemory,
    Rule::GpuHeat,
    Rule::Away,
    Rule::Schedule,
];

/// A rule's name, and what it is set to.
fn set(rule: Rule, rules: &Rules) -> (&'static str, String) {
    let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
    match rule {
        Rule::Sleep => ("sleep", switch(true)),
        Rule::Games => ("games", switch(rules.games)),
        Rule::Programs if rules.programs.is_empty() => ("programs", "none named".to_owned()),
        Rule::Programs => ("programs", rules.programs.join(", ")),
        Rule::FullScreen => ("full_screen", switch(rules.full_screen)),
        Rule::Memory if rules.memory.on => (
            "memory",
            format!("{} left free", gigabytes(rules.memory.bytes)),
        ),
        Rule::Memory => ("memory", switch(false)),
        Rule::Battery => match rules.battery_percent {
            Some(percent) => (
                "battery",
                format!("{}, never below {percent} %", switch(rules.battery)),
            ),
            None => ("battery", switch(rules.battery)),
        },
        Rule::GpuLoad if rules.gpu.load.on => {
            let GpuLoad {
                percent, seconds, ..
            } = rules.gpu.load;
            ("gpu.load", format!("from {percent} % on, for {seconds} s"))
        }
        Rule::GpuLoad => ("gpu.load", switch(false)),
        Rule::GpuMemory => ("gpu.memory", switch(rules.gpu.memory.on)),
        Rule::GpuHeat => match rules.gpu.heat {
            GpuHeat { on: false, .. } => ("gpu.heat", switch(false)),
            GpuHeat {
                celsius: Some(celsius),
                ..
            } => ("gpu.heat", format!("above {celsius} °C")),
            GpuHeat { celsius: None, .. } => {
                ("gpu.heat", "10 °C below the driver's limit".to_owned())
            }
        },
        Rule::Away if rules.away.on => ("away", format!("for {} min", rules.away.minutes)),
        Rule::Away => ("away", switch(false)),
        Rule::Schedule if rules.schedule.on => {
            let hours: Vec<_> = rules.schedule.hours.iter().map(hours).collect();
            ("schedule", hours.join(", "))
        }
        Rule::Schedule => ("schedule", switch(false)),
    }
}

fn hours(hours: &Hours) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let days: Vec<_> = DAYS
        .iter()
        .zip(hours.days)
        .filter_map(|(name, on)| on.then_some(*name))
        .collect();
    let days = if days.len() == DAYS.len() {
        "daily".to_owned()
    } else {
        days.join(" ")
    };
    format!("{days} {} to {}", time(hours.from), time(hours.to))
}

/// What is seen of what a rule is about.
fn sees(rule: Rule, seen: &Surroundings) -> String {
    let names = |seen: &Option<Seen>, nothing: &str| {
        seen.as_ref().map(|seen| match seen.names.as_slice() {
            [] => nothing.to_owned(),
            names => names.join(", "),
        })
    };
    let sees = match rule {
        Rule::Sleep => seen
            .going_to_sleep
            .map(|going| if going { "going to sleep" } else { "awake" }.to_owned()),
        Rule::Games => names(&seen.games, "no game"),
        Rule::Programs => names(&seen.programs, "none of them"),
        Rule::FullScreen => names(&seen.full_screen, "nothing in full screen"),
        Rule::Memory => seen
            .available_memory_bytes
            .map(|bytes| format!("{} free", gigabytes(bytes))),
        Rule::Battery => seen
            .power
            .map(|power| match (power.on_battery, power.battery_percent) {
                (true, Some(percent)) => format!("on battery, {percent} % left"),
                (true, None) => "on battery".to_owned(),
                (false, Some(percent)) => format!("mains power, {percent} % in the battery"),
                (false, None) => "mains power".to_owned(),
            }),
        Rule::GpuHeat | Rule::GpuMemory | Rule::GpuLoad => None,
        Rule::Away => match (seen.session, seen.input) {
            (Some(Session::Locked), _) => Some("the screen is locked".to_owned()),
            (Some(Session::Remote), _) => Some("somebody is here from afar".to_owned()),
            (_, Some(Input::Recent)) => Some("somebody is here".to_owned()),
            (_, Some(Input::Quiet { .. })) => Some("nobody is here".to_owned()),
            (_, None) => None,
        },
        Rule::Schedule => return String::new(),
    };
    sees.unwrap_or_else(|| UNSEEN.to_owned())
}

const UNSEEN: &str = "not reported here";

/// The same on each GPU, with its name where there are several.
fn on_each(rule: Rule, gpus: &[SeenGpu]) -> String {
    let sees = |gpu: &SeenGpu| {
        let sees = gpu.seen.as_ref().and_then(|seen| on_gpu(rule, seen));
        sees.unwrap_or_else(|| UNSEEN.to_owned())
    };
    match gpus {
        [] => UNSEEN.to_owned(),
        [gpu] => sees(gpu),
        gpus => {
            let each = gpus
                .iter()
                .map(|gpu| format!("{}: {}", gpu.name, sees(gpu)));
            each.collect::<Vec<_>>().join("; ")
        }
    }
}

fn on_gpu(rule: Rule, seen: &GpuSeen) -> Option<String> {
    match rule {
        Rule::GpuLoad => {
            let percent = seen.load_others_percent?;
            Some(format!("{percent} % by other programs"))
        }
        Rule::GpuMemory => {
            let (all, others) = (seen.vram_total_bytes?, seen.vram_others_bytes?);
            let free = all
                .saturating_sub(others)
                .saturating_sub(seen.vram_ours_bytes?);
            let (free, others) = (gigabytes(free), gigabytes(others));
            Some(format!("{free} free, {others} held by other programs"))
        }
        Rule::GpuHeat => {
            let celsius = seen.temperature_celsius?;
            Some(match seen.temperature_limit_celsius {
                Some(limit) => format!("{celsius} °C, limit {limit} °C"),
                None => format!("{celsius} °C"),
            })
        }
        _ => None,
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_gpu_is_told_by_its_name_where_there_are_several() {
        let seen = json!({
            "adapter": "a",
            "load_others_percent": 35,
            "vram_others_bytes": 1_u64 << 30,
            "vram_ours_bytes": 3_u64 << 30,
            "vram_total_bytes": 8_u64 << 30,
            "temperature_celsius": 61,
            "temperature_limit_celsius": 90,
        });
        let gpus = |devices| serde_json::from_value::<Vec<SeenGpu>>(devices).unwrap();
        let one = gpus(json!([{ "name": "One", "seen": seen }]));
        for (rule, expected) in [
            (Rule::GpuLoad, "35 % by other programs"),
            (
                Rule::GpuMemory,
                "4.0 GB free, 1.0 GB held by other programs",
            ),
            (Rule::GpuHeat, "61 °C, limit 90 °C"),
        ] {
            assert_eq!(on_each(rule, &one), expected);
        }
        let two = gpus(json!([
            { "name": "One", "seen": seen },
            { "name": "Two", "seen": { "adapter": "b", "temperature_celsius": 40 } },
            { "name": "Three", "seen": null },
        ]));
        assert_eq!(
            on_each(Rule::GpuHeat, &two),
            "One: 61 °C, limit 90 °C; Two: 40 °C; Three: not reported here"
        );
        assert_eq!(
            on_each(Rule::GpuMemory, &two[1..2]),
            "not reported here",
            "and not 0"
        );
        assert_eq!(on_each(Rule::GpuLoad, &[]), "not reported here");
    }
}
