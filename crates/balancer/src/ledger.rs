//! The books: double-entry postings in integer micro-points, each written at most once.

use std::collections::BTreeMap;

use infera_protocol::node_api::Price;
use infera_protocol::{AccountId, JobId, MICRO_POINTS, NodeId};
use serde::Serialize;

use crate::canaries;
use crate::db::{Database, DbError, Write};

/// Who can hold points.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Account {
    /// Goes down as the client spends.
    Client(String),
    /// What clients have paid for work that is not settled.
    Escrow,
    /// Earned, but not verified.
    Pending(NodeId),
    Confirmed(NodeId),
    /// Earned by checking, but not confirmed by a canary.
    Held(NodeId),
    /// What nodes had earned for an account when they left it.
    Owner(AccountId),
    Network,
}

impl Account {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Client(name) => format!("client:{name}"),
            Self::Escrow => "escrow".to_owned(),
            Self::Pending(node) => format!("node:{node}:pending"),
            Self::Confirmed(node) => format!("node:{node}:confirmed"),
            Self::Held(node) => format!("node:{node}:held"),
            Self::Owner(account) => format!("account:{account}"),
            Self::Network => "network".to_owned(),
        }
    }
}

/// One entry: movements under one idempotency key that always sum to zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    key: String,
    amounts: BTreeMap<String, i64>,
}

impl Entry {
    pub(crate) fn new(key: String) -> Self {
        Self {
            key,
            amounts: BTreeMap::new(),
        }
    }

    #[must_use]
    pub(crate) fn transfer(mut self, from: &Account, to: &Account, amount: i64) -> Self {
        *self.amounts.entry(from.name()).or_default() -= amount;
        *self.amounts.entry(to.name()).or_default() += amount;
        self
    }

    /// Writes the entry, unless its key has been written before. Tells whether it was new.
    pub(crate) async fn post(&self, write: &mut Write<'_>, now_ms: i64) -> Result<bool, DbError> {
        let sum: i128 = self
            .amounts
            .values()
            .map(|amount| i128::from(*amount))
            .sum();
        if sum != 0 {
            return Err(DbError::Unbalanced {
                key: self.key.clone(),
                sum,
            });
        }
        let known: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM postings WHERE key = ?)")
                .bind(&self.key)
                .fetch_one(&mut **write)
                .await?;
        if known {
            return Ok(false);
        }
        for (account, amount) in self.amounts.iter().filter(|(_, amount)| **amount != 0) {
            sqlx::query("INSERT INTO postings (key, account, amount, at_ms) VALUES (?, ?, ?, ?)")
                .bind(&self.key)
                .bind(account)
                .bind(amount)
                .bind(now_ms)
                .execute(&mut **write)
                .await?;
        }
        Ok(true)
    }
}

/// The worker's part of what a piece of work costs, in percent.
const WORKER_PERCENT: i64 = 80;
/// The part of each reference node.
const REFERENCE_PERCENT: i64 = 10;

/// What a client pays for so many tokens.
pub(crate) fn cost(price: Price, input_tokens: u32, output_tokens: u32) -> i64 {
    price
        .input
        .saturating_mul(i64::from(input_tokens))
        .saturating_add(price.output.saturating_mul(i64::from(output_tokens)))
}

/// The worker's share of a cost, rounded down. What rounding leaves goes to the network.
pub(crate) fn worker_share(cost: i64) -> i64 {
    percent(cost, WORKER_PERCENT)
}

/// One reference node's share of a cost, rounded down.
pub(crate) fn reference_share(cost: i64) -> i64 {
    percent(cost, REFERENCE_PERCENT)
}

/// A part of an amount, from 0 to 1, rounded down.
pub(crate) fn part(amount: i64, part: f64) -> i64 {
    let millionths = (part.clamp(0.0, 1.0) * 1e6) as i128;
    i64::try_from(i128::from(amount) * millionths / 1_000_000).expect("a part of an i64 is an i64")
}

fn percent(amount: i64, percent: i64) -> i64 {
    i64::try_from(i128::from(amount) * i128::from(percent) / 100)
        .expect("a part of an i64 is an i64")
}

/// Micro-points as points, for people.
pub(crate) fn points(micro: i64) -> String {
    let sign = if micro < 0 { "-" } else { "" };
    let micro = micro.unsigned_abs();
    let unit = MICRO_POINTS.unsigned_abs();
    format!("{sign}{}.{:06}", micro / unit, micro % unit)
}

