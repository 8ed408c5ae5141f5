//! The node as others hold it: commands in, one stream of snapshots out.

use std::time::Duration;

use infera_protocol::account::{LinkGrant, Linked, Ownership};
use infera_protocol::{LinkId, NodeId, NodeKey};
use tokio::sync::{mpsc, oneshot, watch};

use crate::balancer_link::LinkError;
use crate::caller::Caller;
use crate::controller::{Controller, Request};
pub use crate::node_config::{Around, Edges, ModelConfig, NodeConfig};
use crate::state::NodeSnapshot;
use crate::store::{Store, StoreError};

/// A running node. Clones are handles to the same one; it ends when the last is dropped.
#[derive(Clone)]
pub struct Node {
    id: NodeId,
    requests: mpsc::UnboundedSender<Request>,
    snapshots: watch::Receiver<NodeSnapshot>,
    caller: Caller,
}

/// The node has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has ended")]
pub struct Ended;

impl Node {
    /// Starts a node on the current tokio runtime.
    pub async fn start(
        config: NodeConfig,
        key: NodeKey,
        store: Store,
        edges: Edges,
    ) -> Result<Self, StoreError> {
        let id = key.id();
        let (requests, incoming) = mpsc::unbounded_channel();
        let (controller, snapshots) = Controller::new(config, key, store, edges, incoming).await?;
        let caller = controller.caller();
        tokio::spawn(controller.run());
        Ok(Self {
            id,
            requests,
            snapshots,
            caller,
        })
    }

    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The state as it changes; a few times a second at most.
    pub fn snapshots(&self) -> watch::Receiver<NodeSnapshot> {
        self.snapshots.clone()
    }

    /// The state at this moment.
    pub async fn snapshot(&self) -> Result<NodeSnapshot, Ended> {
        self.ask(Request::Snapshot).await
    }

    /// Takes no more jobs, for so long or until [`Node::resume`]. Jobs in progress are handed back
    /// unless `finish_first`.
    pub async fn pause(
        &self,
        duration: Option<Duration>,
        finish_first: bool,
    ) -> Result<NodeSnapshot, Ended> {
        self.ask(|reply| Request::Pause {
            duration,
            finish_first,
            reply,
        })
        .await
    }

    pub async fn resume(&self) -> Result<NodeSnapshot, Ended> {
        self.ask(Request::Resume).await
    }

    /// Leaves one device alone, or no longer: [`crate::state::DeviceStatus::id`]. The others go on.
    pub async fn pause_device(&self, device: String, pause: bool) -> Result<NodeSnapshot, Ended> {
        self.ask(|reply| Request::PauseDevice {
            device,
            pause,
            reply,
        })
        .await
    }

    /// Works for so long whatever the owner's rules say. A pause ends.
    pub async fn work_anyway(&self, duration: Duration) -> Result<NodeSnapshot, Ended> {
        self.ask(|reply| Request::WorkAnyway { duration, reply })
            .await
    }

    /// Hands jobs back and frees the GPU while its owner uses it. Returns at once.
    pub async fn own_use(&self, begins: bool) -> Result<(), Ended> {
        self.ask(|reply| Request::OwnUse { begins, reply }).await
    }

    /// Looks at the machine again, then gives the state.
    pub async fn check(&self) -> Result<NodeSnapshot, Ended> {
        self.ask(Request::Check).await
    }

    /// What an account granted with a linking code. Waits for a session.
    pub(crate) async fn link_grant(&self, link: LinkId) -> Result<LinkGrant, LinkError> {
        let call = self.caller.once(|to, token| to.link_grant(token, link));
        call.await
    }

    /// Says whose this node is. Waits for a session.
    pub(crate) async fn own(&self, ownership: &Ownership) -> Result<Linked, LinkError> {
        let call = self.caller.once(|to, token| to.own(token, *ownership));
        call.await
    }

    /// Says that this node is nobody's any more. Waits for a session.
    pub(crate) async fn disown(&self) -> Result<(), LinkError> {
        self.caller.once(|to, token| to.disown(token)).await
    }

    /// Hands back what is in progress and ends: within five seconds, also without a network.
    pub async fn shut_down(&self) {
        let (reply, ended) = oneshot::channel();
        if self.requests.send(Request::ShutDown(reply)).is_ok() {
            let _ = ended.await;
        }
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Ended> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }
}
