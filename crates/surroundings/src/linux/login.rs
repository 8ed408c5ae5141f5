//! The login service: whether the screen is locked, and the machine's sleep.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{Notify, watch};
use zbus::zvariant::{OwnedFd, OwnedObjectPath};
use zbus::{Connection, Proxy};

use super::bus::{Properties, Service, gone, object, while_there};
use crate::board::Board;
use crate::{Session, Wanted};

const LOGIN: Service = Service {
    name: "org.freedesktop.login1",
    wake: false,
};

pub(super) const WHO: &str = "Infera Node";
pub(super) const WHY_AWAKE: &str = "The computer works for the network";

pub(super) async fn observe(
    bus: &Connection,
    board: &Board,
    wanted: watch::Receiver<Wanted>,
    ready_to_sleep: &Notify,
    sleep_delay: Duration,
) {
    let clear = || {
        board.set(|shown| {
            shown.session = None;
            shown.going_to_sleep = None;
        });
    };
    while_there(bus, LOGIN, clear, || async {
        let login = object(
            bus,
            LOGIN.name,
            "/org/freedesktop/login1",
            "org.freedesktop.login1.Manager",
        )
        .await?;
        tokio::try_join!(
            follow_session(bus, &login, board),
            follow_sleep(&login, board, ready_to_sleep, sleep_delay),
            keep_awake(&login, wanted.clone()),
        )?;
        Ok(())
    })
    .await;
}

async fn follow_session(bus: &Connection, login: &Proxy<'_>, board: &Board) -> zbus::Result<()> {
    let mut begun = login.receive_signal("SessionNew").await?;
    let mut ended = login.receive_signal("SessionRemoved").await?;
    loop {
        let follow = async {
            let Some(path) = session_path(bus, login).await else {
                board.set(|shown| shown.session = None);
                return std::future::pending().await;
            };
            let interface = "org.freedesktop.login1.Session";
            let mut session = Properties::of(bus, LOGIN.name, path, interface).await?;
            loop {
                let seen = session_of(
                    session.get("LockedHint").await?,
                    session.get("Remote").await?,
                    &session.get::<String>("Type").await?,
                );
                board.set(|shown| shown.session = Some(seen));
                session.changed().await?;
            }
        };
        // Another session may be the one to look at from then on.
        tokio::select! {
            outcome = follow => {
                let outcome: zbus::Result<()> = outcome;
                outcome?;
            }
            signal = begun.next() => drop(signal.ok_or_else(gone)?),
            signal = ended.next() => drop(signal.ok_or_else(gone)?),
        }
    }
}

/// The session in which this user sees something, and else the one that this process is in.
async fn session_path(bus: &Connection, login: &Proxy<'_>) -> Option<String> {
    let user = rustix::process::getuid().as_raw();
    let shown = async {
        let user: OwnedObjectPath = login.call("GetUser", &(user,)).await?;
        let interface = "org.freedesktop.login1.User";
        let user = Properties::of(bus, LOGIN.name, user.to_string(), interface).await?;
        let (id, path): (String, OwnedObjectPath) = user.get("Display").await?;
        zbus::Result::Ok((!id.is_empty()).then_some(path))
    };
    let path = match shown.await {
        Ok(Some(path)) => path,
        _ => login.call("GetSession", &("auto",)).await.ok()?,
    };
    Some(path.to_string())
}

fn session_of(is_locked: bool, is_remote: bool, kind: &str) -> Session {
    // A shell from afar is how a machine without a screen is looked after.
    let is_screen = matches!(kind, "x11" | "wayland" | "mir");
    if is_locked {
        Session::Locked
    } else if is_remote && is_screen {
        Session::Remote
    } else {
        Session::Open
    }
}

async fn follow_sleep(
    login: &Proxy<'_>,
    board: &Board,
    ready_to_sleep: &Notify,
    delay: Duration,
) -> zbus::Result<()> {
    let mut signals = login.receive_signal("PrepareForSleep").await?;
    let take_lock = || inhibit(login, "sleep", "Jobs are handed back first", "delay");
    let mut lock = take_lock().await;
    let mut goes: bool = login
        .get_property("PreparingForSleep")
        .await
        .unwrap_or(false);
    loop {
        let mut ready = std::pin::pin!(ready_to_sleep.notified());
        ready.as_mut().enable();
        board.set(|shown| shown.going_to_sleep = Some(goes));
        if !goes && lock.is_none() {
            lock = take_lock().await;
        }
        let next = async {
            let signal = signals.next().await.ok_or_else(gone)?;
            signal.body().deserialize::<bool>()
        };
        tokio::pin!(next);
        goes = tokio::select! {
            next = &mut next => next?,
            () = wait_until_ready(ready, delay), if goes => {
                lock = None;
                next.await?
            }
        };
    }
}

async fn wait_until_ready(ready: impl Future<Output = ()>, delay: Duration) {
    // Whichever comes first: the login service would not wait longer either.
    let _ = tokio::time::timeout(delay, ready).await;
}

async fn keep_awake(login: &Proxy<'_>, mut wanted: watch::Receiver<Wanted>) -> zbus::Result<()> {
    let mut lock = None;
    loop {
        let keep = wanted.borrow_and_update().keep_awake;
        if !keep {
            lock = None;
        } else if lock.is_none() {
            // Not from sleep that the person asks for.
            lock = inhibit(login, "idle", WHY_AWAKE, "block").await;
        }
        if wanted.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What it holds off comes when the lock is dropped.
async fn inhibit(login: &Proxy<'_>, what: &str, why: &str, mode: &str) -> Option<OwnedFd> {
    let asked = login.call("Inhibit", &(what, WHO, why, mode)).await;
    asked
        .inspect_err(|error| tracing::debug!(%error, what, mode, "not to be held off"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_is() {
        for (is_locked, is_remote, kind, session) in [
            (false, false, "x11", Session::Open),
            (true, false, "wayland", Session::Locked),
            (false, true, "x11", Session::Remote),
            (true, true, "x11", Session::Locked),
            (false, true, "tty", Session::Open),
        ] {
            assert_eq!(session_of(is_locked, is_remote, kind), session);
        }
    }
}
