//! The account that this machine belongs to: making, restoring and leaving one, linking machines to
//! it, and what it asks of the network.

use std::sync::Arc;
use std::time::Duration;

use infera_protocol::account::{
    AccountKey, AccountKeyRow, FleetAction, FleetCommand, KeyRequest, Machine, NewKey, Overview,
    Statement,
};
use infera_protocol::node_api::RefusalCode;
use infera_protocol::{LinkCode, NodeId};

use super::App;
use super::api::{
    AccountBackup, AccountFault, AccountWords, ApiError, AppState, ByCode, ByName, ByNode,
    FleetAnswer, FleetFault, FleetOrder, LinkCodeRequest, LinkState, NewLinkCode, Refusal,
    SpendingQuery,
};
use super::supervisor::Running;
use crate::account::client::AccountLink;
use crate::account::linking::{self, LinkFault};
use crate::account::place::Place;
use crate::account::{AccountSetting, words};
use crate::balancer_link::LinkError;
use crate::clock::{Backoff, random_32};
use crate::http_link::{HttpLink, Trust};
use crate::networks::NetworkSetting;
use crate::node::Node;
use crate::state::Connection;
use crate::unreachable::Unreachable;

const MOST_USES: u32 = 1000;
const LONGEST_CODE_SECONDS: u32 = 7 * 24 * 3600;
const MOST_DAYS: u32 = 92;
/// A node that has a session is asked through it, and that takes no longer.
const LINK_LIMIT: Duration = Duration::from_secs(15);

/// What is to be done with the network that the node is connected to.
enum Errand {
    Leave,
    UseCode(LinkCode),
    UseKey,
}

impl App {
    pub(super) async fn create_account(&self, (): ()) -> Result<AppState, ApiError> {
        if self.0.preferences.borrow().accounts.account.is_some() {
            return Err(Refusal::HasAccount.into());
        }
        self.keep_account(&AccountKey::from_secret(&random_32(&*self.0.entropy)))
            .await
    }

    pub(super) async fn account_backup(&self, (): ()) -> Result<AccountBackup, ApiError> {
        self.held_account()?;
        let key = self.place().read().await?;
        Ok(AccountBackup {
            words: words::of(&key),
            file_name: format!("infera-account-{}.txt", key.id().short()),
            text: words::backup(&key),
        })
    }

    pub(super) async fn restore_account(&self, asked: AccountWords) -> Result<AppState, ApiError> {
        let key = words::read(&asked.words).map_err(|fault| Refusal::AccountWords { fault })?;
        let account = self.0.preferences.borrow().accounts.account.clone();
        if account.is_some_and(|account| account.id != key.id()) {
            return Err(Refusal::HasAccount.into());
        }
        self.keep_account(&key).await
    }

    pub(super) async fn remove_account(&self, (): ()) -> Result<AppState, ApiError> {
        let account = self.account()?;
        if account.holds_key {
            self.place().forget().await?;
        }
        self.0.account_link.lock().await.take();
        self.0.link_fault.send_replace(None);
        self.change(|preferences| preferences.accounts.leave())
    }

    pub(super) async fn unlink_machine(&self, (): ()) -> Result<AppState, ApiError> {
        if self.account()?.holds_key {
            return Err(Refusal::KeyIsHere.into());
        }
        self.remove_account(()).await
    }

    pub(super) async fn make_link_code(
        &self,
        asked: LinkCodeRequest,
    ) -> Result<NewLinkCode, ApiError> {
        for (setting, asked, most) in [
            ("uses", asked.uses, MOST_USES),
            ("seconds", asked.seconds, LONGEST_CODE_SECONDS),
        ] {
            if !(1..=most).contains(&asked) {
                let setting = setting.to_owned();
                return Err(Refusal::OutOfRange {
                    setting,
                    asked,
                    least: 1,
                    most,
                }
                .into());
            }
        }
        let link = self.account_link().await?;
        let code = linking::new_code(&*self.0.entropy);
        let expires_ms = self.0.clock.now_ms() + i64::from(asked.seconds) * 1000;
        let grant = code.grant(link.key(), asked.uses, expires_ms);
        self.answer(link.put_link(&grant).await)?;
        Ok(NewLinkCode {
            code: code.to_string(),
            uses: asked.uses,
            expires_ms,
        })
    }

