//! What a user can set, and the file that keeps it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use infera_engine::message::DeviceChoice;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use ts_rs::TS;

use crate::account::{Accounts, Belonging};
use crate::governor::rules::Rules;
use crate::gpu;
use crate::identity::write_private;
use crate::library::Limits;
use crate::networks::NetworkSetting;
use crate::tariff::Electricity;

/// What is kept of a person's choices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// How far the first start has come.
    pub setup: Setup,
    /// What is set in the window or on the command line.
    pub settings: Settings,
    /// The account that this machine belongs to.
    pub accounts: Accounts,
}

/// How far the first start has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Setup {
    /// The person has agreed to lend their GPU. Nothing is shared before.
    pub agreed: bool,
    /// The five steps were gone through, or skipped.
    pub finished: bool,
}

/// All settings. What is absent in a stored file has its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Settings {
    /// The active network's address, which is in `networks`; none until one is chosen.
    pub balancer: Option<String>,
    /// All that were joined.
    pub networks: Vec<NetworkSetting>,
    /// What computes, each device beside the others. Without any: the best GPU there is, else the
    /// processor.
    pub devices: Vec<DeviceSetting>,
    /// [`crate::gpu::Adapter::id`]s that are never used.
    pub excluded_adapters: Vec<String>,
    /// GPU memory that is left to other programs.
    pub vram_reserve_bytes: u64,
    /// How many jobs may run at once, for each model.
    pub jobs_at_once: u32,
    /// Paths of the model files that answer jobs.
    pub models: Vec<String>,
    /// When the node leaves the machine to its owner.
    pub rules: Rules,
    /// What electricity costs here, for what the work costs.
    pub electricity: Electricity,
    /// What all downloads may take of the line together; none for no limit.
    pub download_bytes_per_second: Option<u64>,
    /// What models and unfinished downloads may take of the disk; none for all that there is.
    pub models_quota_bytes: Option<u64>,
    /// The program begins in the background when the person logs in.
    pub start_with_system: bool,
    /// The same window in a browser on this machine.
    pub web_control: bool,
    /// As the owner of the account sees it among others; none for the machine's own name.
    pub machine_name: Option<String>,
    /// The account that this machine belongs to may pause and resume it from afar.
    pub takes_commands: bool,
    /// The desktop program tells when something fails, needs the person, or a milestone is reached.
    pub notifications: bool,
    /// `en`, `de`; none follows the system.
    pub language: Option<String>,
    /// How the window looks.
    pub theme: Theme,
    /// The desktop program asks once a day whether there is a newer version, but not over a metered
    /// connection.
    pub look_for_updates: bool,
    /// The person has been told that closing the window does not end the program.
    pub closing_explained: bool,
}

/// One of the devices that models are computed on. A change ends the engines; jobs in progress go
/// back to the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "device", rename_all = "snake_case")]
pub enum DeviceSetting {
    /// The processor.
    Cpu,
    /// One GPU. If it is gone, nothing else takes its place.
    Adapter {
        /// [`crate::gpu::Adapter::id`].
        id: String,
    },
    /// What a text names, software adapters included. Only the command line sets it.
    Named {
        /// The place on the PCI bus, the number in the list of `infera check`, or part of the name
        /// or the API, in any case.
        name: String,
    },
}

impl DeviceSetting {
    /// From the command line's words: `cpu`, or what names a GPU. None for `auto`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => None,
            "cpu" => Some(Self::Cpu),
            name => Some(Self::Named {
                name: name.to_owned(),
            }),
        }
    }
}

/// The window's colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// As the system is, and as it changes.
    #[default]
    System,
    /// Dark on light, whatever the system is.
    Light,
    /// Light on dark, whatever the system is.
    Dark,
}

/// Some settings with their new values, so that two windows that change different ones at the same
/// time lose neither. A part of one is named by its path: `rules.away.minutes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SettingsChange(pub Map<String, Value>);