/// The money of one run of a job, from the hold to the end. Each step has its own key, so however
/// often a step is repeated, it counts once.
#[derive(Debug, Clone)]
pub(crate) struct RunBooks {
    pub job: JobId,
    /// Counts from 1; a run that failed verification is followed by another.
    pub run: u32,
    pub client: String,
}

/// What one attempt of a run earned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Earning {
    pub node: NodeId,
    /// What is pending.
    pub share: i64,
    /// What of it is confirmed; the rest is forfeited.
    pub paid: i64,
}

/// What the verdict makes of a run's money.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Settlement {
    /// What the escrow still holds of the client's, the workers' pending shares included.
    pub held: i64,
    /// What of it the client is charged: for segments that it got and that passed.
    pub charge: i64,
    pub earnings: Vec<Earning>,
    pub references: Vec<(NodeId, i64)>,
}

impl Settlement {
    /// What the references cost beyond what the client is charged for them.
    pub(crate) fn subsidy(&self) -> i64 {
        let paid: i64 = self.earnings.iter().map(|earning| earning.paid).sum();
        let references: i64 = self.references.iter().map(|(_, pay)| pay).sum();
        (references - (self.charge - paid)).max(0)
    }

    /// Pays the references less, alike, until they cost no more than `allowed` beyond the charge.
    pub(crate) fn limit_subsidy(&mut self, allowed: i64) {
        let over = self.subsidy() - allowed.max(0);
        let count = self.references.len() as i64;
        if over <= 0 || count == 0 {
            return;
        }
        let less = over / count + i64::from(over % count > 0);
        for (_, pay) in &mut self.references {
            *pay = (*pay - less).max(0);
        }
    }
}

impl RunBooks {
    /// Sets aside the most that the run can cost.
    pub(crate) fn hold(&self, amount: i64) -> Entry {
        self.entry("hold")
            .transfer(&self.client(), &Account::Escrow, amount)
    }

    /// An attempt ended: its node's share is pending.
    pub(crate) fn earned(&self, attempt: u32, node: NodeId, share: i64) -> Entry {
        self.entry(&format!("attempt:{attempt}:earned")).transfer(
            &Account::Escrow,
            &Account::Pending(node),
            share,
        )
    }

    /// The output ended: what it did not cost goes back.
    pub(crate) fn unspent(&self, amount: i64) -> Entry {
        self.entry("unspent")
            .transfer(&Account::Escrow, &self.client(), amount)
    }

    /// The final verdict, in one entry.
    ///
    /// What passed of each share is confirmed, and the rest goes back to the escrow. The client gets
    /// back what it is not charged, and what is then left pays the references and the network. No
    /// worker can get more than the client is charged; only references may cost the network
    /// something ([`Settlement::subsidy`]).
    pub(crate) fn settled(&self, settlement: &Settlement) -> Entry {
        let Settlement {
            held,
            charge,
            earnings,
            references,
        } = settlement;
        let mut entry = self.entry("settled");
        for earning in earnings {
            let pending = Account::Pending(earning.node);
            entry = entry
                .transfer(&pending, &Account::Confirmed(earning.node), earning.paid)
                .transfer(&pending, &Account::Escrow, earning.share - earning.paid);
        }
        for (reference, pay) in references {
            entry = entry.transfer(&Account::Network, &Account::Held(*reference), *pay);
        }
        let paid: i64 = earnings.iter().map(|earning| earning.paid).sum();
        entry
            .transfer(&Account::Escrow, &self.client(), held - charge)
            .transfer(&Account::Escrow, &Account::Network, charge - paid)
    }

    fn client(&self) -> Account {
        if self.client == canaries::CLIENT {
            // The operator's own prompts are the network's to pay.
            Account::Network
        } else {
            Account::Client(self.client.clone())
        }
    }

    fn entry(&self, step: &str) -> Entry {
        Entry::new(format!("job:{}:run:{}:{step}", self.job, self.run))
    }
}

/// One account as the books have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Balance {
    pub account: String,
    /// Micro-points.
    pub balance: i64,
}

/// Every account, and the sum of all postings, which is zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrialBalance {
    pub accounts: Vec<Balance>,
    pub sum: i64,
}