    pub(super) async fn link_machine(&self, asked: ByCode) -> Result<AppState, ApiError> {
        let code: LinkCode = asked.code.parse().map_err(LinkFault::from)?;
        let account = self.0.preferences.borrow().accounts.account.clone();
        if account.is_some_and(|account| account.holds_key) {
            return Err(Refusal::HasAccount.into());
        }
        self.0.link_fault.send_replace(None);
        if let Some((node, address)) = self.connected() {
            let one_at_a_time = self.0.linking.lock().await;
            match self
                .run_errand(&Errand::UseCode(code.clone()), &node, &address)
                .await
            {
                Ok(()) => return Ok(self.publish(None)),
                Err(fault) if fault.passes() => {}
                Err(fault) => return Err(fault.into()),
            }
            drop(one_at_a_time);
        }
        // It is used as soon as the network can be asked.
        self.change(|preferences| preferences.accounts.code = Some(code))
    }

    pub(super) async fn account_overview(&self, (): ()) -> Result<Overview, ApiError> {
        let link = self.account_link().await?;
        self.answer(link.overview().await)
    }

    pub(super) async fn spending(&self, query: SpendingQuery) -> Result<Statement, ApiError> {
        let link = self.account_link().await?;
        self.answer(link.statement(query.days.clamp(1, MOST_DAYS)).await)
    }

    pub(super) async fn account_keys(&self, (): ()) -> Result<Vec<AccountKeyRow>, ApiError> {
        let link = self.account_link().await?;
        self.answer(link.keys().await)
    }

    pub(super) async fn create_key(&self, request: KeyRequest) -> Result<NewKey, ApiError> {
        let link = self.account_link().await?;
        self.answer(link.create_key(&request).await)
    }

    pub(super) async fn revoke_key(&self, asked: ByName) -> Result<Vec<AccountKeyRow>, ApiError> {
        let link = self.account_link().await?;
        self.answer(link.revoke_key(&asked.name).await)?;
        self.answer(link.keys().await)
    }

    pub(super) async fn network_certificate(&self, (): ()) -> Result<String, ApiError> {
        let network = self.active_network()?;
        let asked = self.http(&network)?.certificate().await;
        let text = self.answer(asked)?;
        if text.starts_with("-----BEGIN CERTIFICATE-----") {
            Ok(text)
        } else {
            Err(Refusal::NoCertificate.into())
        }
    }

    pub(super) async fn fleet(&self, (): ()) -> Result<Vec<Machine>, ApiError> {
        let link = self.account_link().await?;
        self.answer(link.fleet().await)
    }

    pub(super) async fn command_fleet(
        &self,
        order: FleetOrder,
    ) -> Result<Vec<FleetAnswer>, ApiError> {
        let link = self.account_link().await?;
        let machines = self.answer(link.fleet().await)?;
        let nodes = if order.nodes.is_empty() {
            machines.iter().map(|machine| machine.node).collect()
        } else {
            order.nodes
        };
        let mut answers = Vec::with_capacity(nodes.len());
        for node in nodes {
            let machine = machines.iter().find(|machine| machine.node == node);
            let fault = self.command_one(&link, node, machine, order.action).await;
            answers.push(FleetAnswer { node, fault });
        }
        Ok(answers)
    }

    pub(super) async fn unlink_node(&self, asked: ByNode) -> Result<Vec<Machine>, ApiError> {
        let link = self.account_link().await?;
        if self.this_node() == Some(asked.node) {
            return Err(Refusal::KeyIsHere.into());
        }
        self.answer(link.unlink(asked.node).await)?;
        self.answer(link.fleet().await)
    }

    async fn command_one(
        &self,
        link: &AccountLink,
        node: NodeId,
        machine: Option<&Machine>,
        action: FleetAction,
    ) -> Option<FleetFault> {
        if self.this_node() == Some(node) {
            // Here it is the owner's own word.
            let done = self.do_here(action).await;
            return done.err().map(|error| FleetFault::Other {
                message: error.message,
            });
        }
        let Some(machine) = machine else {
            return Some(FleetFault::NoSuch);
        };
        if !machine.here {
            return Some(FleetFault::NotHere);
        }
        let report = machine.report.as_ref();
        if !report.is_some_and(|report| report.takes_commands) {
            return Some(FleetFault::NotAllowed);
        }
        let command = FleetCommand::new(link.key(), node, self.0.clock.now_ms(), action);
        let error = link.command(&command).await.err()?;
        Some(match error.refusal().map(|refusal| refusal.code) {
            Some(RefusalCode::NoSuch) => FleetFault::NoSuch,
            _ => FleetFault::Other {
                message: error.to_string(),
            },
        })
    }

