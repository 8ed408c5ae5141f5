//! Buses, and the services that come and go on them.

use std::time::Duration;

use futures_util::StreamExt as _;
use zbus::fdo::{DBusProxy, NameOwnerChangedStream, PropertiesChangedStream, PropertiesProxy};
use zbus::names::{BusName, InterfaceName, WellKnownName};
use zbus::proxy::CacheProperties;
use zbus::zvariant::{ObjectPath, OwnedValue};
use zbus::{Connection, MessageStream, Proxy};

use super::back_off::BackOff;

/// A bus or service that has not answered by then does not.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `follow` while there is a connection, and connects again when it is lost.
pub(super) async fn stay_connected<F: Future<Output = ()>>(
    address: String,
    first_pause: Duration,
    follow: impl Fn(Connection) -> F,
) {
    let mut pause = BackOff::new(first_pause);
    loop {
        match connect(&address).await {
            Ok(bus) => {
                pause.reset();
                tokio::select! {
                    () = follow(bus.clone()) => {}
                    () = lost(&bus) => {}
                }
                tracing::debug!(address, "the bus is gone");
            }
            Err(error) if pause.is_first() => {
                tracing::debug!(address, %error, "no bus: what its services know is unknown");
            }
            Err(_) => {}
        }
        pause.wait().await;
    }
}

async fn connect(address: &str) -> zbus::Result<Connection> {
    let connecting = zbus::connection::Builder::address(address)?
        .method_timeout(PATIENCE)
        .build();
    let connected = tokio::time::timeout(PATIENCE, connecting).await;
    connected.unwrap_or_else(|_| Err(zbus::Error::Failure("it does not answer".to_owned())))
}

async fn lost(bus: &Connection) {
    let mut messages = MessageStream::from(bus);
    while let Some(Ok(_)) = messages.next().await {}
}

/// A service, by the name that it has on its bus.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    pub(super) name: &'static str,
    /// The bus starts it when it is asked for, which is done if this is set.
    pub(super) wake: bool,
}

/// Runs `follow` while the service is there, and `clear` whenever it no longer is: nothing is known
/// then. Ends when the bus itself fails.
pub(super) async fn while_there<F: Future<Output = zbus::Result<()>>>(
    bus: &Connection,
    service: Service,
    clear: impl Fn(),
    follow: impl Fn() -> F,
) {
    if let Err(error) = watch(bus, service, &clear, follow).await {
        tracing::debug!(service = service.name, %error, "the bus does not tell of a service");
    }
    // The connection is about to end, or the bus is of no use: both are for the caller to see.
    std::future::pending::<()>().await;
}

async fn watch<F: Future<Output = zbus::Result<()>>>(
    bus: &Connection,
    service: Service,
    clear: &impl Fn(),
    follow: impl Fn() -> F,
) -> zbus::Result<()> {
    let asked = DBusProxy::new(bus).await?;
    let mut owners = asked
        .receive_name_owner_changed_with_args(&[(0, service.name)])
        .await?;
    let name = WellKnownName::try_from(service.name)?;
    let mut is_there = asked.name_has_owner(BusName::from(name.clone())).await?;
    if !is_there && service.wake {
        is_there = asked.start_service_by_name(name, 0).await.is_ok();
    }
    if !is_there {
        tracing::debug!(
            service = service.name,
            "not there: what it knows is unknown"
        );
    }
    let mut pause = BackOff::new(PATIENCE);
    loop {
        if !is_there {
            is_there = next_owner(&mut owners).await?;
            pause.reset();
            continue;
        }
        let clear = Clear(clear);
        tokio::select! {
            outcome = follow() => {
                let error = outcome.err();
                if pause.is_first() {
                    tracing::debug!(service = service.name, ?error, "the service fails");
                }
            }
            next = next_owner(&mut owners) => {
                is_there = next?;
                continue;
            }
        }
        drop(clear);
        tokio::select! {
            () = pause.wait() => {}
            next = next_owner(&mut owners) => is_there = next?,
        }
    }
}

/// Whether somebody has the name from now on.
async fn next_owner(owners: &mut NameOwnerChangedStream) -> zbus::Result<bool> {
    let change = owners.next().await.ok_or_else(gone)?;
    Ok(change.args()?.new_owner().is_some())
}

/// Also runs when the future that holds it is dropped because the connection is lost.
struct Clear<'a, F: Fn()>(&'a F);

impl<F: Fn()> Drop for Clear<'_, F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// An object's properties under one interface.
#[derive(Debug)]
pub(super) struct Properties {
    proxy: PropertiesProxy<'static>,
    interface: InterfaceName<'static>,
    changes: PropertiesChangedStream,
}

impl Properties {
    pub(super) async fn of(
        bus: &Connection,
        service: &'static str,
        path: String,
        interface: &'static str,
    ) -> zbus::Result<Self> {
        let proxy = PropertiesProxy::builder(bus)
            .destination(service)?
            .path(path)?
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let changes = proxy
            .receive_properties_changed_with_args(&[(0, interface)])
            .await?;
        Ok(Self {
            proxy,
            interface: InterfaceName::try_from(interface)?,
            changes,
        })
    }

    /// Its value now.
    pub(super) async fn get<T>(&self, name: &str) -> zbus::Result<T>
    where
        T: TryFrom<OwnedValue>,
        T::Error: Into<zbus::Error>,
    {
        let value = self.proxy.get(self.interface.clone(), name).await?;
        T::try_from(value).map_err(Into::into)
    }

    /// Waits until one of them changes.
    pub(super) async fn changed(&mut self) -> zbus::Result<()> {
        self.changes.next().await.map(drop).ok_or_else(gone)
    }
}

/// An object's methods and signals.
pub(super) async fn object(
    bus: &Connection,
    service: &'static str,
    path: impl TryInto<ObjectPath<'static>, Error: Into<zbus::Error>>,
    interface: &'static str,
) -> zbus::Result<Proxy<'static>> {
    zbus::proxy::Builder::new(bus)
        .destination(service)?
        .path(path)?
        .interface(interface)?
        .cache_properties(CacheProperties::No)
        .build()
        .await
}

/// What a stream of signals says by its end.
pub(super) fn gone() -> zbus::Error {
    zbus::Error::Failure("the connection has ended".to_owned())
}
