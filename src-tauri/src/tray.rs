//! The icon in the tray and its menu, drawn from data and only where that changed.

use std::sync::{Mutex, PoisonError};

use infera_node::app::api::AppState;
use infera_node::state::StateKind;
use jiff::Zoned;
use tauri::image::Image;
use tauri::menu::{IsMenuItem, Menu, MenuItem as Button, PredefinedMenuItem, Submenu};
use tauri::tray::{MouseButton, MouseButtonState, TrayIcon, TrayIconBuilder, TrayIconEvent};
use tauri::{AppHandle, Manager, Wry, include_image};

use crate::menu::{Action, MenuItem, menu};
use crate::words::Language;
use crate::{Shell, quit, surroundings, updates, window};

/// None where the desktop has no tray.
#[derive(Default)]
pub(crate) struct Tray(Mutex<Option<Drawn>>);

struct Drawn {
    icon: TrayIcon,
    menu: Menu<Wry>,
    items: Vec<MenuItem>,
    /// What the items are drawn with; their texts can be changed.
    handles: Vec<Handle>,
    look: Option<(StateKind, bool)>,
    tooltip: String,
}

enum Handle {
    Button(Button<Wry>),
    Submenu(Submenu<Wry>, Vec<Button<Wry>>),
    Separator(PredefinedMenuItem<Wry>),
}