    async fn do_here(&self, action: FleetAction) -> Result<(), ApiError> {
        let now_ms = self.0.clock.now_ms();
        let duration = match action {
            FleetAction::Snooze { until_ms } => {
                let left = until_ms.saturating_sub(now_ms);
                Some(Duration::from_millis(left.max(0).unsigned_abs()))
            }
            FleetAction::Pause | FleetAction::Resume => None,
        };
        let ask = |node: Node| async move {
            match action {
                FleetAction::Resume => node.resume().await,
                FleetAction::Pause | FleetAction::Snooze { .. } => {
                    node.pause(duration, false).await
                }
            }
        };
        let snapshot = self.ask_node(ask).await?;
        self.publish(Some(snapshot));
        Ok(())
    }

    /// Keeps the key where keys are kept, and remembers whose this machine is.
    async fn keep_account(&self, key: &AccountKey) -> Result<AppState, ApiError> {
        self.place().keep(key).await?;
        tracing::info!(account = %key.id().short(), "the account's key is on this machine");
        self.0.account_link.lock().await.take();
        self.0.link_fault.send_replace(None);
        self.change(|preferences| {
            let accounts = &mut preferences.accounts;
            accounts.code = None;
            let networks = accounts.account.take().map(|account| account.networks);
            accounts.account = Some(AccountSetting {
                id: key.id(),
                holds_key: true,
                networks: networks.unwrap_or_default(),
            });
        })
    }

    /// Makes this machine the account's wherever it works, and nobody's where it was left.
    pub(super) async fn keep_linked(self) {
        let mut states = self.states();
        let mut preferences = self.0.preferences.subscribe();
        let mut ended = std::pin::pin!(self.ended());
        let mut backoff = Backoff::new(Arc::clone(&self.0.entropy));
        loop {
            let linking = self.0.linking.lock().await;
            let mut wait = None;
            if let Some((node, address)) = self.connected()
                && let Some(errand) = self.errand(&address)
            {
                match self.run_errand(&errand, &node, &address).await {
                    Ok(()) => backoff.reset(),
                    Err(fault) => {
                        tracing::warn!(%fault, "the account's machine could not be linked");
                        if matches!(errand, Errand::UseCode(_)) && !fault.passes() {
                            let forget = |it: &mut super::Preferences| it.accounts.code = None;
                            if let Err(error) = self.change(forget) {
                                tracing::warn!(%error, "a linking code stays though it is of no use");
                            }
                        }
                        self.0.link_fault.send_replace(Some(fault));
                        self.publish(None);
                        wait = Some(backoff.next_delay());
                    }
                }
            }
            drop(linking);
            let again = async {
                if let Some(delay) = wait {
                    tokio::time::sleep(delay).await;
                    return;
                }
                tokio::select! {
                    Ok(()) = states.changed() => {}
                    Ok(()) = preferences.changed() => {}
                }
            };
            tokio::select! {
                () = again => {}
                () = &mut ended => return,
            }
        }
    }

    fn errand(&self, address: &str) -> Option<Errand> {
        let preferences = self.0.preferences.borrow();
        let accounts = &preferences.accounts;
        if let Some(code) = &accounts.code {
            return Some(Errand::UseCode(code.clone()));
        }
        let here = |list: &[String]| list.iter().any(|one| one == address);
        if here(&accounts.leaving) {
            return Some(Errand::Leave);
        }
        let account = accounts.account.as_ref()?;
        (account.holds_key && !here(&account.networks)).then_some(Errand::UseKey)
    }

