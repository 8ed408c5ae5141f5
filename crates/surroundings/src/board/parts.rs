//! What several observers see of one thing becomes one.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::Board;
use crate::{Input, Power, Seen};

/// What several observers see of the same thing.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// By what the desktop calls input.
    pub(crate) desktop_input: BTreeMap<Desktop, Input>,
    pub(crate) gamepads: Option<Input>,
    /// The desktop is one of Wayland, where X11 knows of its own windows alone.
    pub(crate) is_wayland: bool,
    pub(crate) x11_full_screen: Option<Seen>,
    /// As the compositor tells, which knows all windows.
    pub(crate) wayland_full_screen: Option<Seen>,
    pub(crate) library_games: Option<Seen>,
    pub(crate) game_mode: Option<Seen>,
    /// By the service that knows of all supplies.
    pub(crate) power_service: Option<Power>,
    /// By the kernel's list of them.
    pub(crate) power_supplies: Option<Power>,
}

/// Who tells of a desktop's input: who is trusted most comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Desktop {
    Wayland,
    Mutter,
    X11,
}

impl Board {
    pub(crate) fn set_part(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        self.set(|shown| {
            shown.input = parts.input();
            shown.games = parts.games();
            shown.full_screen = parts.full_screen();
            shown.power = parts.power_service.or(parts.power_supplies);
        });
    }

    pub(crate) fn set_desktop_input(&self, desktop: Desktop, input: Option<Input>) {
        self.set_part(|parts| match input {
            Some(input) => {
                parts.desktop_input.insert(desktop, input);
            }
            None => {
                parts.desktop_input.remove(&desktop);
            }
        });
    }
}

impl Parts {
    fn input(&self) -> Option<Input> {
        let desktop = self.desktop_input.values().next().copied();
        Input::latest(desktop, self.gamepads)
    }

    fn full_screen(&self) -> Option<Seen> {
        let of_x11 = self.x11_full_screen.as_ref();
        // That X11 has nothing in front says nothing of the other windows.
        let of_x11 = of_x11.filter(|seen| !self.is_wayland || !seen.names.is_empty());
        self.wayland_full_screen.as_ref().or(of_x11).cloned()
    }

    fn games(&self) -> Option<Seen> {
        let mut all = [&self.library_games, &self.game_mode].into_iter().flatten();
        let first = all.next()?.clone();
        Some(Seen::of(
            first
                .names
                .into_iter()
                .chain(all.flat_map(|seen| seen.names.iter().cloned())),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_what_came_last_from_anywhere() {
        let quiet = |since_ms| Some(Input::Quiet { since_ms });
        for (desktop, gamepads, together) in [
            (None, None, None),
            (quiet(5), None, quiet(5)),
            (None, quiet(7), quiet(7)),
            (quiet(5), quiet(7), quiet(7)),
            (Some(Input::Recent), quiet(7), Some(Input::Recent)),
            (quiet(5), Some(Input::Recent), Some(Input::Recent)),
        ] {
            let parts = Parts {
                desktop_input: desktop
                    .map(|input| (Desktop::X11, input))
                    .into_iter()
                    .collect(),
                gamepads,
                ..Parts::default()
            };
            assert_eq!(parts.input(), together);
        }
    }

    #[test]
    fn who_is_trusted_most_tells_of_the_desktop() {
        let (board, seen) = Board::new();
        board.set_desktop_input(Desktop::X11, Some(Input::Recent));
        board.set_desktop_input(Desktop::Wayland, Some(Input::Quiet { since_ms: 3 }));
        assert_eq!(seen.borrow().input, Some(Input::Quiet { since_ms: 3 }));
        board.set_desktop_input(Desktop::Wayland, None);
        assert_eq!(seen.borrow().input, Some(Input::Recent));
    }

    #[test]
    fn x11_does_not_speak_for_a_wayland_desktop() {
        let seen = |name: &str| {
            let names = Some(name.to_owned()).filter(|name| !name.is_empty());
            Some(Seen::of(names))
        };
        for (is_wayland, x11, wayland, together) in [
            (false, None, None, None),
            (false, seen(""), None, seen("")),
            (false, seen("a"), None, seen("a")),
            (true, seen(""), None, None),
            (true, seen("a"), None, seen("a")),
            (true, seen(""), seen("b"), seen("b")),
            // The compositor knows that it has not the focus any more.
            (true, seen("a"), seen(""), seen("")),
        ] {
            let parts = Parts {
                is_wayland,
                x11_full_screen: x11,
                wayland_full_screen: wayland,
                ..Parts::default()
            };
            assert_eq!(parts.full_screen(), together);
        }
    }

    #[test]
    fn games_of_all_who_tell_of_them() {
        let seen = |names: &[&str]| Some(Seen::of(names.iter().map(ToString::to_string)));
        let parts = |library_games, game_mode| Parts {
            library_games,
            game_mode,
            ..Parts::default()
        };
        assert_eq!(parts(None, None).games(), None);
        assert_eq!(parts(seen(&["b"]), None).games(), seen(&["b"]));
        assert_eq!(
            parts(seen(&["b"]), seen(&["a", "b"])).games(),
            seen(&["a", "b"])
        );
    }
}
