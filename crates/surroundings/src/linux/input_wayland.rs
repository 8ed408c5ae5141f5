//! Keyboard and mouse, as a Wayland compositor counts the time since their last use, if it knows
//! the protocol ext-idle-notify-v1.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use wayland_client::protocol::wl_callback::WlCallback;
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::{Connection, Dispatch, Proxy as _, QueueHandle, delegate_noop};
use wayland_protocols::ext::idle_notify::v1::client::ext_idle_notification_v1::{
    self as notification, ExtIdleNotificationV1,
};
use wayland_protocols::ext::idle_notify::v1::client::ext_idle_notifier_v1::ExtIdleNotifierV1;

use super::{time_ago, wayland};
use crate::Input;
use crate::board::{Board, Desktop};

pub(super) async fn observe(
    socket: PathBuf,
    quiet_after: Duration,
    first_pause: Duration,
    board: Board,
) {
    let begin = || Seats {
        quiet_after,
        notifier: None,
        by_number: HashMap::new(),
    };
    let show = |seats: Option<&Seats>| {
        board.set_desktop_input(Desktop::Wayland, seats.and_then(Seats::input));
    };
    wayland::stay_connected(socket, first_pause, begin, show).await;
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