    async fn run_errand(
        &self,
        errand: &Errand,
        node: &Node,
        address: &str,
    ) -> Result<(), LinkFault> {
        let now_ms = self.0.clock.now_ms();
        let work = async {
            match errand {
                Errand::Leave => {
                    node.disown().await?;
                    Ok(None)
                }
                Errand::UseCode(code) => linking::by_code(node, code, now_ms).await.map(Some),
                Errand::UseKey => {
                    let key = self.place().read().await.map_err(|error| {
                        let reason = Unreachable::other(&error);
                        LinkFault::NoAnswer { reason }
                    })?;
                    let linked = linking::by_key(node, &key, &*self.0.entropy, now_ms);
                    linked.await.map(Some)
                }
            }
        };
        let silent = |_| LinkFault::NoAnswer {
            reason: Unreachable::TooSlow,
        };
        let account = tokio::time::timeout(LINK_LIMIT, work)
            .await
            .map_err(silent)??;
        let kept = self.change(|preferences| {
            let accounts = &mut preferences.accounts;
            if let Some(account) = account {
                accounts.linked(account, address);
                accounts.code = None;
            } else {
                accounts.leaving.retain(|one| one != address);
            }
        });
        match kept {
            Ok(_) => {
                self.0.link_fault.send_replace(None);
                self.publish(None);
                Ok(())
            }
            Err(error) => Err(LinkFault::NoAnswer {
                reason: Unreachable::other(&error),
            }),
        }
    }

    /// The node and its network's address, while events flow between them.
    fn connected(&self) -> Option<(Node, String)> {
        let Running::Node { node, .. } = &*self.0.running.borrow() else {
            return None;
        };
        let snapshots = node.snapshots();
        let snapshot = snapshots.borrow();
        let is_connected = matches!(snapshot.connection, Connection::Connected { .. });
        is_connected.then(|| (node.clone(), snapshot.balancer.clone()))
    }

    fn this_node(&self) -> Option<NodeId> {
        let states = self.states();
        let state = states.borrow();
        state.node.as_ref().map(|node| node.node)
    }

    fn account(&self) -> Result<AccountSetting, Refusal> {
        let preferences = self.0.preferences.borrow();
        preferences
            .accounts
            .account
            .clone()
            .ok_or(Refusal::NoAccount)
    }

    fn held_account(&self) -> Result<AccountSetting, Refusal> {
        let account = self.account()?;
        if account.holds_key {
            Ok(account)
        } else {
            Err(Refusal::AccountElsewhere)
        }
    }

    fn place(&self) -> Place {
        Place::beside(&self.0.key, self.0.data.folder())
    }

    /// The account at the active network.
    async fn account_link(&self) -> Result<Arc<AccountLink>, ApiError> {
        let account = self.held_account()?;
        let network = self.active_network()?;
        let mut kept = self.0.account_link.lock().await;
        if let Some((at, link)) = &*kept
            && *at == network
            && link.id() == account.id
        {
            return Ok(Arc::clone(link));
        }
        let key = self.place().read().await?;
        let link = Arc::new(AccountLink::new(self.http(&network)?, key));
        *kept = Some((network, Arc::clone(&link)));
        Ok(link)
    }

    fn http(&self, network: &NetworkSetting) -> Result<HttpLink, ApiError> {
        let trust = Trust {
            roots: self.0.roots.as_deref(),
            fingerprint: network.fingerprint,
        };
        Ok(HttpLink::new(&network.address, trust)?)
    }

    fn active_network(&self) -> Result<NetworkSetting, Refusal> {
        let preferences = self.0.preferences.borrow();
        let network = preferences.settings.active_network();
        network.cloned().ok_or(Refusal::NoNetwork)
    }

    fn answer<T>(&self, answer: Result<T, LinkError>) -> Result<T, ApiError> {
        answer.map_err(|error| {
            let fault = error.refusal().and_then(|refusal| match refusal.code {
                RefusalCode::NoAccount => Some(AccountFault::NoMachine),
                RefusalCode::AccountFull => Some(AccountFault::Full),
                RefusalCode::NameTaken => Some(AccountFault::NameTaken),
                RefusalCode::NoSuch => Some(AccountFault::NoSuch),
                RefusalCode::Malformed => Some(AccountFault::Malformed),
                _ => None,
            });
            match (fault, self.active_network()) {
                (Some(fault), _) => Refusal::Account {
                    fault,
                    detail: error.to_string(),
                }
                .into(),
                (None, Ok(network)) => Refusal::NetworkSilent {
                    url: network.address,
                    reason: error.reason(),
                }
                .into(),
                (None, Err(refusal)) => refusal.into(),
            }
        })
    }
}

impl super::Preferences {
    /// What windows show of a linking code that was typed.
    pub(super) fn link_state(&self, fault: Option<&LinkFault>) -> Option<LinkState> {
        match fault {
            Some(fault) if !fault.passes() => Some(LinkState::Failed {
                fault: fault.clone(),
                message: fault.to_string(),
            }),
            _ => self.accounts.code.is_some().then_some(LinkState::Waiting),
        }
    }
}
