//! What goes on around the program: its owner, their other programs, power, network, sleep.
//!
//! Observers report; what follows from it is decided elsewhere. What the system does not tell is
//! none, never a guess.

#![deny(missing_docs)]

mod board;
#[cfg(any(target_os = "linux", windows))]
mod game_library;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(any(target_os = "linux", windows))]
mod memory_steps;
#[cfg(any(target_os = "linux", windows))]
mod program;
#[cfg(any(target_os = "linux", windows))]
mod running;
#[cfg(windows)]
mod windows;

#[cfg(windows)]
use self::windows as system;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};
use ts_rs::TS;

use board::Board;
#[doc(hidden)]
pub use system::Places;

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

#[cfg(any(target_os = "linux", windows))]
impl Input {
    /// What came last, of what two observers see.
    fn latest(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(Self::Quiet { since_ms: one }), Some(Self::Quiet { since_ms: other })) => {
                let since_ms = one.max(other);
                Some(Self::Quiet { since_ms })
            }
            (Some(Self::Recent), _) | (_, Some(Self::Recent)) => Some(Self::Recent),
            (one, other) => one.or(other),
        }
    }
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
    /// Something waits to be stopped: what must be looked for again and again is looked for often.
    pub hurry: bool,
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

    /// Begins to observe. What has not been seen yet is none, and stays so where nothing tells.
    ///
    /// Observers have a thread of their own: what they ask of the system may make them wait, which
    /// must not hold up the caller's tasks.
    pub fn start(wanted: Wanted) -> Self {
        Self::start_at(Places::of_this_machine(), wanted)
    }

    /// As [`Observers::start`], in places that a test has made.
    #[doc(hidden)]
    pub fn start_at(places: Places, wanted: Wanted) -> Self {
        let (board, seen) = Board::new();
        let (wanted, wanted_now) = watch::channel(wanted);
        let (ready_to_sleep, ready) = mpsc::unbounded_channel();
        let observe = move || run(places, &board, &wanted_now, ready);
        let thread = thread::Builder::new().name("surroundings".to_owned());
        if let Err(error) = thread.spawn(observe) {
            tracing::warn!(%error, "nothing is known of what goes on around the program");
        }
        Self {
            seen,
            wanted,
            ready_to_sleep,
        }
    }
}

/// A program that this user runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct RunningProgram {
    /// As [`Wanted::programs`] would hold it.
    pub name: String,
    /// Whether it has a graphics device open; none where the system does not tell.
    pub uses_gpu: Option<bool>,
    /// What all its processes have of the main memory to themselves; none where the system does not
    /// tell.
    pub memory_bytes: Option<u64>,
}

/// Most that [`running_programs`] gives.
pub const MOST_RUNNING: usize = 12;

/// What the person runs now and may want to name: those that use a GPU or show a window, then those
/// that take much memory. Without shells, the system's services, games, which are known without a
/// name, and this program. None where the system does not tell.
pub fn running_programs() -> Option<Vec<RunningProgram>> {
    let mut programs = system::running_programs()?;
    programs.truncate(MOST_RUNNING);
    Some(programs)
}

/// What is seen of the network. Before anything was, waits for it, but not for longer than that:
/// where nothing tells of the network it stays none.
pub async fn network(
    seen: &mut watch::Receiver<Surroundings>,
    patience: Duration,
) -> Option<Network> {
    let told = seen.wait_for(|seen| seen.network.is_some());
    let told = tokio::time::timeout(patience, told).await;
    told.ok()?.ok()?.network
}

/// Ends, and all observers with it, when the other side of `ready` is dropped.
fn run(
    places: Places,
    board: &Board,
    wanted: &watch::Receiver<Wanted>,
    mut ready: mpsc::UnboundedReceiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime: tokio::runtime::Runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return log_no_runtime(&error),
    };
    runtime.block_on(async {
        let ready_to_sleep = Arc::new(Notify::new());
        system::observe(places, board, wanted, &ready_to_sleep);
        while ready.recv().await.is_some() {
            ready_to_sleep.notify_waiters();
        }
    });
}

fn log_no_runtime(error: &io::Error) {
    tracing::warn!(%error, "nothing is known of what goes on around the program");
}
