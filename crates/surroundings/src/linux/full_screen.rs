//! What fills the screen, as X11 tells. On a Wayland desktop it tells of windows of X11 alone.

use std::convert::Infallible;
use std::time::Duration;

use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ChangeWindowAttributesAux, ConnectionExt as _, EventMask, GetPropertyReply,
    InputFocus, MapState, Window,
};

use super::processes::is_ours;
use super::x11::{self, Display, Lost};
use crate::Seen;
use crate::board::Board;

pub(super) async fn observe(name: String, first_pause: Duration, board: Board) {
    let clear = || board.set_part(|parts| parts.x11_full_screen = None);
    x11::stay_connected(name, first_pause, clear, |display| follow(display, &board)).await;
}

async fn follow(display: Display, board: &Board) -> Result<Infallible, Lost> {
    let screen = Screen {
        active_window: display.atom("_NET_ACTIVE_WINDOW")?,
        state: display.atom("_NET_WM_STATE")?,
        fills: display.atom("_NET_WM_STATE_FULLSCREEN")?,
        kind: display.atom("_NET_WM_WINDOW_TYPE")?,
        desktop: display.atom("_NET_WM_WINDOW_TYPE_DESKTOP")?,
        process: display.atom("_NET_WM_PID")?,
        name: display.atom("_NET_WM_NAME")?,
        display,
    };
    let root = screen.display.root;
    screen.listen(root, EventMask::PROPERTY_CHANGE | EventMask::FOCUS_CHANGE)?;
    let mut listened = Front::default();
    loop {
        let front = screen.front();
        for window in &front.windows {
            if !listened.windows.contains(window) {
                screen.listen(*window, front.mask())?;
            }
        }
        for window in &listened.windows {
            if !front.windows.contains(window) {
                screen.listen(*window, EventMask::NO_EVENT)?;
            }
        }
        // What happened before they were listened to is looked at after.
        if listened != front {
            listened = front;
            continue;
        }
        let names = front.windows.first().filter(|_| screen.is_full(&front));
        let seen = Seen::of(names.map(|window| screen.name_of(*window)));
        board.set_part(|parts| parts.x11_full_screen = Some(seen));
        while !screen.matters(&screen.display.event().await?) {}
    }
}

/// What is in front.
#[derive(Debug, Default, PartialEq, Eq)]
struct Front {
    /// The window, and if nobody manages it, those that it lies in up to the root, without that.
    /// None: the desktop itself.
    windows: Vec<Window>,
    is_managed: bool,
}

impl Front {
    /// What may change whether it fills the screen. Managed windows have it written on them.
    fn mask(&self) -> EventMask {
        if self.is_managed {
            EventMask::PROPERTY_CHANGE
        } else {
            EventMask::PROPERTY_CHANGE | EventMask::FOCUS_CHANGE | EventMask::STRUCTURE_NOTIFY
        }
    }
}

struct Screen {
    display: Display,
    active_window: Atom,
    state: Atom,
    fills: Atom,
    kind: Atom,
    desktop: Atom,
    process: Atom,
    name: Atom,
}

impl Screen {
    fn listen(&self, window: Window, mask: EventMask) -> Result<(), Lost> {
        let values = ChangeWindowAttributesAux::new().event_mask(mask);
        // Without waiting for the answer: the window may be gone.
        let sent = self
            .display
            .server
            .change_window_attributes(window, &values)?;
        drop(sent);
        Ok(())
    }

    fn matters(&self, event: &Event) -> bool {
        match event {
            Event::PropertyNotify(change) if change.window == self.display.root => {
                change.atom == self.active_window
            }
            Event::PropertyNotify(change) => [self.state, self.kind].contains(&change.atom),
            Event::FocusIn(_)
            | Event::FocusOut(_)
            | Event::ConfigureNotify(_)
            | Event::MapNotify(_)
            | Event::UnmapNotify(_)
            | Event::ReparentNotify(_)
            | Event::DestroyNotify(_) => true,
            _ => false,
        }
    }

    fn front(&self) -> Front {
        let nothing = [x11rb::NONE, u32::from(InputFocus::POINTER_ROOT)];
        let root = self.display.root;
        let is_window = |window: &Window| !nothing.contains(window) && *window != root;
        let active = self.active();
        let front = active.or_else(|| self.focused()).filter(is_window);
        let mut windows: Vec<Window> = front.into_iter().collect();
        while active.is_none()
            && let Some(parent) = windows.last().and_then(|window| self.parent(*window))
            && is_window(&parent)
        {
            windows.push(parent);
        }
        Front {
            windows,
            is_managed: active.is_some(),
        }
    }

    /// As a window manager says, which also says that there is none by [`x11rb::NONE`]. None without
    /// a window manager.
    fn active(&self) -> Option<Window> {
        let kind = AtomEnum::WINDOW.into();
        let value = self.property(self.display.root, self.active_window, kind)?;
        value.value32()?.next()
    }

