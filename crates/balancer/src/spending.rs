//! What clients may spend, and what accounts have: all of it read from the postings, so that it
//! agrees with the books to the micro-point.

use std::collections::BTreeMap;

use infera_protocol::account::{Overview, Spending};
use infera_protocol::{AccountId, NodeId};
use sqlx::sqlite::SqliteConnection;

use crate::db::{Database, DbError, Write};
use crate::keys::{self, Client};
use crate::ledger::{self, Account, Entry};
use crate::submit_error::SubmitError;

const DAY_MS: i64 = 24 * 3_600_000;

/// Why a client's request that may cost so many micro-points is refused, if it is.
pub(crate) async fn refused(
    write: &mut Write<'_>,
    client: &Client,
    asked: i64,
    now_ms: i64,
) -> Result<Option<SubmitError>, DbError> {
    // What costs nothing is no matter of points, whatever was spent before.
    if asked == 0 {
        return Ok(None);
    }
    let limits = [client.limit_micro, client.daily_limit];
    if limits.into_iter().flatten().any(|limit| asked > limit) {
        return Ok(Some(SubmitError::BeyondLimit));
    }
    let key = Account::Client(client.name.clone());
    if let Some(limit) = client.limit_micro {
        let spent = -ledger::balance_within(write, &key).await?;
        if spent.saturating_add(asked) > limit {
            return Ok(Some(SubmitError::LimitReached));
        }
    }
    if let Some(limit) = client.daily_limit {
        let spent = spent_since(write, &key, day_of(now_ms)).await?;
        if spent.saturating_add(asked) > limit {
            return Ok(Some(SubmitError::DailyLimitReached));
        }
    }
    if let Some(account) = client.account {
        let balance = overview(write, account).await?.balance;
        if asked > balance {
            return Ok(Some(SubmitError::NotEnoughPoints { balance, asked }));
        }
    }
    Ok(None)
}

/// What an account has earned and spent.
pub(crate) async fn overview(
    connection: &mut SqliteConnection,
    account: AccountId,
) -> Result<Overview, DbError> {
    let (nodes, confirmed): (u32, i64) = sqlx::query_as(
        "SELECT count(*), coalesce(sum(balance), 0) FROM nodes
         LEFT JOIN balances ON balances.account = 'node:' || nodes.id || ':confirmed'
         WHERE nodes.account = ?",
    )
    .bind(account.to_string())
    .fetch_one(&mut *connection)
    .await?;
    let left: Option<i64> = sqlx::query_scalar("SELECT balance FROM balances WHERE account = ?")
        .bind(Account::Owner(account).name())
        .fetch_optional(&mut *connection)
        .await?;
    let (from, to) = names(account);
    let spent: i64 = sqlx::query_scalar(
        "SELECT coalesce(-sum(balance), 0) FROM balances WHERE account >= ? AND account < ?",
    )
    .bind(from)
    .bind(to)
    .fetch_one(connection)
    .await?;
    let earned = confirmed + left.unwrap_or(0);
    Ok(Overview {
        balance: earned - spent,
        earned,
        spent,
        nodes,
    })
}

/// What a key has spent since a time, with what is set aside for what runs now. What comes back of
/// what was set aside before counts as not spent on the day on which it comes back.
pub(crate) async fn spent_since(
    connection: &mut SqliteConnection,
    key: &Account,
    since_ms: i64,
) -> Result<i64, DbError> {
    let spent = sqlx::query_scalar(
        "SELECT coalesce(-sum(amount), 0) FROM postings WHERE account = ? AND at_ms >= ?",
    )
    .bind(key.name())
    .bind(since_ms)
    .fetch_one(connection)
    .await?;
    Ok(spent)
}

