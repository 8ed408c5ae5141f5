//! What macOS tells without being asked for a permission: input, power, and nothing else yet. The
//! rest stays unknown: session, full screen, games, programs, network, memory, sleep.

use std::ffi::c_double;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};

use crate::board::Board;
use crate::{Input, Power, QUIET_AFTER_MS, RunningProgram, Wanted};

/// Nothing to say: all is asked of the system.
#[derive(Debug, Clone)]
pub struct Places;

impl Places {
    /// The only ones.
    pub fn of_this_machine() -> Self {
        Self
    }
}

pub(super) fn observe(_: Places, board: &Board, _: &watch::Receiver<Wanted>, _: &Arc<Notify>) {
    tokio::spawn(follow(board.clone()));
}

pub(super) fn running_programs() -> Option<Vec<RunningProgram>> {
    None
}

async fn follow(board: Board) {
    let mut tick = tokio::time::interval(Duration::from_secs(2));
    loop {
        tick.tick().await;
        let (input, power) = (input(), power());
        board.set(|shown| {
            // The time is measured each time: it may differ a little for the same quiet.
            let both_quiet = matches!(
                (shown.input, input),
                (Some(Input::Quiet { since_ms: one }), Input::Quiet { since_ms: other })
                    if one.abs_diff(other) < 1000
            );
            if !both_quiet {
                shown.input = Some(input);
            }
            shown.power = Some(power);
        });
    }
}

fn input() -> Input {
    /// `kCGEventSourceStateHIDSystemState`: what comes from devices, not from programs.
    const DEVICES: i32 = 1;
    /// `kCGAnyInputEventType`.
    const ANY: u32 = u32::MAX;
    // SAFETY: it takes any of its numbers.
    let seconds = unsafe { CGEventSourceSecondsSinceLastEventType(DEVICES, ANY) };
    let quiet_ms = (seconds * 1000.0) as i64;
    if quiet_ms < QUIET_AFTER_MS {
        return Input::Recent;
    }
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let since_ms = now.as_millis() as i64 - quiet_ms;
    Input::Quiet { since_ms }
}

/// What is left in a battery stays unknown: it would take the system's dictionaries to know.
fn power() -> Power {
    /// `kIOPSTimeRemainingUnlimited`: something else than the battery feeds it.
    const UNLIMITED: c_double = -2.0;
    // SAFETY: it takes nothing, and gives a number.
    let seconds = unsafe { IOPSGetTimeRemainingEstimate() };
    Power {
        on_battery: (seconds - UNLIMITED).abs() > 0.5,
        battery_percent: None,
    }
}

#[link(name = "CoreGraphics", kind = "framework")]
unsafe extern "C" {
    fn CGEventSourceSecondsSinceLastEventType(state: i32, event: u32) -> c_double;
}

#[link(name = "IOKit", kind = "framework")]
unsafe extern "C" {
    fn IOPSGetTimeRemainingEstimate() -> c_double;
}
