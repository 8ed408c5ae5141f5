//! The account that this machine belongs to: its key where that is kept here, how machines become an
//! account's, what an account asks of the balancer, and what it tells its machines.

pub mod client;
pub mod linking;
pub(crate) mod place;
pub(crate) mod report;
pub mod words;

use infera_protocol::account::{BadCommand, FleetAction};
use infera_protocol::{AccountId, LinkCode};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// What is kept of this machine's account. Its key is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSetting {
    /// Whose machine this is.
    pub id: AccountId,
    /// The account's key is on this machine.
    pub holds_key: bool,
    /// Addresses of the networks in which this machine is the account's.
    pub networks: Vec<String>,
}

/// What is kept of accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accounts {
    /// This machine's.
    pub account: Option<AccountSetting>,
    /// A linking code that was typed, and waits until the network can be asked.
    pub code: Option<LinkCode>,
    /// Addresses of networks that are to be told that this machine is nobody's any more.
    pub leaving: Vec<String>,
}

impl Accounts {
    /// Whose this machine is in a network.
    pub fn in_network(&self, address: Option<&str>) -> Option<AccountId> {
        let account = self.account.as_ref()?;
        let is_linked = account.networks.iter().any(|it| Some(&**it) == address);
        is_linked.then_some(account.id)
    }

    /// This machine is an account's in a network now.
    pub(crate) fn linked(&mut self, id: AccountId, address: &str) {
        self.leaving.retain(|one| one != address);
        match &mut self.account {
            Some(account) if account.id == id => {
                account.networks.retain(|one| one != address);
                account.networks.push(address.to_owned());
            }
            // Another one's: what it was in other networks is over there, too.
            other => {
                let before = other
                    .take()
                    .map_or_else(Vec::new, |account| account.networks);
                self.leaving
                    .extend(before.into_iter().filter(|one| one != address));
                *other = Some(AccountSetting {
                    id,
                    holds_key: false,
                    networks: vec![address.to_owned()],
                });
            }
        }
    }

    /// This machine is nobody's, from now on.
    pub(crate) fn leave(&mut self) {
        self.code = None;
        if let Some(account) = self.account.take() {
            self.leaving.extend(account.networks);
            self.leaving.sort_unstable();
            self.leaving.dedup();
        }
    }
}

/// What a running node knows of its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Belonging {
    /// Whose it is in the network that it works for.
    pub account: Option<AccountId>,
    /// Whether it does what its account tells it from afar.
    pub takes_commands: bool,
    /// As its owner calls it.
    pub name: String,
}

/// What came from afar, and what this machine did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct CommandSeen {
    /// When it came: unix time in milliseconds.
    pub at_ms: i64,
    /// Who it says it is from.
    pub account: AccountId,
    /// What was to be done.
    pub action: FleetAction,
    /// Whether it was.
    pub outcome: CommandOutcome,
}

/// What became of a command from afar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum CommandOutcome {
    /// It was done.
    Done,
    /// The owner of this machine has not allowed it.
    NotAllowed,
    /// It was not signed by the account that this machine belongs to.
    Forged,
    /// It was under way for too long, or the clocks differ.
    Stale,
    /// It was done before, or a newer one was.
    Replayed,
}

impl From<BadCommand> for CommandOutcome {
    fn from(fault: BadCommand) -> Self {
        match fault {
            BadCommand::Forged => Self::Forged,
            BadCommand::Stale => Self::Stale,
            BadCommand::Replayed => Self::Replayed,
        }
    }
}

impl CommandSeen {
    /// For the log and the command line.
    pub fn sentence(&self) -> String {
        let who = self.account.short();
        let what = match self.action {
            FleetAction::Pause => "pause",
            FleetAction::Snooze { .. } => "snooze",
            FleetAction::Resume => "resume",
        };
        match self.outcome {
            CommandOutcome::Done => format!("Account {who} told this machine to {what}"),
            CommandOutcome::NotAllowed => format!(
                "Account {who} wanted this machine to {what}, which its owner has not allowed here"
            ),
            CommandOutcome::Forged => format!(
                "Somebody who calls themself account {who} wanted this machine to {what}. It is not signed by the account of this machine, and was not done"
            ),
            CommandOutcome::Stale => format!(
                "Account {who} wanted this machine to {what}. The command was too old, or the clocks of the two machines differ by more than two minutes"
            ),
            CommandOutcome::Replayed => format!(
                "Somebody sent a command of account {who} to {what} once more. It was not done again"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "https://a.example";
    const B: &str = "https://b.example";

    fn account(number: u8) -> AccountId {
        AccountId::from_bytes([number; 32])
    }

    #[test]
    fn a_machine_is_one_accounts_and_in_some_networks() {
        let mut accounts = Accounts::default();
        assert_eq!(accounts.in_network(Some(A)), None);
        accounts.linked(account(1), A);
        accounts.linked(account(1), A);
        accounts.linked(account(1), B);
        assert_eq!(accounts.in_network(Some(A)), Some(account(1)));
        assert_eq!(accounts.in_network(None), None);
        assert_eq!(accounts.account.as_ref().unwrap().networks, [A, B]);
        accounts.linked(account(2), B);
        assert_eq!(accounts.in_network(Some(A)), None);
        assert_eq!(accounts.in_network(Some(B)), Some(account(2)));
        assert_eq!(accounts.leaving, [A], "the old one has to be told there");
        accounts.linked(account(2), A);
        assert_eq!(accounts.leaving, [""; 0]);
        accounts.leave();
        assert_eq!(
            (accounts.account.as_ref(), &*accounts.leaving),
            (None, &[A.to_owned(), B.to_owned()][..])
        );
    }
}