/// What an account's keys spent in the last `days` days and today, newest first.
pub(crate) async fn by_day(
    database: &Database,
    account: AccountId,
    days: u32,
    now_ms: i64,
) -> Result<Vec<Spending>, DbError> {
    let since_ms = day_of(now_ms) - i64::from(days) * DAY_MS;
    type Line = (i64, String, String, i64);
    let (from, to) = names(account);
    // The key of a job's entry is `job:` and its id, and more.
    let moved: Vec<Line> = sqlx::query_as(
        "SELECT p.at_ms / ?1 * ?1, p.account, j.model_name, -sum(p.amount)
         FROM postings p JOIN jobs j ON j.id = substr(p.key, 5, 32)
         WHERE p.account >= ?2 AND p.account < ?3 AND p.at_ms >= ?4
         GROUP BY 1, 2, 3",
    )
    .bind(DAY_MS)
    .bind(&from)
    .bind(&to)
    .bind(since_ms)
    .fetch_all(database.read())
    .await?;
    // Also those that cost nothing, which move nothing.
    let begun: Vec<Line> = sqlx::query_as(
        "SELECT created_ms / ?1 * ?1, 'client:' || client, model_name, count(*) FROM jobs
         WHERE client >= ?2 AND client < ?3 AND created_ms >= ?4
         GROUP BY 1, 2, 3",
    )
    .bind(DAY_MS)
    .bind(from.trim_start_matches("client:"))
    .bind(to.trim_start_matches("client:"))
    .bind(since_ms)
    .fetch_all(database.read())
    .await?;
    let mut lines: BTreeMap<_, (i64, u32)> = BTreeMap::new();
    for (day_ms, key, model, micro) in moved {
        lines.entry((-day_ms, key, model)).or_default().0 = micro;
    }
    for (day_ms, key, model, requests) in begun {
        lines.entry((-day_ms, key, model)).or_default().1 =
            u32::try_from(requests).unwrap_or(u32::MAX);
    }
    let spending = |((minus_day_ms, key, model), (micro, requests)): ((i64, String, _), _)| {
        let key = key[from.len()..].to_owned();
        Spending {
            day_ms: -minus_day_ms,
            key,
            model,
            requests,
            micro,
        }
    };
    Ok(lines.into_iter().map(spending).collect())
}

/// What a node has earned stays with the account that it leaves.
pub(crate) fn left_behind(node: NodeId, account: AccountId, confirmed: i64, number: i64) -> Entry {
    Entry::new(format!("leave:{node}:{number}")).transfer(
        &Account::Confirmed(node),
        &Account::Owner(account),
        confirmed,
    )
}

/// When the day began, in UTC.
pub(crate) fn day_of(now_ms: i64) -> i64 {
    now_ms.div_euclid(DAY_MS) * DAY_MS
}

/// The ledger's accounts of an account's keys: from the first, up to the second.
fn names(account: AccountId) -> (String, String) {
    let name = |name: &str| Account::Client(keys::name_of_accounts(account, name)).name();
    // `0` follows on the slash that every name has.
    let mut after = name("");
    after.pop();
    (name(""), after + "0")
}

#[cfg(test)]
mod tests {
    use infera_protocol::JobId;
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::RunBooks;

    const NOW: i64 = 20_000 * DAY_MS + 5_000;

    fn account(number: u8) -> AccountId {
        AccountId::from_bytes([number; 32])
    }

    fn client(number: u8, key: &str) -> Client {
        Client {
            account: Some(account(number)),
            ..Client::of_operator(&keys::name_of_accounts(account(number), key), None)
        }
    }