impl SettingsChange {
    /// An unknown name or a value of another type is refused.
    pub fn apply(self, settings: &Settings) -> Result<Settings, serde_json::Error> {
        let mut fields = Value::Object(settings.fields());
        for (name, value) in self.0 {
            let field = name
                .split('.')
                .try_fold(&mut fields, |field, part| field.get_mut(part));
            match field {
                Some(field) => *field = value,
                None => return Err(serde::de::Error::custom(format!("no setting `{name}`"))),
            }
        }
        serde_json::from_value(fields)
    }
}

impl TS for SettingsChange {
    type WithoutGenerics = Self;
    type OptionInnerType = Self;

    fn name(config: &ts_rs::Config) -> String {
        format!("Partial<{}>", Settings::name(config))
    }

    fn inline(config: &ts_rs::Config) -> String {
        Self::name(config)
    }
}

impl Settings {
    /// Each setting by its name.
    pub fn fields(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        }
    }

    pub(crate) fn library_limits(&self) -> Limits {
        Limits {
            bytes_per_second: self.download_bytes_per_second,
            quota_bytes: self.models_quota_bytes,
        }
    }

    /// What computes in the engine's words: at least one.
    pub(crate) fn device_choices(&self) -> Vec<DeviceChoice> {
        gpu::device_choices(&self.devices, &self.excluded_adapters)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            balancer: None,
            networks: Vec::new(),
            devices: Vec::new(),
            excluded_adapters: Vec::new(),
            vram_reserve_bytes: 1 << 29,
            jobs_at_once: 4,
            models: Vec::new(),
            rules: Rules::default(),
            electricity: Electricity::default(),
            download_bytes_per_second: None,
            models_quota_bytes: None,
            start_with_system: false,
            web_control: false,
            machine_name: None,
            takes_commands: false,
            notifications: true,
            language: None,
            theme: Theme::System,
            look_for_updates: false,
            closing_explained: false,
        }
    }
}

/// Why the file with the settings is of no use. The program does not start over it: it would lose
/// the person's choices.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is there, and the system does not give it.
    #[error("the settings in {} cannot be read: {fault}. Make the file readable, or delete it to begin anew", path.display())]
    Unreadable {
        /// The settings' file.
        path: PathBuf,
        /// What the system says.
        fault: io::Error,
    },
    /// The file is not JSON, or a value has another type.
    #[error("the settings in {} are damaged: {fault}. Mend the file, or delete it to begin anew", path.display())]
    Damaged {
        /// The settings' file.
        path: PathBuf,
        /// What does not fit, and where.
        fault: serde_json::Error,
    },
    /// The file has a version that this program does not know. Carries its path.
    #[error("the settings in {} were written by a newer version of Infera Node. Install that version, or delete the file to begin anew", .0.display())]
    Newer(PathBuf),
    /// The changed settings are not on disk, and not in force.
    #[error("the settings cannot be kept in {}: {fault}. Free some space, or make the folder writable", path.display())]
    Unwritable {
        /// The settings' file.
        path: PathBuf,
        /// What the system says.
        fault: io::Error,
    },
}

/// What this version writes. A change that old files do not survive raises it and adds a step to
/// [`migrate`].
const VERSION: u64 = 5;

impl Preferences {
    /// What the node is to know of its owner. `host` is the machine's own name.
    pub(crate) fn belonging(&self, host: &str) -> Belonging {
        Belonging {
            account: self.accounts.in_network(self.settings.balancer.as_deref()),
            takes_commands: self.settings.takes_commands,
            name: (self.settings.machine_name.as_deref())
                .unwrap_or(host)
                .to_owned(),
        }
    }

    /// From a file; the defaults if there is none.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(fault) => {
                let path = path.to_owned();
                return Err(SettingsError::Unreadable { path, fault });
            }
        };
        let damaged = |fault| SettingsError::Damaged {
            path: path.to_owned(),
            fault,
        };
        let mut value: Value = serde_json::from_slice(&text).map_err(damaged)?;
        let version = value.get("version").and_then(Value::as_u64).unwrap_or(1);
        if version > VERSION {
            return Err(SettingsError::Newer(path.to_owned()));
        }
        migrate(&mut value, version);
        serde_json::from_value(value).map_err(damaged)
    }

    /// To a file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), SettingsError> {
        let failed = |fault| SettingsError::Unwritable {
            path: path.to_owned(),
            fault,
        };
        let mut value = serde_json::to_value(self).map_err(|fault| failed(fault.into()))?;
        value["version"] = VERSION.into();
        let text = serde_json::to_vec_pretty(&value).map_err(|fault| failed(fault.into()))?;
        write_private(path, &text, true).map_err(failed)
    }
}

