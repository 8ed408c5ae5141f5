//! Invitations: made by the operator, looked at and used by nodes. Each step is one transaction,
//! and of a token only the hash is kept.

use infera_protocol::invitation::InvitationToken;
use infera_protocol::node_api::{Refusal, RefusalCode, Standing};
use infera_protocol::{Fingerprint, Invitation, NodeId};
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::certificate::{self, CertificateError};
use crate::config::Config;
use crate::db::{Database, DbError};
use crate::dispatch::unavailable;
use crate::edges::Edges;
use crate::job::refusal;
use crate::store;

/// Characters of what an invitation is for.
const LONGEST_LABEL: usize = 64;

const SELECT: &str = "SELECT i.*, (SELECT count(*) FROM joined j WHERE j.invitation = i.id) AS uses
    FROM invitations i";

/// Ten years: what is meant to last longer has no end.
pub(crate) const LONGEST_LIFE_MS: i64 = 3650 * 24 * 3_600_000;
pub(crate) const MOST_USES: u32 = 1_000_000;
/// How many are shown on the operator's page.
const MOST_SHOWN: u32 = 500;

/// Where invitations lead.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    address: String,
    fingerprint: Option<Fingerprint>,
}

impl Place {
    /// None before the settings say how others reach the balancer.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>, CertificateError> {
        let Some(address) = config.address.clone() else {
            return Ok(None);
        };
        let certificate = config.tls().map(|tls| tls.certificate);
        let fingerprint = certificate.as_deref().map(certificate::fingerprint);
        Ok(Some(Self {
            address,
            fingerprint: fingerprint.transpose()?,
        }))
    }

    pub(crate) fn invitation(&self, token: InvitationToken) -> Invitation {
        Invitation {
            address: self.address.clone(),
            fingerprint: self.fingerprint,
            token,
        }
    }
}

/// What an operator says of an invitation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Whom or what it is for, in the operator's words.
    pub label: String,
    pub standing: Standing,
    /// None for any number.
    pub max_uses: Option<u32>,
    /// None for no end.
    pub expires_ms: Option<i64>,
}

/// An invitation as the books have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct InvitationRow {
    pub id: i64,
    pub label: String,
    #[serde(flatten)]
    pub standing: Standing,
    pub uses: u32,
    pub max_uses: Option<u32>,
    pub created_ms: i64,
    pub expires_ms: Option<i64>,
    pub revoked_ms: Option<i64>,
}

/// Why nobody new joins by an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(
        "This network never gave that invitation out. Check that the link is the one for this network, or ask its operator for another"
    )]
    Unknown,
    #[error("The invitation was taken back. Ask the network's operator for another")]
    Revoked,
    #[error("The invitation's time is over. Ask the network's operator for another")]
    Expired,
    #[error(
        "As many have joined by this invitation as may ({0}). Ask the network's operator for another"
    )]
    UsedUp(u32),
}

#[derive(Debug, thiserror::Error)]
pub enum InvitationError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(
        "What an invitation is for has at most {LONGEST_LABEL} characters and no line breaks. Shorten `--for`"
    )]
    BadLabel,
    #[error("There is no invitation {0} that is in use. `invite list` shows all")]
    NoSuch(i64),
}

