//! A connection with an X server on this machine.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use x11rb::connection::Connection as _;
use x11rb::errors::{ConnectError, ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{Atom, ConnectionExt as _, Window};
use x11rb::rust_connection::RustConnection;

use super::back_off::BackOff;
use super::readiness_of;

/// Whether `DISPLAY` names one of this machine: one across the network shows what goes on on
/// another.
pub(super) fn is_here(display: &str) -> bool {
    display.starts_with(':') || display.starts_with("unix:")
}

#[derive(Debug)]
pub(super) struct Display {
    pub(super) server: RustConnection,
    pub(super) root: Window,
    pub(super) width: u16,
    pub(super) height: u16,
    readable: AsyncFd<OwnedFd>,
}

/// Why a display cannot be observed, or not any more.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Lost(String);

/// Runs `follow` while there is a connection, `clear` when it is lost, and connects again.
pub(super) async fn stay_connected<F: Future<Output = Result<Infallible, Lost>>>(
    name: String,
    first_pause: Duration,
    clear: impl Fn(),
    follow: impl Fn(Display) -> F,
) {
    let mut pause = BackOff::new(first_pause);
    loop {
        match Display::connect(&name) {
            Ok(display) => {
                pause.reset();
                let Err(why) = follow(display).await;
                clear();
                tracing::debug!(display = name, %why, "the display is not followed any more");
            }
            Err(why) if pause.is_first() => {
                tracing::debug!(display = name, %why, "no display: what it shows is unknown");
            }
            Err(_) => {}
        }
        pause.wait().await;
    }
}

impl Display {
    fn connect(name: &str) -> Result<Self, Lost> {
        let (server, screen) = RustConnection::connect(Some(name))?;
        let screen = server.setup().roots.get(screen);
        let screen = screen.ok_or_else(|| Lost("it has no screen".to_owned()))?;
        let socket = server.stream().as_fd().try_clone_to_owned();
        let readable = socket.and_then(readiness_of);
        let readable = readable.map_err(|error| Lost(error.to_string()))?;
        Ok(Self {
            root: screen.root,
            width: screen.width_in_pixels,
            height: screen.height_in_pixels,
            readable,
            server,
        })
    }

    /// The next event. Errors to earlier requests are none: windows go while they are asked after.
    pub(super) async fn event(&self) -> Result<Event, Lost> {
        loop {
            self.server.flush()?;
            // An answer that was waited for may have brought events with it.
            while let Some(event) = self.server.poll_for_event()? {
                if !matches!(event, Event::Error(_)) {
                    return Ok(event);
                }
            }
            let readable = self.readable.readable().await;
            let mut readable = readable.map_err(|error| Lost(error.to_string()))?;
            // Before it is read: what comes in between is seen the next time.
            readable.clear_ready();
            if let Some(event) = self.server.poll_for_event()?
                && !matches!(event, Event::Error(_))
            {
                return Ok(event);
            }
        }
    }

    pub(super) fn atom(&self, name: &str) -> Result<Atom, Lost> {
        Ok(self
            .server
            .intern_atom(false, name.as_bytes())?
            .reply()?
            .atom)
    }
}

impl From<ConnectError> for Lost {
    fn from(error: ConnectError) -> Self {
        Self(error.to_string())
    }
}

impl From<ConnectionError> for Lost {
    fn from(error: ConnectionError) -> Self {
        Self(error.to_string())
    }
}

impl From<ReplyError> for Lost {
    fn from(error: ReplyError) -> Self {
        Self(error.to_string())
    }
}

impl From<ReplyOrIdError> for Lost {
    fn from(error: ReplyOrIdError) -> Self {
        Self(error.to_string())
    }
}

impl Lost {
    /// The server lacks something.
    pub(super) fn lacks(what: &str) -> Self {
        Self(format!("it has no {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_of_this_machine() {
        for display in [":0", ":1.0", "unix:0"] {
            assert!(is_here(display));
        }
        for display in ["localhost:10.0", "other:0", ""] {
            assert!(!is_here(display));
        }
    }
}