/// Adds up all postings anew.
pub async fn trial_balance(database: &Database) -> Result<TrialBalance, DbError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT account, sum(amount) FROM postings GROUP BY account ORDER BY account",
    )
    .fetch_all(database.read())
    .await?;
    let accounts: Vec<_> = rows
        .into_iter()
        .map(|(account, balance)| Balance { account, balance })
        .collect();
    let sum = accounts.iter().map(|account| account.balance).sum();
    Ok(TrialBalance { accounts, sum })
}

/// What an account holds within a write.
pub(crate) async fn balance_within(
    write: &mut Write<'_>,
    account: &Account,
) -> Result<i64, DbError> {
    let balance: Option<i64> = sqlx::query_scalar("SELECT balance FROM balances WHERE account = ?")
        .bind(account.name())
        .fetch_optional(&mut **write)
        .await?;
    Ok(balance.unwrap_or(0))
}

/// What the escrow holds of a job's money.
pub(crate) async fn held_within(write: &mut Write<'_>, job: JobId) -> Result<i64, DbError> {
    // Every key of a job's entries begins so, and `;` follows on `:`.
    let (from, to) = (format!("job:{job}:"), format!("job:{job};"));
    let held: Option<i64> = sqlx::query_scalar(
        "SELECT sum(amount) FROM postings WHERE key >= ? AND key < ? AND account = ?",
    )
    .bind(from)
    .bind(to)
    .bind(Account::Escrow.name())
    .fetch_one(&mut **write)
    .await?;
    Ok(held.unwrap_or(0))
}

