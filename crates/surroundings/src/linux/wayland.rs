//! A connection with a Wayland compositor.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wayland_client::backend::WaylandError;
use wayland_client::protocol::wl_callback::WlCallback;
use wayland_client::protocol::wl_registry::WlRegistry;
use wayland_client::{Connection, Dispatch};

use super::back_off::BackOff;
use super::readiness_of;

/// Shows what becomes of the state that `begin` gives for each connection, and none while there is
/// no connection. The state's callback is called once the compositor has told all that it has.
pub(super) async fn stay_connected<S>(
    socket: PathBuf,
    first_pause: Duration,
    begin: impl Fn() -> S,
    show: impl Fn(Option<&S>),
) where
    S: Dispatch<WlRegistry, ()> + Dispatch<WlCallback, ()> + 'static,
{
    let mut pause = BackOff::new(first_pause);
    loop {
        let mut was_there = false;
        let lost = follow(&socket, begin(), &show, &mut was_there).await;
        show(None);
        if was_there {
            pause.reset();
        }
        if pause.is_first() {
            tracing::debug!(?lost, "a Wayland compositor is not followed any more");
        }
        pause.wait().await;
    }
}

async fn follow<S>(
    socket: &Path,
    mut state: S,
    show: &impl Fn(Option<&S>),
    was_there: &mut bool,
) -> io::Result<()>
where
    S: Dispatch<WlRegistry, ()> + Dispatch<WlCallback, ()> + 'static,
{
    let connection =
        Connection::from_socket(UnixStream::connect(socket)?).map_err(io::Error::other)?;
    let socket = readiness_of(connection.backend().poll_fd().try_clone_to_owned()?)?;
    let mut queue = connection.new_event_queue();
    let handle = queue.handle();
    connection.display().get_registry(&handle, ());
    // Answered after the list of what the compositor has.
    connection.display().sync(&handle, ());
    loop {
        queue
            .dispatch_pending(&mut state)
            .map_err(io::Error::other)?;
        show(Some(&state));
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