/// Makes an invitation, and gives its number and its token, this one time.
pub async fn create(
    database: &Database,
    edges: &Edges,
    terms: &Terms,
) -> Result<(i64, InvitationToken), InvitationError> {
    if terms.label.chars().count() > LONGEST_LABEL || terms.label.contains(char::is_control) {
        return Err(InvitationError::BadLabel);
    }
    let token = InvitationToken::from_bytes(edges.random());
    let mut write = database.write().await?;
    let id = sqlx::query_scalar(
        "INSERT INTO invitations (label, token_hash, trusted, reference, max_uses, created_ms,
             expires_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(&terms.label)
    .bind(token.hash().to_string())
    .bind(terms.standing.trusted)
    .bind(terms.standing.reference)
    .bind(terms.max_uses)
    .bind(edges.now_ms())
    .bind(terms.expires_ms)
    .fetch_one(&mut *write)
    .await
    .map_err(DbError::from)?;
    write.commit().await?;
    Ok((id, token))
}

/// All that were ever made, newest last.
pub(crate) async fn list(database: &Database) -> Result<Vec<InvitationRow>, DbError> {
    let query = format!("{SELECT} ORDER BY i.id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .fetch_all(database.read())
        .await?;
    rows.iter().map(invitation).collect()
}

/// Those that were made last, newest first.
pub(crate) async fn newest(database: &Database) -> Result<Vec<InvitationRow>, DbError> {
    let query = format!("{SELECT} ORDER BY i.id DESC LIMIT {MOST_SHOWN}");
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .fetch_all(database.read())
        .await?;
    rows.iter().map(invitation).collect()
}

/// Takes one back: nobody new joins by it. Who has joined stays.
pub async fn revoke(database: &Database, id: i64, now_ms: i64) -> Result<(), InvitationError> {
    let mut write = database.write().await?;
    let outcome =
        sqlx::query("UPDATE invitations SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL")
            .bind(now_ms)
            .bind(id)
            .execute(&mut *write)
            .await
            .map_err(DbError::from)?;
    write.commit().await?;
    if outcome.rows_affected() == 0 {
        return Err(InvitationError::NoSuch(id));
    }
    Ok(())
}

/// What a token is worth to somebody new. Nothing is written.
pub(crate) async fn look(
    database: &Database,
    token: &InvitationToken,
    now_ms: i64,
) -> Result<InvitationRow, Refusal> {
    let mut read = database.read().acquire().await.map_err(unavailable)?;
    let row = find(&mut read, token).await.map_err(unavailable)?;
    let row = row.ok_or(Unusable::Unknown)?;
    match row.fault(now_ms) {
        None => Ok(row),
        Some(fault) => Err(fault.into()),
    }
}

/// Whether a node has joined by this token before. Nothing is written.
pub(crate) async fn has_joined(
    database: &Database,
    token: &InvitationToken,
    node: NodeId,
) -> Result<bool, DbError> {
    let known = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM joined JOIN invitations ON id = invitation
             WHERE token_hash = ? AND node = ?)",
    )
    .bind(token.hash().to_string())
    .bind(node.to_string())
    .fetch_one(database.read())
    .await?;
    Ok(known)
}

/// Lets a node in, and gives what it is now. One that joined by this invitation before counts no
/// further use and is given nothing back that was taken from it since.
pub(crate) async fn join(
    database: &Database,
    token: &InvitationToken,
    node: NodeId,
    software: &str,
    now_ms: i64,
) -> Result<Standing, Refusal> {
    let mut write = database.write().await.map_err(unavailable)?;
    let row = find(&mut write, token).await.map_err(unavailable)?;
    let row = row.ok_or(Unusable::Unknown)?;
    let before: Option<i64> =
        sqlx::query_scalar("SELECT joined_ms FROM joined WHERE invitation = ? AND node = ?")
            .bind(row.id)
            .bind(node.to_string())
            .fetch_optional(&mut *write)
            .await
            .map_err(unavailable)?;
    if before.is_none() {
        if let Some(fault) = row.fault(now_ms) {
            return Err(fault.into());
        }
        sqlx::query("INSERT INTO joined (invitation, node, joined_ms) VALUES (?, ?, ?)")
            .bind(row.id)
            .bind(node.to_string())
            .bind(now_ms)
            .execute(&mut *write)
            .await
            .map_err(unavailable)?;
        store::add_member(&mut write, node, row.standing, software, now_ms)
            .await
            .map_err(unavailable)?;
    }
    let standing = store::standing(&mut write, node)
        .await
        .map_err(unavailable)?;
    write.commit().await.map_err(unavailable)?;
    Ok(standing)
}

async fn find(
    connection: &mut SqliteConnection,
    token: &InvitationToken,
) -> Result<Option<InvitationRow>, DbError> {
    let query = format!("{SELECT} WHERE i.token_hash = ?");
    let row = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(token.hash().to_string())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(invitation).transpose()
}

fn invitation(row: &SqliteRow) -> Result<InvitationRow, DbError> {
    Ok(InvitationRow {
        id: row.try_get("id")?,
        label: row.try_get("label")?,
        standing: Standing {
            trusted: row.try_get("trusted")?,
            reference: row.try_get("reference")?,
        },
        uses: row.try_get("uses")?,
        max_uses: row.try_get("max_uses")?,
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        revoked_ms: row.try_get("revoked_ms")?,
    })
}

impl InvitationRow {
    /// Why nobody new joins by it, if so.
    pub(crate) fn fault(&self, now_ms: i64) -> Option<Unusable> {
        if self.revoked_ms.is_some() {
            Some(Unusable::Revoked)
        } else if self.expires_ms.is_some_and(|end| end <= now_ms) {
            Some(Unusable::Expired)
        } else {
            let most = self.max_uses.filter(|most| self.uses >= *most);
            most.map(Unusable::UsedUp)
        }
    }

    pub(crate) fn uses_left(&self) -> Option<u32> {
        self.max_uses.map(|most| most.saturating_sub(self.uses))
    }
}

