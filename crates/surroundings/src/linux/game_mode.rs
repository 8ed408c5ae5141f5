//! Games that asked `GameMode` to make the system fast for them.

use std::path::Path;

use futures_util::StreamExt as _;
use zbus::Connection;
use zbus::zvariant::OwnedObjectPath;

use super::bus::{Service, gone, object, while_there};
use super::processes::program_of;
use crate::Seen;
use crate::board::Board;

/// Games wake it; without one it need not run.
const GAME_MODE: Service = Service {
    name: "com.feralinteractive.GameMode",
    wake: false,
};

pub(super) async fn observe(bus: &Connection, processes: &Path, board: &Board) {
    let clear = || board.set_part(|parts| parts.game_mode = None);
    while_there(bus, GAME_MODE, clear, || follow(bus, processes, board)).await;
}

async fn follow(bus: &Connection, processes: &Path, board: &Board) -> zbus::Result<()> {
    let path = "/com/feralinteractive/GameMode";
    let service = object(bus, GAME_MODE.name, path, GAME_MODE.name).await?;
    let mut begun = service.receive_signal("GameRegistered").await?;
    let mut ended = service.receive_signal("GameUnregistered").await?;
    loop {
        let games: Vec<(i32, OwnedObjectPath)> = service.call("ListGames", &()).await?;
        let names = games.iter().map(|(pid, _)| name_of(processes, *pid));
        let seen = Some(Seen::of(names));
        board.set_part(|parts| parts.game_mode = seen);
        let signal = tokio::select! {
            signal = begun.next() => signal,
            signal = ended.next() => signal,
        };
        signal.ok_or_else(gone)?;
    }
}

/// The same as the library's for the same game.
fn name_of(processes: &Path, pid: i32) -> String {
    let program = program_of(processes, pid as u32, true).unwrap_or_default();
    let name = program.game().or_else(|| program.name());
    name.unwrap_or_else(|| "GameMode".to_owned())
}
