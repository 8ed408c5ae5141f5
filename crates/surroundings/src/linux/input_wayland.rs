//! Keyboard and mouse, as a Wayland compositor counts the time since their last use, if it knows
//! the protocol ext-idle-notify-v1.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wayland_client::backend::WaylandError;
use wayland_client::protocol::wl_callback::WlCallback;
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::{Connection, Dispatch, Proxy as _, QueueHandle, delegate_noop};
use wayland_protocols::ext::idle_notify::v1::client::ext_idle_notification_v1::{
    self as notification, ExtIdleNotificationV1,
};
use wayland_protocols::ext::idle_notify::v1::client::ext_idle_notifier_v1::ExtIdleNotifierV1;

use super::back_off::BackOff;
use super::{readiness_of, time_ago};
use crate::Input;
use crate::board::{Board, Desktop};

pub(super) async fn observe(
    socket: PathBuf,
    quiet_after: Duration,
    first_pause: Duration,
    board: Board,
) {
    let mut pause = BackOff::new(first_pause);
    loop {
        let mut was_there = false;
        let lost = follow(&socket, quiet_after, &board, &mut was_there).await;
        board.set_desktop_input(Desktop::Wayland, None);
        if was_there {
            pause.reset();
        }
        if pause.is_first() {
            tracing::debug!(?lost, "input to a Wayland desktop is unknown");
        }
        pause.wait().await;
    }
}

async fn follow(
    socket: &Path,
    quiet_after: Duration,
    board: &Board,
    was_there: &mut bool,
) -> io::Result<()> {
    let connection =
        Connection::from_socket(UnixStream::connect(socket)?).map_err(io::Error::other)?;
    let socket = readiness_of(connection.backend().poll_fd().try_clone_to_owned()?)?;
    let mut queue = connection.new_event_queue();
    let handle = queue.handle();
    connection.display().get_registry(&handle, ());
    // Answered after the list of what the compositor has.
    connection.display().sync(&handle, ());
    let mut seats = Seats {
        quiet_after,
        notifier: None,
        by_number: HashMap::new(),
    };
    loop {
        queue
            .dispatch_pending(&mut seats)
            .map_err(io::Error::other)?;
        board.set_desktop_input(Desktop::Wayland, seats.input());
        match queue.flush() {
            Ok(()) => {}
            Err(WaylandError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        let Some(reading) = queue.prepare_read() else {
            continue;
        };
        match reading.read() {
            Ok(_) => *was_there = true,
            Err(WaylandError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.readable().await?.clear_ready();
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// Who sits at the machine: nearly always one.
struct Seats {
    quiet_after: Duration,
    notifier: Option<ExtIdleNotifierV1>,
    /// By the compositor's number.
    by_number: HashMap<u32, Seat>,
}

struct Seat {
    wayland: WlSeat,
    notification: Option<ExtIdleNotificationV1>,
    quiet_since_ms: Option<i64>,
}

impl Seats {
    fn input(&self) -> Option<Input> {
        let told = self
            .by_number
            .values()
            .filter(|seat| seat.notification.is_some());
        let times: Vec<Option<i64>> = told.map(|seat| seat.quiet_since_ms).collect();
        let last = *times.iter().max()?;
        Some(match last {
            Some(since_ms) if !times.contains(&None) => Input::Quiet { since_ms },
            _ => Input::Recent,
        })
    }

    /// Asks to be told of the seats that have come.
    fn ask(&mut self, queue: &QueueHandle<Self>) {
        /// From here on it can tell of input that comes while a film keeps the screen on, too.
        const INPUT_ALONE: u32 = 2;
        let Some(notifier) = &self.notifier else {
            return;
        };
        let limit = self.quiet_after.as_millis() as u32;
        for (number, seat) in &mut self.by_number {
            if seat.notification.is_none() {
                seat.notification = Some(if notifier.version() >= INPUT_ALONE {
                    notifier.get_input_idle_notification(limit, &seat.wayland, queue, *number)
                } else {
                    notifier.get_idle_notification(limit, &seat.wayland, queue, *number)
                });
            }
        }
    }
}

impl Dispatch<WlRegistry, ()> for Seats {
    fn event(
        state: &mut Self,
        registry: &WlRegistry,
        event: wl_registry::Event,
        (): &(),
        _: &Connection,
        queue: &QueueHandle<Self>,
    ) {
        match event {
            wl_registry::Event::Global {
                name,
                interface,
                version,
            } => {
                if interface == ExtIdleNotifierV1::interface().name {
                    state.notifier = Some(registry.bind(name, version.min(2), queue, ()));
                } else if interface == WlSeat::interface().name {
                    let seat = Seat {
                        wayland: registry.bind(name, 1, queue, ()),
                        notification: None,
                        quiet_since_ms: None,
                    };
                    state.by_number.insert(name, seat);
                }
                state.ask(queue);
            }
            wl_registry::Event::GlobalRemove { name } => {
                let notification = state
                    .by_number
                    .remove(&name)
                    .and_then(|seat| seat.notification);
                if let Some(notification) = notification {
                    notification.destroy();
                }
            }
            _ => {}
        }
    }
}

impl Dispatch<ExtIdleNotificationV1, u32> for Seats {
    fn event(
        state: &mut Self,
        _: &ExtIdleNotificationV1,
        event: notification::Event,
        number: &u32,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let quiet_since_ms = match event {
            notification::Event::Idled => Some(time_ago(state.quiet_after)),
            _ => None,
        };
        if let Some(seat) = state.by_number.get_mut(number) {
            seat.quiet_since_ms = quiet_since_ms;
        }
    }
}

impl Dispatch<WlCallback, ()> for Seats {
    fn event(
        state: &mut Self,
        _: &WlCallback,
        _: <WlCallback as wayland_client::Proxy>::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if state.notifier.is_none() {
            tracing::debug!("the Wayland compositor does not tell of input");
        }
    }
}

delegate_noop!(Seats: ignore WlSeat);
delegate_noop!(Seats: ignore ExtIdleNotifierV1);
