//! Keyboard and mouse, as an X server counts the time since their last use.

use std::convert::Infallible;
use std::time::Duration;

use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::sync::{
    Alarm, ConnectionExt as _, Counter, CreateAlarmAux, Int64, TESTTYPE, Trigger, VALUETYPE,
};

use super::time_ago;
use super::x11::{self, Display, Lost};
use crate::Input;
use crate::board::{Board, Desktop};

pub(super) async fn observe(name: String, quiet_after: Duration, pause: Duration, board: Board) {
    let clear = || board.set_desktop_input(Desktop::X11, None);
    x11::stay_connected(name, pause, clear, |display| {
        follow(display, quiet_after, &board)
    })
    .await;
}

async fn follow(
    display: Display,
    quiet_after: Duration,
    board: &Board,
) -> Result<Infallible, Lost> {
    let server = &display.server;
    server.sync_initialize(3, 1)?.reply()?;
    let counters = server.sync_list_system_counters()?.reply()?.counters;
    let idle = counters.iter().find(|counter| counter.name == b"IDLETIME");
    let idle = idle.ok_or_else(|| Lost::lacks("IDLETIME"))?.counter;
    let limit = quiet_after.as_millis() as i64;
    loop {
        let value = server.sync_query_counter(idle)?.reply()?.counter_value;
        let value = joined(value);
        let is_quiet = value >= limit;
        let input = if is_quiet {
            let since_ms = time_ago(Duration::from_millis(value as u64));
            Input::Quiet { since_ms }
        } else {
            Input::Recent
        };
        board.set_desktop_input(Desktop::X11, Some(input));
        // An alarm is over when it has rung. Comparisons, unlike transitions, also ring for what
        // happened since the counter was read.
        let alarm = if is_quiet {
            alarm(&display, idle, TESTTYPE::NEGATIVE_COMPARISON, limit - 1)?
        } else {
            alarm(&display, idle, TESTTYPE::POSITIVE_COMPARISON, limit)?
        };
        loop {
            if let Event::SyncAlarmNotify(rung) = display.event().await?
                && rung.alarm == alarm
            {
                break;
            }
        }
        server.sync_destroy_alarm(alarm)?;
    }
}

fn alarm(display: &Display, idle: Counter, test: TESTTYPE, at: i64) -> Result<Alarm, Lost> {
    let alarm = display.server.generate_id()?;
    let trigger = Trigger {
        counter: idle,
        wait_type: VALUETYPE::ABSOLUTE,
        wait_value: split(at),
        test_type: test,
    };
    let values = CreateAlarmAux::new()
        .counter(trigger.counter)
        .value_type(trigger.wait_type)
        .value(trigger.wait_value)
        .test_type(trigger.test_type)
        .delta(split(0))
        .events(1);
    display.server.sync_create_alarm(alarm, &values)?.check()?;
    Ok(alarm)
}

fn joined(value: Int64) -> i64 {
    (i64::from(value.hi) << 32) | i64::from(value.lo)
}

fn split(value: i64) -> Int64 {
    Int64 {
        hi: (value >> 32) as i32,
        lo: value as u32,
    }
}
