//! Accounts in the books: whose a node is, which linking codes are out, and whose a key is. An
//! account has nothing here before it has a node, so whoever makes many gets nothing by it.

use infera_protocol::account::{
    AccountKeyRow, BadOwnership, KeyRequest, LinkGrant, Machine, Ownership,
};
use infera_protocol::digest::Digest;
use infera_protocol::node_api::{Points, Refusal, RefusalCode};
use infera_protocol::{AccountId, Hash, LinkId, NodeId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::db::{Database, DbError, Write};
use crate::dispatch::unavailable;
use crate::edges::Edges;
use crate::job::refusal;
use crate::keys::{self, Client, KeyError};
use crate::ledger::{self, Account};
use crate::spending;
use crate::states::Word;
use crate::store;

/// How long a session of an account lasts.
pub(crate) const SESSION_SECONDS: u32 = 3600;
const MOST_NODES: u32 = 1000;
const MOST_LINKS: u32 = 16;
const MOST_KEYS: u32 = 32;
/// How long a linking code may be good for.
const LONGEST_LINK_MS: i64 = 7 * 24 * 3_600_000;

/// Session tokens that are known again without being kept: each carries whose it is and until when,
/// under a key that only this run of the balancer has.
#[derive(Debug)]
pub(crate) struct Tokens {
    secret: [u8; 32],
}

impl Tokens {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    pub(crate) fn make(&self, account: AccountId, steady_ms: i64) -> String {
        let until_ms = steady_ms + i64::from(SESSION_SECONDS) * 1000;
        format!("{account}.{until_ms}.{}", self.seal(account, until_ms))
    }

    /// Whose session a token is, if it is one of ours and not over.
    pub(crate) fn read(&self, token: &str, steady_ms: i64) -> Option<AccountId> {
        let mut parts = token.splitn(3, '.');
        let account = parts.next()?.parse().ok()?;
        let until_ms = parts.next()?.parse().ok()?;
        let seal: Hash = parts.next()?.parse().ok()?;
        let ours = self.seal(account, until_ms).is_same_secret(&seal);
        (ours && steady_ms < until_ms).then_some(account)
    }

    fn seal(&self, account: AccountId, until_ms: i64) -> Hash {
        Digest::new("infera/account-token/v1")
            .fixed(&self.secret)
            .fixed(account.as_bytes())
            .u64(until_ms.cast_unsigned())
            .finish()
    }
}

/// What was granted with a linking code, for the machine that has it.
pub(crate) async fn grant(database: &Database, link: LinkId) -> Result<LinkGrant, Refusal> {
    let terms: Option<String> = sqlx::query_scalar("SELECT terms FROM links WHERE id = ?")
        .bind(link.to_string())
        .fetch_optional(database.read())
        .await
        .map_err(unavailable)?;
    let grant = terms.and_then(|terms| serde_json::from_str(&terms).ok());
    grant.ok_or_else(|| {
        refusal(
            RefusalCode::LinkUnknown,
            "This network does not know that linking code. Check each character, and that both machines are in the same network",
        )
    })
}

/// Keeps what an account grants, in place of what of its grants is over.
pub(crate) async fn put_grant(
    database: &Database,
    grant: &LinkGrant,
    now_ms: i64,
) -> Result<(), Refusal> {
    grant.check(now_ms).map_err(bad_ownership)?;
    if grant.expires_ms - now_ms > LONGEST_LINK_MS || grant.max_uses == 0 {
        return Err(refusal(
            RefusalCode::Malformed,
            "A linking code is good for one machine or more, and for seven days at most",
        ));
    }
    let written = async {
        let mut write = database.write().await?;
        if !has_nodes(&mut write, grant.account).await? {
            return Ok(Err(no_account()));
        }
        sqlx::query("DELETE FROM links WHERE expires_ms <= ?")
            .bind(now_ms)
            .execute(&mut *write)
            .await?;
        let open = count(
            &mut write,
            "SELECT count(*) FROM links WHERE account = ?",
            grant.account,
        );
        if open.await? >= MOST_LINKS {
            return Ok(Err(refusal(
                RefusalCode::AccountFull,
                format!(
                    "The account has {MOST_LINKS} linking codes that are not over, which is as many as it may. Wait until one is over"
                ),
            )));
        }
        sqlx::query(
            "INSERT OR IGNORE INTO links (id, account, terms, expires_ms) VALUES (?, ?, ?, ?)",
        )
        .bind(grant.link.to_string())
        .bind(grant.account.to_string())
        .bind(serde_json::to_string(grant).unwrap_or_default())
        .bind(grant.expires_ms)
        .execute(&mut *write)
        .await?;
        write.commit().await?;
        Ok::<_, DbError>(Ok(()))
    };
    written.await.map_err(unavailable)?
}

/// Makes a node an account's. One that is its already changes nothing.
pub(crate) async fn link(
    database: &Database,
    ownership: &Ownership,
    now_ms: i64,
) -> Result<(), Refusal> {
    ownership.check(now_ms).map_err(bad_ownership)?;
    let (grant, node) = (&ownership.grant, ownership.node);
    let written = async {
        let mut write = database.write().await?;
        let owner = owner(&mut write, node).await?;
        if owner == Some(grant.account) {
            return Ok(Ok(()));
        }
        let used: Vec<String> = sqlx::query_scalar("SELECT node FROM linked WHERE link = ?")
            .bind(grant.link.to_string())
            .fetch_all(&mut *write)
            .await?;
        let before = used.contains(&node.to_string());
        if !before && used.len() >= grant.max_uses as usize {
            return Ok(Err(refusal(
                RefusalCode::LinkUsedUp,
                format!(
                    "As many machines were linked by this code as may ({}). Have another one shown",
                    grant.max_uses
                ),
            )));
        }
        let nodes = "SELECT count(*) FROM nodes WHERE account = ?";
        if count(&mut write, nodes, grant.account).await? >= MOST_NODES {
            return Ok(Err(refusal(
                RefusalCode::AccountFull,
                format!("The account has {MOST_NODES} machines, which is as many as it may"),
            )));
        }
        leave(&mut write, node, owner, now_ms).await?;
        sqlx::query("INSERT OR IGNORE INTO linked (link, node, linked_ms) VALUES (?, ?, ?)")
            .bind(grant.link.to_string())
            .bind(node.to_string())
            .bind(now_ms)
            .execute(&mut *write)
            .await?;
        sqlx::query("UPDATE nodes SET account = ?, linked_ms = ? WHERE id = ?")
            .bind(grant.account.to_string())
            .bind(now_ms)
            .bind(node.to_string())
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        Ok::<_, DbError>(Ok(()))
    };
    written.await.map_err(unavailable)?
}

/// Makes a node nobody's, if it is `account`'s, or whoever's it is. What it has earned stays with
/// the account. Gives whether it was anybody's.
pub(crate) async fn unlink(
    database: &Database,
    node: NodeId,
    account: Option<AccountId>,
    now_ms: i64,
) -> Result<bool, DbError> {
    let mut write = database.write().await?;
    let owner = owner(&mut write, node).await?;
    if owner.is_none() || account.is_some_and(|account| owner != Some(account)) {
        return Ok(false);
    }
    leave(&mut write, node, owner, now_ms).await?;
    write.commit().await?;
    Ok(true)
}

async fn leave(
    write: &mut Write<'_>,
    node: NodeId,
    owner: Option<AccountId>,
    now_ms: i64,
) -> Result<(), DbError> {
    let Some(account) = owner else {
        return Ok(());
    };
    let earned = ledger::balance_within(write, &Account::Confirmed(node)).await?;
    // A node that comes and goes leaves each time, and each time is an entry of its own.
    let times: i64 = sqlx::query_scalar(
        "SELECT count(DISTINCT key) FROM postings WHERE key >= 'leave:' || ?1 || ':'
             AND key < 'leave:' || ?1 || ';'",
    )
    .bind(node.to_string())
    .fetch_one(&mut **write)
    .await?;
    spending::left_behind(node, account, earned, times + 1)
        .post(write, now_ms)
        .await?;
    sqlx::query("UPDATE nodes SET account = NULL, linked_ms = NULL WHERE id = ?")
        .bind(node.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Makes a key that spends the account's points, and gives it, this one time.
pub(crate) async fn create_key(
    database: &Database,
    edges: &Edges,
    account: AccountId,
    request: &KeyRequest,
) -> Result<String, Refusal> {
    if !keys::is_name(&request.name) {
        return Err(key_refused(KeyError::BadName));
    }
    if request.daily_limit.is_some_and(|limit| limit < 0) {
        return Err(refusal(
            RefusalCode::Malformed,
            "A key's limit for a day is no points or more",
        ));
    }
    let written = async {
        let mut write = database.write().await?;
        if !has_nodes(&mut write, account).await? {
            return Ok(Err(no_account()));
        }
        let in_use = "SELECT count(*) FROM api_keys WHERE account = ? AND revoked_ms IS NULL";
        if count(&mut write, in_use, account).await? >= MOST_KEYS {
            return Ok(Err(refusal(
                RefusalCode::AccountFull,
                format!(
                    "The account has {MOST_KEYS} keys in use, which is as many as it may. Revoke one first"
                ),
            )));
        }
        let client = Client {
            name: keys::name_of_accounts(account, &request.name),
            limit_micro: None,
            daily_limit: request.daily_limit,
            account: Some(account),
            route: request.route,
        };
        match keys::insert(&mut write, edges, &client).await {
            Ok(key) => {
                write.commit().await?;
                Ok(Ok(key))
            }
            Err(KeyError::Database(error)) => Err(error),
            Err(refused) => Ok(Err(key_refused(refused))),
        }
    };
    written.await.map_err(unavailable)?
}

/// All keys that an account ever had, newest last.
pub(crate) async fn keys(
    database: &Database,
    account: AccountId,
    now_ms: i64,
) -> Result<Vec<AccountKeyRow>, DbError> {
    let rows = sqlx::query(
        "SELECT k.*, -coalesce(b.balance, 0) AS spent,
             (SELECT coalesce(-sum(p.amount), 0) FROM postings p
                 WHERE p.account = 'client:' || k.name AND p.at_ms >= ?) AS spent_today
         FROM api_keys k LEFT JOIN balances b ON b.account = 'client:' || k.name
         WHERE k.account = ? ORDER BY k.id",
    )
    .bind(spending::day_of(now_ms))
    .bind(account.to_string())
    .fetch_all(database.read())
    .await?;
    let key = |row: &SqliteRow| {
        let name: String = row.try_get("name")?;
        Ok(AccountKeyRow {
            name: keys::shown(&name).to_owned(),
            daily_limit: row.try_get("daily_limit")?,
            route: Word::read(row, "route")?,
            spent: row.try_get("spent")?,
            spent_today: row.try_get("spent_today")?,
            created_ms: row.try_get("created_ms")?,
            revoked_ms: row.try_get("revoked_ms")?,
        })
    };
    rows.iter().map(key).collect()
}

pub(crate) async fn revoke_key(
    database: &Database,
    account: AccountId,
    name: &str,
    now_ms: i64,
) -> Result<(), Refusal> {
    let full = keys::name_of_accounts(account, name);
    match keys::revoke(database, &full, now_ms).await {
        Ok(()) => Ok(()),
        Err(KeyError::Unknown(_)) => Err(refusal(
            RefusalCode::NoSuch,
            "The account has no key of this name in use",
        )),
        Err(KeyError::Database(error)) => Err(unavailable(error)),
        Err(refused) => Err(key_refused(refused)),
    }
}

/// The account's nodes, without what they say now.
pub(crate) async fn machines(
    database: &Database,
    account: AccountId,
) -> Result<Vec<Machine>, DbError> {
    let rows = sqlx::query(
        "SELECT id, verified, last_seen_ms FROM nodes WHERE account = ? ORDER BY linked_ms, id",
    )
    .bind(account.to_string())
    .fetch_all(database.read())
    .await?;
    let mut machines = Vec::with_capacity(rows.len());
    for row in &rows {
        let node = store::parse(row, "id")?;
        machines.push(Machine {
            node,
            report: None,
            here: false,
            paused: None,
            running: 0,
            verified: row.try_get("verified")?,
            points: points(database, node).await?,
            last_seen_ms: row.try_get("last_seen_ms")?,
        });
    }
    Ok(machines)
}

/// What a node has earned.
pub(crate) async fn points(database: &Database, node: NodeId) -> Result<Points, DbError> {
    let balance = async |account| ledger::balance(database, &account).await;
    Ok(Points {
        confirmed: balance(Account::Confirmed(node)).await?,
        pending: balance(Account::Pending(node)).await? + balance(Account::Held(node)).await?,
        forfeited: store::forfeited(database, node).await?,
    })
}

async fn owner(write: &mut Write<'_>, node: NodeId) -> Result<Option<AccountId>, DbError> {
    let row = sqlx::query("SELECT account FROM nodes WHERE id = ?")
        .bind(node.to_string())
        .fetch_optional(&mut **write)
        .await?;
    row.map_or(Ok(None), |row| store::account(&row))
}

async fn has_nodes(write: &mut Write<'_>, account: AccountId) -> Result<bool, DbError> {
    let nodes = "SELECT count(*) FROM nodes WHERE account = ?";
    Ok(count(write, nodes, account).await? > 0)
}

async fn count(
    write: &mut Write<'_>,
    query: &'static str,
    account: AccountId,
) -> Result<u32, DbError> {
    Ok(sqlx::query_scalar(query)
        .bind(account.to_string())
        .fetch_one(&mut **write)
        .await?)
}

fn no_account() -> Refusal {
    refusal(
        RefusalCode::NoAccount,
        "The account has no machine in this network. Link one first: run its node here",
    )
}

fn key_refused(error: KeyError) -> Refusal {
    let code = match error {
        KeyError::NameTaken(_) => RefusalCode::NameTaken,
        KeyError::Unknown(_) => RefusalCode::NoSuch,
        KeyError::BadName => RefusalCode::Malformed,
        KeyError::Database(error) => return unavailable(error),
    };
    refusal(code, error.to_string())
}

fn bad_ownership(fault: BadOwnership) -> Refusal {
    refusal(RefusalCode::BadOwnership, fault.to_string())
}
