//! The desktop's own idle time, which some desktops count beside the login service's: while it is
//! held off, the session does not fall idle, and so the machine does not fall asleep.

use std::collections::HashMap;
use std::pin::Pin;

use futures_util::stream::{SelectAll, select_all};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::watch;
use zbus::fdo::DBusProxy;
use zbus::names::BusName;
use zbus::zvariant::{OwnedObjectPath, Value};
use zbus::{Connection, Proxy};

use super::bus::{gone, object};
use super::login::{WHO, WHY_AWAKE};
use crate::Wanted;

/// The flag of GNOME's session and of the portal: the session does not become idle.
const IDLE: u32 = 8;

/// Ends when the bus itself fails.
pub(super) async fn observe(bus: &Connection, wanted: watch::Receiver<Wanted>) {
    if let Err(error) = follow(bus, wanted).await {
        tracing::debug!(%error, "the desktop's idle time is not held off");
    }
    std::future::pending::<()>().await;
}

/// Services that hold it off, the first that is there is asked. All let go of what somebody asked
/// for who is no longer on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    /// GNOME's session, and those that are like it: Cinnamon's and MATE's.
    Session,
    /// KDE's and others'.
    ScreenSaver,
    /// Every desktop's, for programs in a sandbox.
    Portal,
}

const KEEPERS: [Keeper; 3] = [Keeper::Session, Keeper::ScreenSaver, Keeper::Portal];

/// What is held off, and what ends that.
#[derive(Debug)]
enum Held {
    Cookie(Keeper, u32),
    Request(OwnedObjectPath),
}

async fn follow(bus: &Connection, mut wanted: watch::Receiver<Wanted>) -> zbus::Result<()> {
    loop {
        if wanted.wait_for(|wanted| wanted.keep_awake).await.is_err() {
            return Ok(());
        }
        let mut owners = owner_changes(bus).await?;
        let held = hold(bus).await;
        let ended = tokio::select! {
            ended = wanted.wait_for(|wanted| !wanted.keep_awake) => ended.is_err(),
            // It ends with its service, and a service that came may be the better one.
            change = owners.next() => {
                change.ok_or_else(gone)?;
                false
            }
        };
        if let Some(held) = held {
            let name = held.service();
            if let Err(error) = held.release(bus).await {
                tracing::debug!(%error, name, "the desktop's idle time had ended already");
            }
        }
        if ended {
            return Ok(());
        }
    }
}

type Changes = Pin<Box<dyn Stream<Item = ()> + Send>>;

async fn owner_changes(bus: &Connection) -> zbus::Result<SelectAll<Changes>> {
    let asked = DBusProxy::new(bus).await?;
    let mut all: Vec<Changes> = Vec::new();
    for keeper in KEEPERS {
        let changes = asked
            .receive_name_owner_changed_with_args(&[(0, keeper.service())])
            .await?;
        all.push(Box::pin(changes.map(drop)));
    }
    Ok(select_all(all))
}

async fn hold(bus: &Connection) -> Option<Held> {
    let asked = DBusProxy::new(bus).await.ok()?;
    for keeper in KEEPERS {
        let name = BusName::try_from(keeper.service()).ok()?;
        if !asked.name_has_owner(name).await.unwrap_or_default() {
            continue;
        }
        match keeper.hold(bus).await {
            Ok(held) => return Some(held),
            Err(error) => tracing::debug!(%error, ?keeper, "it does not hold off the idle time"),
        }
    }
    None
}

impl Keeper {
    fn service(self) -> &'static str {
        match self {
            Self::Session => "org.gnome.SessionManager",
            Self::ScreenSaver => "org.freedesktop.ScreenSaver",
            Self::Portal => "org.freedesktop.portal.Desktop",
        }
    }

    async fn object(self, bus: &Connection) -> zbus::Result<Proxy<'static>> {
        let (path, interface) = match self {
            Self::Session => ("/org/gnome/SessionManager", self.service()),
            Self::ScreenSaver => ("/org/freedesktop/ScreenSaver", self.service()),
            Self::Portal => (
                "/org/freedesktop/portal/desktop",
                "org.freedesktop.portal.Inhibit",
            ),
        };
        object(bus, self.service(), path, interface).await
    }

    async fn hold(self, bus: &Connection) -> zbus::Result<Held> {
        /// Of no window.
        const NO_WINDOW: u32 = 0;
        let keeper = self.object(bus).await?;
        Ok(match self {
            Self::Session => {
                let asked = keeper.call("Inhibit", &(WHO, NO_WINDOW, WHY_AWAKE, IDLE));
                Held::Cookie(self, asked.await?)
            }
            Self::ScreenSaver => {
                Held::Cookie(self, keeper.call("Inhibit", &(WHO, WHY_AWAKE)).await?)
            }
            Self::Portal => {
                let options = [("reason", Value::from(WHY_AWAKE))];
                let options = HashMap::from(options);
                Held::Request(keeper.call("Inhibit", &("", IDLE, options)).await?)
            }
        })
    }
}

impl Held {
    fn service(&self) -> &'static str {
        match self {
            Self::Cookie(keeper, _) => keeper.service(),
            Self::Request(_) => Keeper::Portal.service(),
        }
    }

    async fn release(self, bus: &Connection) -> zbus::Result<()> {
        match self {
            Self::Cookie(keeper, cookie) => {
                let method = match keeper {
                    Keeper::Session => "Uninhibit",
                    Keeper::ScreenSaver | Keeper::Portal => "UnInhibit",
                };
                keeper.object(bus).await?.call(method, &(cookie,)).await
            }
            Self::Request(path) => {
                let (service, interface) =
                    (Keeper::Portal.service(), "org.freedesktop.portal.Request");
                let request = object(bus, service, path.into_inner(), interface).await?;
                request.call("Close", &()).await
            }
        }
    }
}
