//! Keyboard and mouse, as GNOME's compositor counts the time since their last use.

use std::time::Duration;

use futures_util::StreamExt as _;
use zbus::Connection;

use super::bus::{Service, gone, object, while_there};
use super::time_ago;
use crate::Input;
use crate::board::{Board, Desktop};

const MUTTER: Service = Service {
    name: "org.gnome.Mutter.IdleMonitor",
    wake: false,
};

pub(super) async fn observe(bus: &Connection, quiet_after: Duration, board: &Board) {
    let clear = || board.set_desktop_input(Desktop::Mutter, None);
    while_there(bus, MUTTER, clear, || follow(bus, quiet_after, board)).await;
}

async fn follow(bus: &Connection, quiet_after: Duration, board: &Board) -> zbus::Result<()> {
    let path = "/org/gnome/Mutter/IdleMonitor/Core";
    let monitor = object(bus, MUTTER.name, path, MUTTER.name).await?;
    let limit = quiet_after.as_millis() as u64;
    let mut fired = monitor.receive_signal("WatchFired").await?;
    // Fires each time; what it misses before is seen by the time that is asked for after.
    let _: u32 = monitor.call("AddIdleWatch", &(limit,)).await?;
    loop {
        let mut idle: u64 = monitor.call("GetIdletime", &()).await?;
        // It fires a little early if its clock and the counter do not agree.
        let is_quiet = |idle| idle >= limit - limit / 16;
        if is_quiet(idle) {
            // Fires once. Only now: while somebody types it would fire at each key.
            let _: u32 = monitor.call("AddUserActiveWatch", &()).await?;
            idle = monitor.call("GetIdletime", &()).await?;
        }
        let input = if is_quiet(idle) {
            let since_ms = time_ago(Duration::from_millis(idle));
            Input::Quiet { since_ms }
        } else {
            Input::Recent
        };
        board.set_desktop_input(Desktop::Mutter, Some(input));
        fired.next().await.ok_or_else(gone)?;
    }
}