impl From<Unusable> for Refusal {
    fn from(fault: Unusable) -> Self {
        let code = match fault {
            Unusable::Unknown => RefusalCode::InvitationUnknown,
            Unusable::Revoked => RefusalCode::InvitationRevoked,
            Unusable::Expired => RefusalCode::InvitationExpired,
            Unusable::UsedUp(_) => RefusalCode::InvitationUsedUp,
        };
        refusal(code, fault.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn id(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn row() -> InvitationRow {
        InvitationRow {
            id: 1,
            label: String::new(),
            standing: Standing::default(),
            uses: 0,
            max_uses: None,
            created_ms: 0,
            expires_ms: None,
            revoked_ms: None,
        }
    }

    #[test]
    fn why_nobody_joins_as_a_table() {
        let of = |change: fn(&mut InvitationRow)| {
            let mut row = row();
            change(&mut row);
            row.fault(NOW)
        };
        assert_eq!(of(|_| {}), None);
        assert_eq!(of(|row| row.uses = 1_000_000), None);
        assert_eq!(of(|row| row.expires_ms = Some(NOW + 1)), None);
        assert_eq!(
            of(|row| row.expires_ms = Some(NOW)),
            Some(Unusable::Expired)
        );
        assert_eq!(of(|row| row.revoked_ms = Some(1)), Some(Unusable::Revoked));
        let used = |row: &mut InvitationRow| (row.uses, row.max_uses) = (2, Some(2));
        assert_eq!(of(used), Some(Unusable::UsedUp(2)));
        assert_eq!(of(|row| (row.uses, row.max_uses) = (1, Some(2))), None);
    }

    async fn database() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        (folder, database)
    }

    async fn made(database: &Database, terms: Terms) -> (i64, InvitationToken) {
        create(database, &Edges::system(), &terms).await.unwrap()
    }

    async fn joined(
        database: &Database,
        token: &InvitationToken,
        number: u8,
    ) -> Result<Standing, RefusalCode> {
        join(database, token, id(number), "test", NOW)
            .await
            .map_err(|refused| refused.code)
    }

    const ALL: Standing = Standing {
        trusted: true,
        reference: true,
    };

    #[tokio::test]
    async fn what_was_taken_from_a_node_no_invitation_it_used_gives_back() {
        let (_folder, database) = database().await;
        let terms = Terms {
            standing: ALL,
            max_uses: Some(2),
            ..Terms::default()
        };
        let (_, token) = made(&database, terms.clone()).await;
        assert_eq!(joined(&database, &token, 1).await, Ok(ALL));
        crate::untrust(&database, id(1)).await.unwrap();
        assert_eq!(joined(&database, &token, 1).await, Ok(Standing::default()));
        // Nor does another, once a check has failed.
        assert_eq!(joined(&database, &token, 2).await, Ok(ALL));
        let mut write = database.write().await.unwrap();
        store::add_failure(&mut write, id(2), 1, 1).await.unwrap();
        write.commit().await.unwrap();
        let (_, another) = made(&database, terms).await;
        let left = Standing {
            trusted: false,
            reference: true,
        };
        assert_eq!(joined(&database, &another, 2).await, Ok(left));
        assert_eq!(joined(&database, &another, 1).await, Ok(ALL));
    }

    #[tokio::test]
    async fn uses_are_counted_by_node_also_when_two_come_at_once() {
        let (_folder, database) = database().await;
        let terms = Terms {
            max_uses: Some(3),
            ..Terms::default()
        };
        let (_, token) = made(&database, terms).await;
        let mut all = tokio::task::JoinSet::new();
        for number in 0..20 {
            let database = database.clone();
            all.spawn(async move {
                let first = joined(&database, &token, number).await;
                assert_eq!(joined(&database, &token, number).await, first);
                first.is_ok()
            });
        }
        let let_in = all.join_all().await.into_iter().filter(|ok| *ok).count();
        assert_eq!(let_in, 3);
        assert_eq!(list(&database).await.unwrap()[0].uses, 3);
    }

    #[tokio::test]
    async fn labels_and_numbers_are_checked() {
        let (_folder, database) = database().await;
        for label in ["x".repeat(65), "two\nlines".to_owned()] {
            let terms = Terms {
                label,
                ..Terms::default()
            };
            let refused = create(&database, &Edges::system(), &terms).await;
            assert!(matches!(refused, Err(InvitationError::BadLabel)));
        }
        let (number, _) = made(&database, Terms::default()).await;
        revoke(&database, number, NOW).await.unwrap();
        for wrong in [number, number + 1] {
            let refused = revoke(&database, wrong, NOW).await;
            assert!(matches!(refused, Err(InvitationError::NoSuch(_))));
        }
    }
}
