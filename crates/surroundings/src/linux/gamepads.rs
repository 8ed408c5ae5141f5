//! Gamepads: no desktop counts them as input.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::{readiness_of, time_ago};
use crate::Input;
use crate::board::Board;

/// One in use tells of hundreds of changes a second. One look is enough.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn observe(folder: PathBuf, quiet_after: Duration, board: Board) {
    let used = Arc::new(Notify::new());
    tokio::join!(
        follow_devices(&folder, &used),
        follow_use(&used, quiet_after, &board),
    );
}

async fn follow_use(used: &Notify, quiet_after: Duration, board: &Board) {
    loop {
        used.notified().await;
        board.set_part(|parts| parts.gamepads = Some(Input::Recent));
        let mut last = Instant::now();
        loop {
            tokio::select! {
                () = used.notified() => last = Instant::now(),
                () = sleep_until(last + quiet_after) => break,
            }
        }
        let since_ms = time_ago(last.elapsed());
        board.set_part(|parts| parts.gamepads = Some(Input::Quiet { since_ms }));
    }
}

/// Reads all that are there and come.
async fn follow_devices(folder: &Path, used: &Arc<Notify>) {
    let news = match news_of(folder) {
        Ok(news) => news,
        Err(error) => {
            tracing::debug!(%error, "gamepads are not seen");
            return;
        }
    };
    let mut open = JoinSet::new();
    let mut devices: HashMap<PathBuf, tokio::task::Id> = HashMap::new();
    loop {
        for path in gamepads_in(folder) {
            if devices.contains_key(&path) {
                continue;
            }
            // One that may not be read yet is told of again when its rights change.
            if let Ok(device) = open_device(&path) {
                let task = open.spawn(follow_device(device, used.clone()));
                devices.insert(path, task.id());
            }
        }
        tokio::select! {
            told = news.readable() => {
                let Ok(mut told) = told else { return };
                told.clear_ready();
                // What exactly it tells does not matter.
                let _ = rustix::io::read(news.get_ref(), &mut [0_u8; 4096]);
            }
            Some(ended) = open.join_next_with_id() => {
                let ended = ended.map_or_else(|error| error.id(), |(id, ())| id);
                devices.retain(|_, id| *id != ended);
                // It is about to be unplugged; if not, this keeps it from being opened without end.
                sleep(LOOK_EVERY).await;
            }
        }
    }
}

fn news_of(folder: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let news = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&news, folder, WatchFlags::CREATE | WatchFlags::ATTRIB)?;
    readiness_of(news)
}

fn gamepads_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.strip_prefix("js")?.to_owned();
        number.parse::<u32>().is_ok().then(|| entry.path())
    })
}

fn open_device(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    readiness_of(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Ends with the device.
async fn follow_device(device: AsyncFd<OwnedFd>, used: Arc<Notify>) {
    let mut state = Gamepad::default();
    loop {
        let Ok(mut readable) = device.readable().await else {
            return;
        };
        let mut events = [0; 64 * EVENT_BYTES];
        match readable.try_io(|device| Ok(rustix::io::read(device, &mut events)?)) {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(length)) => {
                if state.is_used(&events[..length]) {
                    used.notify_one();
                    sleep(LOOK_EVERY).await;
                }
            }
            // There was nothing to read.
            Err(_) => {}
        }
    }
}

/// The kernel's `js_event`: time (four bytes), value (two), type, number of the axis or button.
const EVENT_BYTES: usize = 8;

#[derive(Debug, Default)]
struct Gamepad {
    /// Where each axis was when it last counted.
    axes: HashMap<u8, i16>,
}

impl Gamepad {
    /// Whether somebody uses it.
    fn is_used(&mut self, events: &[u8]) -> bool {
        const BUTTON: u8 = 1;
        const AXIS: u8 = 2;
        /// Not somebody's doing: how it stood when it was opened.
        const START: u8 = 0x80;
        /// Of 32,767. Sticks tremble.
        const MOVED: u16 = 4096;
        let mut is_used = false;
        for event in events.as_chunks::<EVENT_BYTES>().0 {
            let [_, _, _, _, low, high, kind, number] = *event;
            let value = i16::from_le_bytes([low, high]);
            match kind {
                BUTTON => is_used = true,
                AXIS => {
                    let before = self.axes.entry(number).or_insert(value);
                    if before.abs_diff(value) > MOVED {
                        *before = value;
                        is_used = true;
                    }
                }
                _ if kind == AXIS | START => {
                    self.axes.insert(number, value);
                }
                _ => {}
            }
        }
        is_used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_person_moves_far() {
        let event = |value: i16, kind, number| {
            let [low, high] = value.to_le_bytes();
            [0, 0, 0, 0, low, high, kind, number]
        };
        let mut gamepad = Gamepad::default();
        for (value, kind, number, is_used) in [
            (0, 0x81, 0, false),
            (-32_767, 0x82, 2, false),
            (-32_500, 2, 2, false),
            (0, 2, 2, true),
            (100, 2, 2, false),
            (1, 1, 0, true),
            (0, 1, 0, true),
            // An axis that was not told of at the start.
            (200, 2, 5, false),
            (8000, 2, 5, true),
        ] {
            let event = event(value, kind, number);
            assert_eq!(gamepad.is_used(&event), is_used, "{value} {kind} {number}");
        }
        assert!(!gamepad.is_used(&[1, 2, 3]));
    }
}