/// Brings the content of an older file up to date, one version after the other. Forward only, and
/// without the live types, which go on changing.
fn migrate(value: &mut Value, from: u64) {
    for version in from..VERSION {
        tracing::info!(version, "the settings are brought up to date");
        match version {
            2 => several_devices(value),
            3 => several_networks(value),
            _ => {}
        }
        value["version"] = (version + 1).into();
    }
}

/// Version 2 had one device, and a word for the best one.
fn several_devices(value: &mut Value) {
    let Some(settings) = value.get_mut("settings").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(device) = settings.remove("device") else {
        return;
    };
    let is_automatic = device.get("device").and_then(Value::as_str) == Some("auto");
    let devices = if is_automatic {
        Vec::new()
    } else {
        vec![device]
    };
    settings.insert("devices".to_owned(), devices.into());
}

/// Version 3 had one network, by its address alone.
fn several_networks(value: &mut Value) {
    let Some(settings) = value.get_mut("settings").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(address) = settings.get("balancer").and_then(Value::as_str) else {
        return;
    };
    let name = address.split_once("://").map_or(address, |(_, host)| host);
    let networks = serde_json::json!([{
        "address": address,
        "name": name,
        "fingerprint": null,
        "standing": { "trusted": false, "reference": false },
        "joined_ms": 0,
    }]);
    settings.insert("networks".to_owned(), networks);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::governor::gpu_rules::GpuRules;

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        if !content.is_empty() {
            fs::write(&path, content).unwrap();
        }
        (folder, path)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (_folder, path) = file("");
        assert_eq!(Preferences::read(&path).unwrap(), Preferences::default());
        let mut preferences = Preferences::default();
        preferences.setup.agreed = true;
        preferences.settings.devices = vec![
            DeviceSetting::Adapter {
                id: "0000:01:00.0".to_owned(),
            },
            DeviceSetting::Cpu,
        ];
        preferences.settings.models = vec!["/models/a.gguf".to_owned()];
        preferences.write(&path).unwrap();
        assert_eq!(Preferences::read(&path).unwrap(), preferences);
    }

    #[test]
    fn what_is_absent_has_its_default_and_nothing_is_agreed_by_default() {
        let (_folder, path) = file(r#"{"version":1,"settings":{"jobs_at_once":2}}"#);
        let preferences = Preferences::read(&path).unwrap();
        assert_eq!(preferences.settings.jobs_at_once, 2);
        assert!(preferences.settings.notifications);
        assert!(!preferences.setup.agreed);
    }

    /// What version 1 wrote. Files like it are on people's machines.
    const VERSION_1: &str = r#"{
  "settings": {
    "balancer": "https://net.example",
    "closing_explained": true,
    "device": { "device": "adapter", "id": "0000:01:00.0" },
    "download_bytes_per_second": 1000000,
    "excluded_adapters": ["0000:00:02.0"],
    "jobs_at_once": 2,
    "language": "de",
    "look_for_updates": true,
    "models": ["/models/a.gguf"],
    "models_quota_bytes": 50000000000,
    "notifications": false,
    "start_with_system": true,
    "theme": "dark",
    "vram_reserve_bytes": 1073741824,
    "web_control": true
  },
  "setup": { "agreed": true, "finished": true },
  "version": 1
}"#;

    /// What version 2 adds. Files like it are on people's machines, too.
    const RULES: &str = r#"{
  "away": { "on": true, "minutes": 5 },
  "battery": false,
  "full_screen": false,
  "games": true,
  "keep_awake": true,
  "memory": { "on": false, "bytes": 2147483648 },
  "programs": ["blender"],
  "schedule": {
    "on": true,
    "hours": [
      { "days": [true, true, true, true, true, false, false], "from": 1320, "to": 420 }
    ]
  }
}"#;

    fn version_2() -> Value {
        let mut value: Value = serde_json::from_str(VERSION_1).unwrap();
        value["version"] = 2.into();
        value["settings"]["rules"] = serde_json::from_str(RULES).unwrap();
        value
    }

    /// What version 3 adds to the rules.
    const GPU_RULES: &str = r#"{
  "duty_percent": 60,
  "heat": { "on": false, "celsius": 75 },
  "load": { "on": false, "percent": 45, "seconds": 20 },
  "memory": { "on": false }
}"#;
    /// What version 3 adds, too.
    const ELECTRICITY: &str = r#"{ "currency": "CHF", "price_per_kwh": "0.30" }"#;

    fn version_3() -> Value {
        let mut value = version_2();
        value["version"] = 3.into();
        value["settings"]["rules"]["battery_percent"] = 20.into();
        value["settings"]["rules"]["gpu"] = serde_json::from_str(GPU_RULES).unwrap();
        value["settings"]["rules"]["metered_downloads"] = false.into();
        value["settings"]["electricity"] = serde_json::from_str(ELECTRICITY).unwrap();
        let settings = value["settings"].as_object_mut().unwrap();
        let device = settings.remove("device").unwrap();
        settings.insert("devices".to_owned(), vec![device].into());
        value
    }

    /// What version 4 adds, every field of it. A change that makes the test below fail raises
    /// [`VERSION`].
    const NETWORKS: &str = r#"[
  {
    "address": "https://net.example",
    "name": "net.example",
    "fingerprint": null,
    "standing": { "trusted": false, "reference": false },
    "joined_ms": 0
  },
  {
    "address": "https://192.168.1.5:8431",
    "name": "Lab",
    "fingerprint": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
    "standing": { "trusted": true, "reference": true },
    "joined_ms": 1780000000000
  }
]"#;

    fn version_4() -> Value {
        let mut value = version_3();
        value["version"] = 4.into();
        value["settings"]["networks"] = serde_json::from_str(NETWORKS).unwrap();
        value
    }

    /// What version 5 adds.
    const ACCOUNTS: &str = r#"{
  "account": {
    "id": "0202020202020202020202020202020202020202020202020202020202020202",
    "holds_key": false,
    "networks": ["https://net.example"]
  },
  "code": "0GTG-R1GG-7GR3-4F1Z",
  "leaving": ["https://192.168.1.5:8431"]
}"#;

    fn version_5() -> Value {
        let mut value = version_4();
        value["version"] = 5.into();
        value["accounts"] = serde_json::from_str(ACCOUNTS).unwrap();
        value["settings"]["machine_name"] = "attic".into();
        value["settings"]["takes_commands"] = true.into();
        value
    }

    #[test]
    fn a_file_of_version_1_is_read() {
        let (_folder, path) = file(VERSION_1);
        let preferences = Preferences::read(&path).unwrap();
        assert_eq!(preferences.settings.jobs_at_once, 2);
        assert_eq!(preferences.settings.theme, Theme::Dark);
        assert_eq!(preferences.settings.rules, Rules::default());
        let of_version_1 = DeviceSetting::Adapter {
            id: "0000:01:00.0".to_owned(),
        };
        assert_eq!(preferences.settings.devices, [of_version_1]);
    }

    #[test]
    fn a_file_of_version_2_is_read_and_what_came_later_has_its_default() {
        let (_folder, path) = file(&version_2().to_string());
        let settings = Preferences::read(&path).unwrap().settings;
        assert_eq!(settings.rules.programs, ["blender"]);
        assert_eq!(settings.rules.gpu, GpuRules::default());
        assert_eq!(settings.rules.battery_percent, None);
        assert_eq!(settings.electricity, Electricity::default());
        assert!(settings.rules.metered_downloads);
    }

    #[test]
    fn the_network_of_a_file_of_version_3_is_in_the_list_and_active() {
        let (_folder, path) = file(&version_3().to_string());
        let settings = Preferences::read(&path).unwrap().settings;
        let network = NetworkSetting::at("https://net.example", 0);
        assert_eq!(settings.networks, [network]);
        assert_eq!(settings.active_network(), settings.networks.first());
        let mut none = version_3();
        none["settings"]["balancer"] = Value::Null;
        let (_folder, path) = file(&none.to_string());
        assert_eq!(Preferences::read(&path).unwrap().settings.networks, []);
    }

    #[test]
    fn a_file_of_version_4_belongs_to_no_account_and_takes_no_commands() {
        let (_folder, path) = file(&version_4().to_string());
        let preferences = Preferences::read(&path).unwrap();
        assert_eq!(preferences.accounts, Accounts::default());
        let belonging = Belonging {
            name: "attic".to_owned(),
            ..Belonging::default()
        };
        assert_eq!(preferences.belonging("attic"), belonging);
    }

    #[test]
    fn a_file_of_version_5_is_read_and_written_as_it_is() {
        let (_folder, path) = file(&version_5().to_string());
        Preferences::read(&path).unwrap().write(&path).unwrap();
        let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(written, version_5());
    }

    #[test]
    fn one_device_becomes_a_list_and_automatic_an_empty_one() {
        let mut automatic = version_2();
        automatic["settings"]["device"] = serde_json::json!({ "device": "auto" });
        let (_folder, path) = file(&automatic.to_string());
        assert_eq!(Preferences::read(&path).unwrap().settings.devices, []);
    }

    #[test]
    fn a_change_touches_what_it_names() {
        let before = Settings {
            jobs_at_once: 7,
            language: Some("de".to_owned()),
            ..Settings::default()
        };
        let change = |text: &str| serde_json::from_str::<SettingsChange>(text).unwrap();
        let after = change(r#"{"theme":"dark","language":null}"#)
            .apply(&before)
            .unwrap();
        let expected = Settings {
            theme: Theme::Dark,
            language: None,
            ..before.clone()
        };
        assert_eq!(after, expected);
        let after = change(r#"{"rules.away.minutes":3}"#)
            .apply(&before)
            .unwrap();
        let mut expected = before.clone();
        expected.rules.away.minutes = 3;
        assert_eq!(after, expected);
        // Where there was none before.
        let after = change(r#"{"rules.gpu.heat.celsius":75}"#)
            .apply(&before)
            .unwrap();
        assert_eq!(after.rules.gpu.heat.celsius, Some(75));
        // A command line writes a number, the window what was typed.
        for price in ["0.32", "\"0.32\"", "\"0,32\""] {
            let after = change(&format!(r#"{{"electricity.price_per_kwh":{price}}}"#))
                .apply(&before)
                .unwrap();
            assert_eq!(after.fields()["electricity"]["price_per_kwh"], "0.32");
        }
        for bad in [
            r#"{"rules.away":1}"#,
            r#"{"rules.away.minutes.more":1}"#,
            r#"{"rules.gpu.heat.celsius":"hot"}"#,
            r#"{"rules.gpu.load.percent":-1}"#,
            r#"{"rules.":1}"#,
            r#"{"colour":1}"#,
            r#"{"jobs_at_once":"many"}"#,
            r#"{"electricity.price_per_kwh":"much"}"#,
            r#"{"electricity.price_per_kwh":-0.1}"#,
            r#"{"electricity.currency":"euro"}"#,
        ] {
            assert!(change(bad).apply(&before).is_err(), "{bad}");
        }
    }

    #[test]
    fn faults_as_a_table() {
        for (content, words) in [
            ("{", "are damaged"),
            (r#"{"settings":{"jobs_at_once":"many"}}"#, "are damaged"),
            (
                r#"{"settings":{"electricity":{"price_per_kwh":"free"}}}"#,
                "are damaged",
            ),
            (
                r#"{"version":4,"settings":{"networks":[{"address":"a"}]}}"#,
                "are damaged",
            ),
            (r#"{"version":6}"#, "newer version"),
        ] {
            let (_folder, path) = file(content);
            let error = Preferences::read(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let (folder, _) = file("");
        let error = Preferences::read(folder.path()).unwrap_err();
        assert!(matches!(error, SettingsError::Unreadable { .. }), "{error}");
        let (_other, file) = file("{}");
        let error = Preferences::default()
            .write(&file.join("settings.json"))
            .unwrap_err();
        assert!(matches!(error, SettingsError::Unwritable { .. }), "{error}");
    }
}
