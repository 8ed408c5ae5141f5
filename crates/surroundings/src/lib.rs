//! What goes on around the program: its owner, their other programs, power, network, sleep.
//!
//! Observers report; what follows from it is decided elsewhere. What the system does not tell is
//! none, never a guess.

#![deny(missing_docs)]

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use ts_rs::TS;

/// Everything that is observed, at one moment. A field is none where it is not reported here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Surroundings {
    /// Whether somebody uses keyboard, mouse or a gamepad.
    pub input: Option<Input>,
    /// Where the person is, as the login service knows it.
    pub session: Option<Session>,
    /// What fills a screen and has the focus.
    pub full_screen: Option<Seen>,
    /// Programs out of a game library, and those that asked the system for its game mode.
    pub games: Option<Seen>,
    /// Which of the [`Wanted::programs`] run.
    pub programs: Option<Seen>,
    /// What feeds the machine.
    pub power: Option<Power>,
    /// Whether there is a network, and what it costs.
    pub network: Option<Network>,
    /// Main memory that programs can still have, in bytes. In steps, so that it does not change with
    /// each page.
    pub available_memory_bytes: Option<u64>,
    /// The machine is about to sleep: it waits a moment for what has to be done before.
    pub going_to_sleep: Option<bool>,
}

/// Keyboard, mouse and gamepads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// Within the last [`QUIET_AFTER_MS`].
    Recent,
    /// None for longer.
    Quiet {
        /// The last one: unix time in milliseconds.
        since_ms: i64,
    },
}

/// So long after the last input the observers begin to call it quiet, in milliseconds.
pub const QUIET_AFTER_MS: i64 = 30_000;

/// Where the person is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Session {
    /// At the machine, or nobody can tell.
    Open,
    /// The screen is locked.
    Locked,
    /// Somebody works on it from afar.
    Remote,
}

/// What was looked for and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Seen {
    /// The names, as a person knows them, each once, in order of the alphabet. Empty if there is
    /// nothing.
    pub names: Vec<String>,
}

/// What feeds the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Power {
    /// Nothing does but the battery.
    pub on_battery: bool,
    /// What is left in the battery; none without one.
    pub battery_percent: Option<u8>,
}

/// Whether there is a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The system knows of no way out.
    Offline,
    /// It costs by the byte.
    Metered,
    /// It does not, or nobody has said so.
    Unmetered,
}

/// What is looked for because the owner named it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Names of programs, without a path, and without `.exe`; in any case.
    pub programs: Vec<String>,
    /// The machine is kept from falling asleep by itself.
    pub keep_awake: bool,
}

/// The observers. They end when this is dropped.
#[derive(Debug)]
pub struct Observers {
    /// What they see. Changes when something does.
    pub seen: watch::Receiver<Surroundings>,
    /// What they look for.
    pub wanted: watch::Sender<Wanted>,
    /// Told when all is done that was to be done before the machine sleeps: it need not wait any
    /// longer.
    pub ready_to_sleep: mpsc::UnboundedSender<()>,
}

impl Observers {
    /// Nothing is observed, and so nothing is reported.
    pub fn none() -> Self {
        Self {
            seen: watch::channel(Surroundings::default()).1,
            wanted: watch::channel(Wanted::default()).0,
            ready_to_sleep: mpsc::unbounded_channel().0,
        }
    }
}
