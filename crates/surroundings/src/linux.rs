//! What Linux tells: the kernel by its files, the desktop by its display server, and the system's
//! services on their buses. Every observer is a task that waits to be told, where it can be.

mod back_off;
mod bus;
mod desktop_awake;
mod full_screen;
mod full_screen_wayland;
mod game_mode;
mod gamepads;
mod input_mutter;
mod input_wayland;
mod input_x11;
mod login;
mod memory;
mod network;
mod power;
mod processes;
mod wayland;
mod x11;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{env, io};

use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};

use crate::board::Board;
use crate::{QUIET_AFTER_MS, Wanted};

pub(super) use processes::running_programs;

/// Where the observers look. None is not looked at.
#[derive(Debug, Clone)]
pub struct Places {
    /// The address of the bus of the person's own services.
    pub session_bus: Option<String>,
    /// The address of the bus of the system's services.
    pub system_bus: Option<String>,
    /// An X server on this machine, as `DISPLAY` names it.
    pub x11: Option<String>,
    /// The whole path of a Wayland compositor's socket.
    pub wayland: Option<PathBuf>,
    /// The folder with gamepads.
    pub input_devices: PathBuf,
    /// The folder with batteries and supplies.
    pub power_supplies: PathBuf,
    /// The kernel's folder of processes.
    pub processes: PathBuf,
    /// So long after the last input it is called quiet.
    pub quiet_after: Duration,
    /// So long a missing bus or display is left alone before the first new try.
    pub first_pause: Duration,
    /// So long the machine is kept from sleeping for what has to be done before.
    pub sleep_delay: Duration,
}

impl Places {
    /// Those that the environment names, and the usual ones.
    pub fn of_this_machine() -> Self {
        let address = |of: zbus::Result<zbus::Address>| of.ok().map(|address| address.to_string());
        let text = |name| env::var(name).ok().filter(|text| !text.is_empty());
        let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        Self {
            session_bus: address(zbus::Address::session()),
            system_bus: address(zbus::Address::system()),
            x11: text("DISPLAY").filter(|display| x11::is_here(display)),
            wayland: text("WAYLAND_DISPLAY")
                // A whole path stays as it is.
                .and_then(|name| Some(runtime?.join(name))),
            input_devices: "/dev/input".into(),
            power_supplies: "/sys/class/power_supply".into(),
            processes: "/proc".into(),
            quiet_after: Duration::from_millis(QUIET_AFTER_MS as u64),
            first_pause: Duration::from_secs(10),
            // Less than the five seconds after which the login service waits no longer.
            sleep_delay: Duration::from_secs(4),
        }
    }
}

/// Starts a task for each thing. They end with the runtime.
pub(super) fn observe(
    places: Places,
    board: &Board,
    wanted: &watch::Receiver<Wanted>,
    ready_to_sleep: &Arc<Notify>,
) {
    let Places {
        session_bus,
        system_bus,
        x11,
        wayland,
        input_devices,
        power_supplies,
        processes,
        quiet_after,
        first_pause,
        sleep_delay,
    } = places;
    let (board, wanted, ready) = (board.clone(), wanted.clone(), ready_to_sleep.clone());

    tokio::spawn(memory::observe(processes.join("meminfo"), board.clone()));
    tokio::spawn(power::observe_supplies(power_supplies, board.clone()));
    tokio::spawn(gamepads::observe(input_devices, quiet_after, board.clone()));
    tokio::spawn(processes::observe(
        processes.clone(),
        board.clone(),
        wanted.clone(),
    ));
    // The X server of a Wayland desktop is told only of input to windows of X11.
    if let Some(display) = x11.clone().filter(|_| wayland.is_none()) {
        let board = board.clone();
        tokio::spawn(input_x11::observe(display, quiet_after, first_pause, board));
    }
    if let Some(display) = x11 {
        tokio::spawn(full_screen::observe(display, first_pause, board.clone()));
    }
    if let Some(socket) = wayland {
        board.set_part(|parts| parts.is_wayland = true);
        let windows = full_screen_wayland::observe(socket.clone(), first_pause, board.clone());
        tokio::spawn(windows);
        let board = board.clone();
        tokio::spawn(input_wayland::observe(
            socket,
            quiet_after,
            first_pause,
            board,
        ));
    }
    if let Some(address) = session_bus {
        let (board, wanted) = (board.clone(), wanted.clone());
        tokio::spawn(bus::stay_connected(address, first_pause, move |bus| {
            let (board, processes, wanted) = (board.clone(), processes.clone(), wanted.clone());
            async move {
                tokio::join!(
                    game_mode::observe(&bus, &processes, &board),
                    input_mutter::observe(&bus, quiet_after, &board),
                    desktop_awake::observe(&bus, wanted),
                );
            }
        }));
    }
    if let Some(address) = system_bus {
        tokio::spawn(bus::stay_connected(address, first_pause, move |bus| {
            let (board, wanted, ready) = (board.clone(), wanted.clone(), ready.clone());
            async move {
                tokio::join!(
                    power::observe_service(&bus, &board),
                    network::observe(&bus, &board),
                    login::observe(&bus, &board, wanted, &ready, sleep_delay),
                );
            }
        }));
    }
}

/// Tells when it can be read.
fn readiness_of(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it stays the same, and open, while it is owned.
    unsafe { Ok(AsyncFd::register(descriptor)?) }
}

/// Unix time in milliseconds, so long ago.
fn time_ago(ago: Duration) -> i64 {
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    now.saturating_sub(ago).as_millis() as i64
}