/// What an account holds now.
pub(crate) async fn balance(database: &Database, account: &Account) -> Result<i64, DbError> {
    let balance: Option<i64> = sqlx::query_scalar("SELECT balance FROM balances WHERE account = ?")
        .bind(account.name())
        .fetch_optional(database.read())
        .await?;
    Ok(balance.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn books(run: u32) -> RunBooks {
        RunBooks {
            job: JobId::from_bytes([1; 16]),
            run,
            client: "ann".to_owned(),
        }
    }

    async fn database() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        (folder, database)
    }

    async fn post(database: &Database, entries: &[Entry]) -> Vec<bool> {
        let mut write = database.write().await.unwrap();
        let mut new = Vec::new();
        for entry in entries {
            new.push(entry.post(&mut write, 0).await.unwrap());
        }
        write.commit().await.unwrap();
        new
    }

    async fn balances(database: &Database) -> BTreeMap<String, i64> {
        let trial = trial_balance(database).await.unwrap();
        assert_eq!(trial.sum, 0);
        let kept: Vec<(String, i64)> = sqlx::query_as("SELECT account, balance FROM balances")
            .fetch_all(database.read())
            .await
            .unwrap();
        let added: BTreeMap<_, _> = trial
            .accounts
            .into_iter()
            .map(|account| (account.account, account.balance))
            .collect();
        assert_eq!(kept.into_iter().collect::<BTreeMap<_, _>>(), added);
        added
    }

    #[test]
    fn points_have_six_decimals() {
        assert_eq!(points(1_500_000), "1.500000");
        assert_eq!(points(-1), "-0.000001");
        assert_eq!(points(i64::MIN), "-9223372036854.775808");
    }

    #[tokio::test]
    async fn a_verified_job_pays_80_10_10() {
        let (_folder, database) = database().await;
        let books = books(1);
        let earning = Earning {
            node: node(1),
            share: worker_share(1003),
            paid: worker_share(1003),
        };
        let pay = reference_share(1003);
        let settlement = Settlement {
            held: 1003,
            charge: 1003,
            earnings: vec![earning],
            references: vec![(node(2), pay), (node(3), pay)],
        };
        assert_eq!(settlement.subsidy(), 0);
        let entries = [
            books.hold(5000),
            books.earned(1, node(1), earning.share),
            books.unspent(5000 - 1003),
            books.settled(&settlement),
        ];
        assert_eq!(post(&database, &entries).await, [true; 4]);
        let first = balances(&database).await;
        assert_eq!(post(&database, &entries).await, [false; 4], "paid twice");
        assert_eq!(balances(&database).await, first);
        assert_eq!(first["client:ann"], -1003);
        assert_eq!(first["escrow"], 0);
        assert_eq!(first[&Account::Pending(node(1)).name()], 0);
        assert_eq!(first[&Account::Confirmed(node(1)).name()], 802);
        assert_eq!(first[&Account::Held(node(2)).name()], 100);
        assert_eq!(first[&Account::Held(node(3)).name()], 100);
        assert_eq!(first["network"], 1, "rounding goes to the network");
    }

    #[tokio::test]
    async fn a_client_pays_for_what_passed_and_gets_the_rest_back() {
        let (_folder, database) = database().await;
        let books = books(1);
        let earning = |worker, share, paid| Earning {
            node: node(worker),
            share,
            paid,
        };
        let mut settlement = Settlement {
            held: 1000,
            charge: 375,
            earnings: vec![earning(1, 300, 300), earning(2, 500, 0)],
            references: vec![(node(3), 100), (node(4), 100)],
        };
        assert_eq!(settlement.subsidy(), 125);
        settlement.limit_subsidy(25);
        assert_eq!(settlement.subsidy(), 25);
        post(
            &database,
            &[
                books.hold(1000),
                books.earned(1, node(1), 300),
                books.earned(2, node(2), 500),
                books.settled(&settlement),
            ],
        )
        .await;
        let balances = balances(&database).await;
        assert_eq!(balances["client:ann"], -375);
        assert_eq!(balances["escrow"], 0);
        assert_eq!(balances[&Account::Pending(node(2)).name()], 0);
        assert_eq!(balances[&Account::Confirmed(node(1)).name()], 300);
        assert_eq!(balances[&Account::Held(node(3)).name()], 50);
        assert_eq!(balances["network"], -25);
    }

    #[tokio::test]
    async fn postings_cannot_be_changed() {
        let (_folder, database) = database().await;
        post(&database, &[books(1).hold(10)]).await;
        for statement in ["UPDATE postings SET amount = 1", "DELETE FROM postings"] {
            let mut write = database.write().await.unwrap();
            let outcome = sqlx::query(sqlx::AssertSqlSafe(statement))
                .execute(&mut *write)
                .await;
            assert!(outcome.is_err(), "{statement}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
        #[test]
        fn whatever_happens_the_books_sum_to_zero_and_nothing_is_minted(
            runs in proptest::collection::vec(
                (
                    0i64..1_000_000,
                    proptest::collection::vec((1u8..5, 0i64..100_000, any::<bool>()), 0..4),
                    0usize..6,
                    any::<bool>(),
                    0i64..20_000,
                ),
                1..12,
            )
        ) {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let (_folder, database) = database().await;
                let mut subsidies = 0;
                for (number, (extra, attempts, references, repeat, allowed)) in runs.into_iter().enumerate() {
                    let books = books(number as u32 + 1);
                    let mut entries = Vec::new();
                    let mut settlement = Settlement::default();
                    for (attempt, (worker, gross, failed)) in attempts.into_iter().enumerate() {
                        let attempt = attempt as u32;
                        let share = worker_share(gross);
                        settlement.held += gross;
                        settlement.charge += if failed { 0 } else { gross };
                        entries.push(books.earned(attempt, node(worker), share));
                        let paid = if failed { 0 } else { share };
                        settlement.earnings.push(Earning { node: node(worker), share, paid });
                    }
                    entries.insert(0, books.hold(settlement.held + extra));
                    entries.push(books.unspent(extra));
                    let pay = reference_share(settlement.held);
                    settlement.references = (0..references).map(|at| (node(10 + at as u8), pay)).collect();
                    settlement.limit_subsidy(allowed);
                    prop_assert!(settlement.subsidy() <= allowed);
                    subsidies += settlement.subsidy();
                    entries.push(books.settled(&settlement));
                    post(&database, &entries).await;
                    if repeat {
                        post(&database, &entries).await;
                    }
                    let balances = balances(&database).await;
                    prop_assert_eq!(balances.get("escrow").copied().unwrap_or(0), 0);
                    for worker in 1..5 {
                        let pending = Account::Pending(node(worker)).name();
                        prop_assert_eq!(balances.get(&pending).copied().unwrap_or(0), 0);
                    }
                    let income: i64 = balances.iter().filter(|(name, _)| name.starts_with("node:")).map(|(_, held)| held).sum();
                    let charged = -balances.get("client:ann").copied().unwrap_or(0);
                    prop_assert!(income <= charged + subsidies, "{} of {} and {}", income, charged, subsidies);
                }
                Ok(())
            })?;
        }
    }
}
