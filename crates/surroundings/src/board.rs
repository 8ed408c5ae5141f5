//! Where the observers write what they see.

#[cfg(target_os = "linux")]
mod parts;

use tokio::sync::watch;

use crate::Surroundings;

#[cfg(target_os = "linux")]
pub(crate) use parts::Desktop;

#[derive(Debug, Clone)]
pub(crate) struct Board {
    shown: watch::Sender<Surroundings>,
    #[cfg(target_os = "linux")]
    parts: std::sync::Arc<std::sync::Mutex<parts::Parts>>,
}

impl Board {
    pub(crate) fn new() -> (Self, watch::Receiver<Surroundings>) {
        let (shown, seen) = watch::channel(Surroundings::default());
        let board = Self {
            shown,
            #[cfg(target_os = "linux")]
            parts: std::sync::Arc::default(),
        };
        (board, seen)
    }

    /// Tells those who watch, if it is a change.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Surroundings)) {
        self.shown.send_if_modified(|shown| {
            let before = shown.clone();
            change(shown);
            *shown != before
        });
    }
}

#[cfg(any(target_os = "linux", windows))]
impl crate::Seen {
    /// Sorted, each once.
    pub(crate) fn of(names: impl IntoIterator<Item = String>) -> Self {
        let names: std::collections::BTreeSet<String> = names.into_iter().collect();
        Self {
            names: names.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let (board, mut seen) = Board::new();
        board.set(|shown| shown.going_to_sleep = Some(false));
        assert!(seen.has_changed().unwrap());
        seen.mark_unchanged();
        board.set(|shown| shown.going_to_sleep = Some(false));
        assert!(!seen.has_changed().unwrap());
    }
}