    /// A job whose most was set aside on one day, and whose rest came back on another.
    async fn spend(
        write: &mut Write<'_>,
        number: u8,
        client: &str,
        (held, back): (i64, i64),
        (begun_ms, ended_ms): (i64, i64),
    ) {
        let job = JobId::from_bytes([number; 16]);
        sqlx::query(
            "INSERT INTO jobs (id, client, model, model_name, prompt_tokens, prompt_hash,
                 input_price, output_price, wait, keep, state, created_ms)
             VALUES (?, ?, 'm', 'tiny', 1, '', 1, 1, 0, 0, 'done', ?)",
        )
        .bind(job.to_string())
        .bind(client)
        .bind(begun_ms)
        .execute(&mut **write)
        .await
        .unwrap();
        let books = RunBooks {
            job,
            run: 1,
            client: client.to_owned(),
        };
        books.hold(held).post(write, begun_ms).await.unwrap();
        books.unspent(back).post(write, ended_ms).await.unwrap();
    }

    async fn earn(write: &mut Write<'_>, node: NodeId, amount: i64) {
        Entry::new(format!("test:{node}"))
            .transfer(&Account::Network, &Account::Confirmed(node), amount)
            .post(write, 0)
            .await
            .unwrap();
    }

    async fn own(write: &mut Write<'_>, node: NodeId, account: AccountId) {
        sqlx::query("INSERT INTO nodes (id, account) VALUES (?, ?)")
            .bind(node.to_string())
            .bind(account.to_string())
            .execute(&mut **write)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn why_a_request_is_refused_as_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        let mut write = database.write().await.unwrap();
        let node = NodeId::from_bytes([1; 32]);
        own(&mut write, node, account(1)).await;
        earn(&mut write, node, 1000).await;
        let name = client(1, "desk").name;
        let yesterday = day_of(NOW) - 1;
        spend(&mut write, 1, &name, (300, 0), (yesterday, yesterday)).await;
        spend(&mut write, 2, &name, (150, 50), (NOW, NOW)).await;
        // 600 are left, 100 of what was spent today.
        let unlimited = client(1, "desk");
        let daily = |limit| Client {
            daily_limit: Some(limit),
            ..client(1, "desk")
        };
        let in_all = |limit| Client::of_operator(&name, Some(limit));
        let poor = client(2, "desk");
        let short = |balance, asked| Some(SubmitError::NotEnoughPoints { balance, asked });
        for (client, asked, outcome) in [
            (&unlimited, 600, None),
            (&unlimited, 601, short(600, 601)),
            (&daily(200), 100, None),
            (&daily(200), 101, Some(SubmitError::DailyLimitReached)),
            (&daily(200), 201, Some(SubmitError::BeyondLimit)),
            (&daily(0), 0, None),
            (&daily(10_000), 601, short(600, 601)),
            (&in_all(500), 100, None),
            (&in_all(500), 101, Some(SubmitError::LimitReached)),
            (&poor, 0, None),
            (&poor, 1, short(0, 1)),
        ] {
            let found = refused(&mut write, client, asked, NOW).await.unwrap();
            assert_eq!(found, outcome, "{client:?} {asked}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
        #[test]
        fn a_statement_adds_up_to_what_the_books_say(
            jobs in proptest::collection::vec(
                (0u8..2, 0u8..3, 0i64..1_000_000, 0.0f64..1.0, 0i64..4, 0i64..3),
                0..20,
            )
        ) {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let database = Database::open(folder.path()).await.unwrap();
                let mut write = database.write().await.unwrap();
                let mut begun = [0u32; 2];
                for (number, (whose, key, held, share, days, later)) in jobs.into_iter().enumerate() {
                    let name = client(whose + 1, &format!("key{key}")).name;
                    let back = ledger::part(held, share);
                    let begun_ms = NOW - days * DAY_MS;
                    let times = (begun_ms, begun_ms + later * 3_600_000);
                    spend(&mut write, number as u8, &name, (held, back), times).await;
                    begun[whose as usize] += 1;
                }
                write.commit().await.unwrap();
                for whose in [0u8, 1] {
                    let account = account(whose + 1);
                    let lines = by_day(&database, account, 30, NOW + DAY_MS).await.unwrap();
                    let mut read = database.read().acquire().await.unwrap();
                    let overview = overview(&mut read, account).await.unwrap();
                    prop_assert_eq!(lines.iter().map(|line| line.micro).sum::<i64>(), overview.spent);
                    let requests: u32 = lines.iter().map(|line| line.requests).sum();
                    prop_assert_eq!(requests, begun[whose as usize]);
                    prop_assert!(lines.is_sorted_by_key(|line| -line.day_ms));
                    prop_assert!(lines.iter().all(|line| line.day_ms % DAY_MS == 0 && line.key.starts_with("key")));
                }
                Ok(())
            })?;
        }
    }
}