impl Tray {
    /// Puts the icon into the tray, if there is one.
    pub(crate) fn put(&self, app: &AppHandle) -> tauri::Result<()> {
        if !surroundings::has_tray_library() {
            tracing::warn!("there is no tray: libayatana-appindicator3 is not installed");
            return Ok(());
        }
        let menu = Menu::new(app)?;
        let icon = TrayIconBuilder::with_id("infera-node")
            .menu(&menu)
            .icon(mark(StateKind::Waiting, true))
            .icon_as_template(true)
            // Where a click on the icon is seen, on Windows, it opens the window.
            .show_menu_on_left_click(!cfg!(windows))
            .on_menu_event(|app, event| {
                if let Some(action) = Action::from_id(event.id().as_ref()) {
                    act(app, action);
                }
            })
            .on_tray_icon_event(|icon, event| {
                if cfg!(windows)
                    && let TrayIconEvent::Click {
                        button: MouseButton::Left,
                        button_state: MouseButtonState::Up,
                        ..
                    } = event
                {
                    window::open(icon.app_handle());
                }
            })
            .build(app)?;
        let drawn = Drawn {
            icon,
            menu,
            items: Vec::new(),
            handles: Vec::new(),
            look: None,
            tooltip: String::new(),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(drawn);
        Ok(())
    }

    pub(crate) fn is_there(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Shows a state. Nothing is touched that looks the same.
    pub(crate) fn draw(
        &self,
        app: &AppHandle,
        state: &AppState,
        update: Option<&str>,
        panel_is_dark: bool,
        now: &Zoned,
    ) -> tauri::Result<()> {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(drawn) = drawn.as_mut() else {
            return Ok(());
        };
        let look = (state.state.kind, panel_is_dark);
        if drawn.look != Some(look) {
            drawn
                .icon
                .set_icon_with_as_template(Some(mark(look.0, look.1)), true)?;
            drawn.look = Some(look);
        }
        let tooltip = format!("Infera Node\n{}", Language::of(state).sentence(state, now));
        if drawn.tooltip != tooltip {
            drawn.icon.set_tooltip(Some(&tooltip))?;
            drawn.tooltip = tooltip;
        }
        drawn.show(app, menu(state, update, now))
    }
}

impl Drawn {
    fn show(&mut self, app: &AppHandle, items: Vec<MenuItem>) -> tauri::Result<()> {
        if have_same_shape(&self.items, &items) {
            for ((handle, before), item) in self.handles.iter().zip(&self.items).zip(&items) {
                if before != item {
                    handle.rename(item)?;
                }
            }
        } else {
            for handle in self.handles.drain(..) {
                self.menu.remove(handle.item())?;
            }
            for item in &items {
                let handle = Handle::new(app, item)?;
                self.menu.append(handle.item())?;
                self.handles.push(handle);
            }
        }
        self.items = items;
        Ok(())
    }
}

impl Handle {
    fn new(app: &AppHandle, item: &MenuItem) -> tauri::Result<Self> {
        let button = |action: &Action, text: &str| {
            Button::with_id(app, action.id(), literal(text), true, None::<&str>)
        };
        Ok(match item {
            MenuItem::Label(text) => {
                Self::Button(Button::new(app, literal(text), false, None::<&str>)?)
            }
            MenuItem::Button(action, text) => Self::Button(button(action, text)?),
            MenuItem::Submenu(text, items) => {
                let submenu = Submenu::new(app, literal(text), true)?;
                let mut buttons = Vec::new();
                for (action, text) in items {
                    let button = button(action, text)?;
                    submenu.append(&button)?;
                    buttons.push(button);
                }
                Self::Submenu(submenu, buttons)
            }
            MenuItem::Separator => Self::Separator(PredefinedMenuItem::separator(app)?),
        })
    }

    fn item(&self) -> &dyn IsMenuItem<Wry> {
        match self {
            Self::Button(button) => button,
            Self::Submenu(submenu, _) => submenu,
            Self::Separator(separator) => separator,
        }
    }

    fn rename(&self, item: &MenuItem) -> tauri::Result<()> {
        match (self, item) {
            (Self::Button(button), MenuItem::Label(text) | MenuItem::Button(_, text)) => {
                button.set_text(literal(text))
            }
            (Self::Submenu(submenu, buttons), MenuItem::Submenu(text, items)) => {
                submenu.set_text(literal(text))?;
                for (button, (_, text)) in buttons.iter().zip(items) {
                    button.set_text(literal(text))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Whether only texts differ.
fn have_same_shape(before: &[MenuItem], after: &[MenuItem]) -> bool {
    before.len() == after.len()
        && before.iter().zip(after).all(|pair| match pair {
            (MenuItem::Label(_), MenuItem::Label(_))
            | (MenuItem::Separator, MenuItem::Separator) => true,
            (MenuItem::Button(before, _), MenuItem::Button(after, _)) => before == after,
            (MenuItem::Submenu(_, before), MenuItem::Submenu(_, after)) => before
                .iter()
                .map(|(action, _)| action)
                .eq(after.iter().map(|(action, _)| action)),
            _ => false,
        })
}

/// Menus take `&` for the mark of a shortcut key.
fn literal(text: &str) -> String {
    text.replace('&', "&&")
}

/// A click on an item.
fn act(app: &AppHandle, action: Action) {
    match action {
        Action::Open => window::open(app),
        Action::Update => updates::install(app),
        Action::Quit => quit::request(app),
        _ => {
            let Some((name, request)) = action.command() else {
                return;
            };
            let app = app.clone();
            tauri::async_runtime::spawn(async move {
                let shell = app.state::<Shell>();
                if let Err(error) = shell.backend.call(name, request).await {
                    tracing::warn!(%error, name, "the tray's click was not carried out");
                }
            });
        }
    }
}

/// The mark of a state: dark ink on light panels and light ink on dark ones. macOS inks it itself.
fn mark(kind: StateKind, panel_is_dark: bool) -> Image<'static> {
    macro_rules! mark {
        ($template:literal, $dark:literal, $light:literal) => {
            if cfg!(target_os = "macos") {
                include_image!($template)
            } else if panel_is_dark {
                include_image!($dark)
            } else {
                include_image!($light)
            }
        };
    }
    match kind {
        StateKind::Working => mark!(
            "./icons/tray/working-template.png",
            "./icons/tray/working-dark.png",
            "./icons/tray/working-light.png"
        ),
        StateKind::Waiting => mark!(
            "./icons/tray/waiting-template.png",
            "./icons/tray/waiting-dark.png",
            "./icons/tray/waiting-light.png"
        ),
        StateKind::Paused => mark!(
            "./icons/tray/paused-template.png",
            "./icons/tray/paused-dark.png",
            "./icons/tray/paused-light.png"
        ),
        StateKind::NeedsYou => mark!(
            "./icons/tray/needs-you-template.png",
            "./icons/tray/needs-you-dark.png",
            "./icons/tray/needs-you-light.png"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_text_is_the_same_shape_and_another_action_is_not() {
        let label = |text: &str| MenuItem::Label(text.to_owned());
        let button = |action| MenuItem::Button(action, "text".to_owned());
        let snooze = |action| MenuItem::Submenu("Snooze".to_owned(), vec![(action, String::new())]);
        assert!(have_same_shape(&[label("a")], &[label("b")]));
        assert!(!have_same_shape(
            &[button(Action::Pause)],
            &[button(Action::Resume)]
        ));
        assert!(!have_same_shape(&[label("a")], &[button(Action::Pause)]));
        assert!(!have_same_shape(&[], &[label("a")]));
        assert!(have_same_shape(
            &[snooze(Action::Snooze1Hour)],
            &[snooze(Action::Snooze1Hour)]
        ));
        assert!(!have_same_shape(
            &[snooze(Action::Snooze1Hour)],
            &[snooze(Action::Snooze4Hours)]
        ));
    }

    #[test]
    fn a_name_with_an_ampersand_is_shown_as_it_is() {
        assert_eq!(literal("Q&A_model"), "Q&&A_model");
    }
}
