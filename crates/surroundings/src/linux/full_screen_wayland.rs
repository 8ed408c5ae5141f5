//! What fills the screen, as a Wayland compositor tells that knows the protocol
//! wlr-foreign-toplevel-management: those of wlroots (sway, labwc, Hyprland, river) and a few more.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use wayland_client::backend::ObjectId;
use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::{Connection, Dispatch, Proxy as _, QueueHandle, event_created_child};
use wayland_protocols_wlr::foreign_toplevel::v1::client::zwlr_foreign_toplevel_handle_v1::{
    self as handle, ZwlrForeignToplevelHandleV1,
};
use wayland_protocols_wlr::foreign_toplevel::v1::client::zwlr_foreign_toplevel_manager_v1::{
    self as manager, ZwlrForeignToplevelManagerV1,
};

use super::full_screen::window_name;
use super::wayland;
use crate::Seen;
use crate::board::Board;

pub(super) async fn observe(socket: PathBuf, first_pause: Duration, board: Board) {
    let show = |windows: Option<&Windows>| {
        let seen = windows.and_then(Windows::full_screen);
        board.set_part(|parts| parts.wayland_full_screen = seen);
    };
    wayland::stay_connected(socket, first_pause, Windows::default, show).await;
}

/// Our own: who looks at it is not kept from anything by this program's work.
const OWN: [&str; 2] = ["infera-node", "network.infera.node"];

#[derive(Default)]
struct Windows {
    manager: Option<ZwlrForeignToplevelManagerV1>,
    /// The compositor has told what it has, and then what windows are there.
    answers: usize,
    open: HashMap<ObjectId, Window>,
}

#[derive(Default)]
struct Window {
    /// Counts once the compositor says that it has told all.
    next: Facts,
    now: Facts,
}

#[derive(Debug, Clone, Default)]
struct Facts {
    title: String,
    app: String,
    fills: bool,
}

impl Windows {
    fn full_screen(&self) -> Option<Seen> {
        self.manager.as_ref().filter(|_| self.answers > 1)?;
        let full = self.open.values().map(|window| &window.now);
        let full = full.filter(|facts| facts.fills && !OWN.contains(&&*facts.app));
        Some(Seen::of(full.map(Facts::name)))
    }
}

impl Facts {
    fn name(&self) -> String {
        window_name(Some(short(&self.app)), Some(&self.title))
    }
}

/// `org.mozilla.firefox` is `firefox`; `steam_app_7` and `mpv` stay.
fn short(app: &str) -> &str {
    match app.rsplit_once('.') {
        Some((rest, name)) if rest.contains('.') => name,
        _ => app,
    }
}

/// Whether the window has the focus and fills the screen, by the protocol's list of numbers.
fn fills(states: &[u8]) -> bool {
    let has = |state: handle::State| {
        let (numbers, _) = states.as_chunks();
        let mut numbers = numbers.iter().map(|bytes| u32::from_ne_bytes(*bytes));
        numbers.any(|number| number == state as u32)
    };
    has(handle::State::Activated) && has(handle::State::Fullscreen)
}

impl Dispatch<WlRegistry, ()> for Windows {
    fn event(
        state: &mut Self,
        registry: &WlRegistry,
        event: wl_registry::Event,
        (): &(),
        connection: &Connection,
        queue: &QueueHandle<Self>,
    ) {
        /// From here on it tells of full screen.
        const FULL_SCREEN: u32 = 2;
        if let wl_registry::Event::Global {
            name,
            interface,
            version,
        } = event
            && interface == ZwlrForeignToplevelManagerV1::interface().name
            && version >= FULL_SCREEN
        {
            state.manager = Some(registry.bind(name, version.min(3), queue, ()));
            // Answered after the windows that are there.
            connection.display().sync(queue, ());
        }
    }
}

impl Dispatch<WlCallback, ()> for Windows {
    fn event(
        state: &mut Self,
        _: &WlCallback,
        _: wl_callback::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        state.answers += 1;
        if state.manager.is_none() {
            tracing::debug!("the Wayland compositor does not tell what fills the screen");
        }
    }
}

impl Dispatch<ZwlrForeignToplevelManagerV1, ()> for Windows {
    fn event(
        state: &mut Self,
        _: &ZwlrForeignToplevelManagerV1,
        event: manager::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            manager::Event::Toplevel { toplevel } => {
                state.open.insert(toplevel.id(), Window::default());
            }
            // The compositor tells nothing more.
            manager::Event::Finished => {
                state.manager = None;
                state.open.clear();
            }
            _ => {}
        }
    }

    event_created_child!(Windows, ZwlrForeignToplevelManagerV1, [
        manager::EVT_TOPLEVEL_OPCODE => (ZwlrForeignToplevelHandleV1, ()),
    ]);
}

impl Dispatch<ZwlrForeignToplevelHandleV1, ()> for Windows {
    fn event(
        state: &mut Self,
        told: &ZwlrForeignToplevelHandleV1,
        event: handle::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let Some(window) = state.open.get_mut(&told.id()) else {
            return;
        };
        match event {
            handle::Event::Title { title } => window.next.title = title,
            handle::Event::AppId { app_id } => window.next.app = app_id,
            handle::Event::State { state } => window.next.fills = fills(&state),
            handle::Event::Done => window.now = window.next.clone(),
            handle::Event::Closed => {
                state.open.remove(&told.id());
                told.destroy();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_a_window() {
        let list = |numbers: &[u32]| -> Vec<u8> {
            let bytes = numbers.iter().flat_map(|number| number.to_ne_bytes());
            bytes.collect()
        };
        for (numbers, is_full) in [
            (&[][..], false),
            (&[2], false),
            (&[3], false),
            (&[2, 3], true),
            (&[3, 0, 2], true),
            (&[0, 1], false),
        ] {
            assert_eq!(fills(&list(numbers)), is_full, "{numbers:?}");
        }
        // Half a number more is none.
        let mut odd = list(&[2, 3]);
        odd.push(1);
        assert!(fills(&odd));
    }

    #[test]
    fn names_of_programs() {
        for (app, title, name) in [
            ("org.mozilla.firefox", "A page", "firefox"),
            ("mpv", "A film", "mpv"),
            ("steam_app_1145360", "Hades", "Hades"),
            ("", "A title", "A title"),
            ("a.b", "", "a.b"),
        ] {
            let facts = Facts {
                title: title.to_owned(),
                app: app.to_owned(),
                fills: true,
            };
            assert_eq!(facts.name(), name);
        }
    }
}
