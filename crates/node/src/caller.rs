//! Calls to the balancer within whatever session there is, again until they are answered.

use std::sync::Arc;

use infera_protocol::node_api::Refusal;
use tokio::sync::{mpsc, watch};

use crate::balancer_link::{BalancerLink, Call, LinkError, Token};
use crate::clock::{Backoff, Entropy};

/// Clones share the session.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) link: Option<Arc<dyn BalancerLink>>,
    pub(crate) session: watch::Receiver<Option<Token>>,
    /// Takes tokens that the balancer does not know any more.
    pub(crate) expired: mpsc::UnboundedSender<Token>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Caller {
    /// One try, once there is a session.
    pub(crate) async fn once<T>(
        &self,
        call: impl FnOnce(&dyn BalancerLink, Token) -> Call<T>,
    ) -> Result<T, LinkError> {
        let Some(link) = &self.link else {
            // Nobody to call, so there never is a session: whoever waits here ends with the node.
            return std::future::pending().await;
        };
        let token = self.token().await;
        let result = call(&**link, token.clone()).await;
        if let Err(error) = &result
            && error.ends_session()
        {
            let _ = self.expired.send(token);
        }
        result
    }

    /// Tries until the balancer has answered: with what was asked for, or with a definite no.
    pub(crate) async fn until_answered<T>(
        &self,
        call: impl Fn(&dyn BalancerLink, Token) -> Call<T>,
    ) -> Result<T, Refusal> {
        let mut backoff = Backoff::new(Arc::clone(&self.entropy));
        loop {
            let error = match self.once(&call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error.refusal() {
                Some(refusal) if !error.ends_session() => return Err(refusal.clone()),
                _ => tokio::time::sleep(backoff.next_delay()).await,
            }
        }
    }

    async fn token(&self) -> Token {
        let mut session = self.session.clone();
        loop {
            if let Some(token) = session.borrow_and_update().clone() {
                return token;
            }
            if session.changed().await.is_err() {
                // The node is ending: whoever waits here ends with it.
                std::future::pending::<()>().await;
            }
        }
    }
}
