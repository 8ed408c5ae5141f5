//! A simulated owner of nodes: its calls to the balancer.

use infera_balancer::Edges;
use infera_protocol::account::{
    AccountChallengeRequest, AccountKeyRow, AccountSession, AccountSessionRequest, KeyRequest,
    Linked, NewKey, Overview, account_session_digest,
};
use infera_protocol::node_api::{Challenge, Refusal};
use infera_protocol::{AccountKey, LinkCode, Route, VERSION};
use reqwest::{Client, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::network::Network;
use crate::node::{SimNode, answer};

/// One account with an open session.
pub struct SimAccount {
    pub key: AccountKey,
    pub token: String,
    base: String,
    http: Client,
}

impl SimAccount {
    pub async fn open(network: &Network, number: u8) -> Self {
        let key = AccountKey::from_secret(&[number; 32]);
        let (base, http) = (network.base.clone(), network.http.clone());
        let asked = AccountChallengeRequest {
            version: VERSION,
            account: key.id(),
        };
        let call = format!("{base}/account/v1/challenge");
        let challenge: Challenge = answer(http.post(call).json(&asked)).await.unwrap();
        let challenge = challenge.challenge;
        let request = AccountSessionRequest {
            version: VERSION,
            account: key.id(),
            challenge,
            signature: key.sign(account_session_digest(&key.id(), &challenge)),
        };
        let call = format!("{base}/account/v1/session");
        let session: AccountSession = answer(http.post(call).json(&request)).await.unwrap();
        Self {
            key,
            token: session.token,
            base,
            http,
        }
    }

    /// A code that is good for a minute.
    pub fn code() -> LinkCode {
        LinkCode::from_bytes(Edges::system().random())
    }

    /// Makes a node the account's.
    pub async fn link(&self, node: &SimNode) -> Result<Linked, Refusal> {
        let code = Self::code();
        let until_ms = Edges::system().now_ms() + 60_000;
        let ownership = code.ownership(code.grant(&self.key, 1, until_ms), node.id);
        node.post("/node/v1/account", &ownership).await
    }

    pub async fn create_key(
        &self,
        name: &str,
        daily_limit: Option<i64>,
        route: Route,
    ) -> Result<String, Refusal> {
        let request = KeyRequest {
            name: name.to_owned(),
            daily_limit,
            route,
        };
        let made: NewKey = self.call(Method::POST, "keys", Some(&request)).await?;
        Ok(made.key)
    }

    pub async fn keys(&self) -> Vec<AccountKeyRow> {
        self.get("keys").await.unwrap()
    }

    pub async fn overview(&self) -> Overview {
        self.get("overview").await.unwrap()
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// A call below `/account/v1`.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Refusal> {
        let request = self
            .http
            .request(method, format!("{}/account/v1/{path}", self.base))
            .bearer_auth(&self.token);
        answer(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }
}