    fn focused(&self) -> Option<Window> {
        Some(
            self.display
                .server
                .get_input_focus()
                .ok()?
                .reply()
                .ok()?
                .focus,
        )
    }

    fn parent(&self, window: Window) -> Option<Window> {
        Some(
            self.display
                .server
                .query_tree(window)
                .ok()?
                .reply()
                .ok()?
                .parent,
        )
    }

    fn is_full(&self, front: &Front) -> bool {
        let (Some(window), Some(outermost)) = (front.windows.first(), front.windows.last()) else {
            return false;
        };
        if self.atoms(*window, self.kind).contains(&self.desktop)
            || self.is_ours(*window)
            || !self.is_shown(*window)
        {
            return false;
        }
        self.atoms(*window, self.state).contains(&self.fills)
            || (!front.is_managed && self.covers_all(*outermost))
    }

    /// Who looks at this program's own window is not kept from anything by its work.
    fn is_ours(&self, window: Window) -> bool {
        let value = self.property(window, self.process, AtomEnum::CARDINAL.into());
        let process = value.as_ref().and_then(|value| value.value32()?.next());
        process.is_some_and(is_ours)
    }

    fn is_shown(&self, window: Window) -> bool {
        let asked = self.display.server.get_window_attributes(window);
        let answer = asked.ok().and_then(|asked| asked.reply().ok());
        answer.is_some_and(|answer| answer.map_state == MapState::VIEWABLE)
    }

    /// For a window right in the root, whose place is the place on the screen.
    fn covers_all(&self, window: Window) -> bool {
        let asked = self.display.server.get_geometry(window);
        let Some(place) = asked.ok().and_then(|asked| asked.reply().ok()) else {
            return false;
        };
        let covers = |start: i16, length: u16, all: u16| {
            start <= 0 && i32::from(start) + i32::from(length) >= i32::from(all)
        };
        covers(place.x, place.width, self.display.width)
            && covers(place.y, place.height, self.display.height)
    }

    fn atoms(&self, window: Window, name: Atom) -> Vec<Atom> {
        let value = self.property(window, name, AtomEnum::ATOM.into());
        value
            .as_ref()
            .and_then(GetPropertyReply::value32)
            .map(Iterator::collect)
            .unwrap_or_default()
    }

    fn property(&self, window: Window, name: Atom, kind: Atom) -> Option<GetPropertyReply> {
        let server = &self.display.server;
        let asked = server.get_property(false, window, name, kind, 0, 256);
        let value = asked.ok()?.reply().ok()?;
        // Of another kind, it comes without its value.
        (value.value_len > 0).then_some(value)
    }

    fn name_of(&self, window: Window) -> String {
        let text = |name: Atom, kind: Atom| {
            let value = self.property(window, name, kind)?;
            Some(String::from_utf8_lossy(&value.value).into_owned())
        };
        let class = text(AtomEnum::WM_CLASS.into(), AtomEnum::STRING.into());
        let title = text(self.name, AtomEnum::ANY.into())
            .or_else(|| text(AtomEnum::WM_NAME.into(), AtomEnum::ANY.into()));
        name_of(class.as_deref(), title.as_deref())
    }
}

/// By `WM_CLASS`, which holds an instance's name and its class's, each with a zero behind it.
fn name_of(class: Option<&str>, title: Option<&str>) -> String {
    window_name(class.and_then(|class| class.split('\0').nth(1)), title)
}

/// What a person knows a window's program by.
pub(super) fn window_name(class: Option<&str>, title: Option<&str>) -> String {
    let class = class.filter(|class| !class.is_empty());
    let title = title.map(str::trim).filter(|title| !title.is_empty());
    // Steam numbers the windows of games that are made for Windows.
    let numbered = class.is_some_and(|class| class.starts_with("steam_app_"));
    let name = if numbered {
        title.or(class)
    } else {
        class.or(title)
    };
    let name = name.unwrap_or("?");
    name.strip_suffix(".exe").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_windows() {
        for (class, title, name) in [
            (Some("navigator\0Firefox\0"), Some("A page"), "Firefox"),
            (Some("\0\0"), Some("A title"), "A title"),
            (None, Some("A title"), "A title"),
            (
                Some("steam_app_1145360\0steam_app_1145360\0"),
                Some("Hades"),
                "Hades",
            ),
            (
                Some("steam_app_1145360\0steam_app_1145360\0"),
                None,
                "steam_app_1145360",
            ),
            (Some("game.exe\0game.exe\0"), Some("G"), "game"),
            (None, Some(" "), "?"),
        ] {
            assert_eq!(name_of(class, title), name);
        }
    }
}
