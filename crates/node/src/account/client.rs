//! What an account asks a balancer, with its key: its books, its keys, its machines. One session is
//! opened when it is needed, and again when it is over.

use infera_protocol::account::{
    AccountChallengeRequest, AccountKey, AccountKeyRow, AccountSession, AccountSessionRequest,
    FleetCommand, KeyRequest, LinkGrant, Machine, NewKey, Overview, Statement,
    account_session_digest,
};
use infera_protocol::node_api::Challenge;
use infera_protocol::{AccountId, NodeId, VERSION};
use reqwest::{Method, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::balancer_link::{LinkError, Token};
use crate::http_link::{HttpLink, read};

/// One account at one balancer.
#[derive(Debug)]
pub struct AccountLink {
    http: HttpLink,
    key: AccountKey,
    session: Mutex<Option<Token>>,
}

impl AccountLink {
    /// Nothing is asked yet.
    pub fn new(http: HttpLink, key: AccountKey) -> Self {
        Self {
            http,
            key,
            session: Mutex::default(),
        }
    }

    /// Whose it is.
    pub fn id(&self) -> AccountId {
        self.key.id()
    }

    /// The account's key.
    pub fn key(&self) -> &AccountKey {
        &self.key
    }

    /// What the account has.
    pub async fn overview(&self) -> Result<Overview, LinkError> {
        self.ask(Method::GET, "overview", None).await
    }

    /// What its keys spent in the last days.
    pub async fn statement(&self, days: u32) -> Result<Statement, LinkError> {
        let path = format!("statement?days={days}");
        self.ask(Method::GET, &path, None).await
    }

    /// All keys that it ever had.
    pub async fn keys(&self) -> Result<Vec<AccountKeyRow>, LinkError> {
        self.ask(Method::GET, "keys", None).await
    }

    /// Makes a key, which is shown this one time.
    pub async fn create_key(&self, request: &KeyRequest) -> Result<NewKey, LinkError> {
        self.ask(Method::POST, "keys", body(request)).await
    }

    /// Ends a key.
    pub async fn revoke_key(&self, name: &str) -> Result<(), LinkError> {
        self.tell(Method::DELETE, &format!("keys/{}", segment(name)), None)
            .await
    }

    /// Lets whoever has a linking code become its node.
    pub async fn put_link(&self, grant: &LinkGrant) -> Result<(), LinkError> {
        self.tell(Method::POST, "links", body(grant)).await
    }

    /// Its nodes.
    pub async fn fleet(&self) -> Result<Vec<Machine>, LinkError> {
        self.ask(Method::GET, "fleet", None).await
    }

    /// Has a command carried to one of them.
    pub async fn command(&self, command: &FleetCommand) -> Result<(), LinkError> {
        let path = format!("fleet/{}/command", command.node);
        self.tell(Method::POST, &path, body(command)).await
    }

    /// A node is the account's no more.
    pub async fn unlink(&self, node: NodeId) -> Result<(), LinkError> {
        self.tell(Method::DELETE, &format!("fleet/{node}"), None)
            .await
    }

    async fn ask<T: DeserializeOwned + Shown>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, LinkError> {
        let answer = self.send(method, path, body).await?;
        Ok(read::<T>(answer).await?.shown())
    }

    /// For calls that answer 204.
    async fn tell(&self, method: Method, path: &str, body: Option<Value>) -> Result<(), LinkError> {
        self.send(method, path, body).await.map(drop)
    }

    /// Within a session. One that is over is opened anew, once.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Response, LinkError> {
        let old = self.session.lock().await.clone();
        if let Some(token) = &old {
            let sent = self
                .http
                .account(method.clone(), path, Some(token), body.as_ref());
            match sent.await {
                Err(error) if error.ends_session() => {}
                answer => return answer,
            }
        }
        let token = self.another_session(old).await?;
        let sent = self.http.account(method, path, Some(&token), body.as_ref());
        sent.await
    }

    /// Somebody else may have opened one in place of the old one meanwhile.
    async fn another_session(&self, old: Option<Token>) -> Result<Token, LinkError> {
        let mut session = self.session.lock().await;
        match &*session {
            Some(token) if Some(token) != old.as_ref() => Ok(token.clone()),
            _ => Ok(session.insert(self.open().await?).clone()),
        }
    }

    async fn open(&self) -> Result<Token, LinkError> {
        let (version, account) = (VERSION, self.key.id());
        let asked = json!(AccountChallengeRequest { version, account });
        let sent = self
            .http
            .account(Method::POST, "challenge", None, Some(&asked));
        let given: Challenge = read(sent.await?).await?;
        let challenge = given.challenge;
        let request = json!(AccountSessionRequest {
            version,
            account,
            challenge,
            signature: self.key.sign(account_session_digest(&account, &challenge)),
        });
        let sent = self
            .http
            .account(Method::POST, "session", None, Some(&request));
        let session: AccountSession = read(sent.await?).await?;
        Ok(Token::new(&session.token))
    }
}

/// Our own messages are always JSON.
fn body(message: &impl Serialize) -> Option<Value> {
    serde_json::to_value(message).ok()
}

/// A name as a part of a path.
fn segment(name: &str) -> String {
    let mut url = Url::parse("http://a/").ok();
    if let Some(url) = &mut url
        && let Ok(mut segments) = url.path_segments_mut()
    {
        segments.clear().push(name);
    }
    url.map_or_else(String::new, |url| url.path()[1..].to_owned())
}

/// An answer with text for people, which a balancer may not use to deceive them.
pub(crate) trait Shown {
    fn shown(self) -> Self;
}

fn line(text: &str) -> String {
    infera_protocol::shown::line(text).into_owned()
}

impl<T: Shown> Shown for Vec<T> {
    fn shown(self) -> Self {
        self.into_iter().map(Shown::shown).collect()
    }
}

impl Shown for Overview {
    fn shown(self) -> Self {
        self
    }
}

impl Shown for NewKey {
    fn shown(self) -> Self {
        Self {
            key: line(&self.key),
        }
    }
}

impl Shown for AccountKeyRow {
    fn shown(self) -> Self {
        Self {
            name: line(&self.name),
            ..self
        }
    }
}

impl Shown for Statement {
    fn shown(mut self) -> Self {
        for spending in &mut self.spent {
            spending.key = line(&spending.key);
            spending.model = line(&spending.model);
        }
        self
    }
}

impl Shown for Machine {
    fn shown(mut self) -> Self {
        self.paused = self.paused.as_deref().map(line);
        if let Some(report) = &mut self.report {
            report.name = line(&report.name);
            report.software = line(&report.software);
            for device in &mut report.devices {
                device.name = line(&device.name);
                device.paused = device.paused.as_deref().map(line);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_part_of_a_path() {
        for (name, path) in [
            ("laptop", "laptop"),
            ("a/../b", "a%2F..%2Fb"),
            ("ä?", "%C3%A4%3F"),
        ] {
            assert_eq!(segment(name), path);
        }
    }
}
