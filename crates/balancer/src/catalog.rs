//! The models the network serves: their heads, names and prices.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use infera_model::{Head, Kind, ModelError, Tokenizer};
use infera_protocol::node_api::{ModelOffer, Price};
use infera_protocol::{MICRO_POINTS, ModelId, Profile};
use serde::Serialize;

use crate::db::{Database, DbError};

/// The most micro-points that a token may cost: a point. Prompt and output of one job have fewer
/// than 2^33 tokens together, so no job costs more than 8.6 * 10^15 micro-points; and of the
/// largest contexts there are, a million tokens, the books hold nine million jobs at this price
/// before an account's 9.2 * 10^18 are full.
const MAX_PRICE: i64 = MICRO_POINTS;

/// A model that clients can ask for.
pub(crate) struct ServedModel {
    pub id: ModelId,
    pub profile: Profile,
    pub name: String,
    pub price: Price,
    /// Prompt and output together, or the longest text to embed.
    pub context: u32,
    pub vocabulary: u32,
    /// How many values its vectors have; `None` for a model that writes text.
    pub vector_width: Option<u32>,
    pub added_ms: i64,
    head: Arc<Head>,
}

impl ServedModel {
    pub(crate) fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.head.tokenizer()
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    pub(crate) fn offer(&self) -> ModelOffer {
        ModelOffer {
            model: self.id,
            name: self.name.clone(),
            price: self.price,
            context_tokens: self.context,
        }
    }
}

/// A stored model that this version cannot serve. The others are served all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct UnusableModel {
    pub model: String,
    pub name: String,
    /// In a sentence, with what to do.
    pub fault: String,
}

/// The models now served. Reads the database again when asked, so that commands take effect
/// while the server runs.
#[derive(Default)]
pub(crate) struct Catalog {
    by_name: RwLock<HashMap<String, Arc<ServedModel>>>,
    unusable: RwLock<Vec<UnusableModel>>,
    /// Heads are large: each is read once, also for jobs on models that are no longer served.
    heads: RwLock<HashMap<ModelId, Arc<Head>>>,
    /// One at a time, so that an older reading never replaces a newer one.
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(
        "The stored model `{name}` cannot be read: {source}. Remove it with `model remove`, and add it again"
    )]
    Head { name: String, source: ModelError },
    #[error(transparent)]
    Refused(ModelError),
    #[error(
        "The stored model `{0}` has an id that this version does not give it. Remove it with `model remove`, and add it again"
    )]
    Stale(String),
    #[error(
        "The name `{0}` already belongs to another model. Remove that one first, or choose another name"
    )]
    NameTaken(String),
    #[error("The model is already served as `{0}`. Remove that first to rename it")]
    Renamed(String),
    #[error("No model is served as `{0}`. `model list` shows those that are")]
    Unknown(String),
    #[error("A price is in micro-points per token and cannot be negative")]
    NegativePrice,
    #[error(
        "A price is in micro-points per token and at most {MAX_PRICE}: the books could not hold what a job would cost"
    )]
    PriceTooHigh,
}

type Row = (String, String, i64, i64, i64);

impl Catalog {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<ServedModel>> {
        let models = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        models.get(name).cloned()
    }

    /// In order of name.
    pub(crate) fn list(&self) -> Vec<Arc<ServedModel>> {
        let models = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = models.values().cloned().collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Takes over what commands have changed.
    pub(crate) async fn refresh(&self, database: &Database) -> Result<(), CatalogError> {
        let _turn = self.refreshing.lock().await;
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, name, input_price, output_price, added_ms FROM models
             WHERE removed_ms IS NULL",
        )
        .fetch_all(database.read())
        .await
        .map_err(DbError::from)?;
        let mut served = HashMap::new();
        let mut unusable = Vec::new();
        for row in rows {
            let (model, name) = (row.0.clone(), row.1.clone());
            match self.model(database, row).await {
                Ok(model) => {
                    served.insert(name, Arc::new(model));
                }
                Err(error) if error.is_of_the_model() => unusable.push(UnusableModel {
                    model,
                    name,
                    fault: error.to_string(),
                }),
                Err(error) => return Err(error),
            }
        }
        unusable.sort_by(|a, b| a.name.cmp(&b.name));
        let known = std::mem::replace(
            &mut *self
                .unusable
                .write()
                .unwrap_or_else(PoisonError::into_inner),
            unusable.clone(),
        );
        for model in unusable.iter().filter(|model| !known.contains(model)) {
            tracing::error!(
                model = model.name,
                fault = model.fault,
                "a model is not served"
            );
        }
        *self.by_name.write().unwrap_or_else(PoisonError::into_inner) = served;
        Ok(())
    }

    /// Models that cannot be served, in order of name.
    pub(crate) fn unusable(&self) -> Vec<UnusableModel> {
        let unusable = self.unusable.read().unwrap_or_else(PoisonError::into_inner);
        unusable.clone()
    }

    /// A model by id, also one that is no longer served.
    pub(crate) async fn find(
        &self,
        database: &Database,
        id: ModelId,
    ) -> Result<Option<Arc<ServedModel>>, CatalogError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT id, name, input_price, output_price, added_ms FROM models WHERE id = ?",
        )
        .bind(id.to_string())
        .fetch_optional(database.read())
        .await
        .map_err(DbError::from)?;
        match row {
            Some(row) => Ok(Some(Arc::new(self.model(database, row).await?))),
            None => Ok(None),
        }
    }

    async fn model(&self, database: &Database, row: Row) -> Result<ServedModel, CatalogError> {
        let (id, name, input, output, added_ms) = row;
        let id: ModelId = id
            .parse()
            .map_err(|_| DbError::Content(format!("the model id `{id}`")))?;
        let head = match self.head(database, id).await {
            Err(HeadFault::Database(error)) => return Err(error.into()),
            Err(HeadFault::Unreadable(source)) => return Err(CatalogError::Head { name, source }),
            Ok(head) => head,
        };
        let Some(profile) = profile(&head, id) else {
            return Err(CatalogError::Stale(name));
        };
        let price = Price { input, output };
        check_price(price)?;
        Ok(ServedModel {
            id,
            profile,
            name,
            price,
            context: head.kind().context(),
            vocabulary: head.kind().vocabulary(),
            vector_width: match head.kind() {
                Kind::Decoder(_) => None,
                Kind::Embedder(config) => Some(config.embedding),
            },
            added_ms,
            head,
        })
    }

    async fn head(&self, database: &Database, id: ModelId) -> Result<Arc<Head>, HeadFault> {
        let known = {
            let heads = self.heads.read().unwrap_or_else(PoisonError::into_inner);
            heads.get(&id).cloned()
        };
        if let Some(head) = known {
            return Ok(head);
        }
        let bytes: Vec<u8> = sqlx::query_scalar("SELECT head FROM models WHERE id = ?")
            .bind(id.to_string())
            .fetch_one(database.read())
            .await
            .map_err(|error| HeadFault::Database(error.into()))?;
        let head = Arc::new(Head::from_bytes(&bytes).map_err(HeadFault::Unreadable)?);
        self.heads
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, Arc::clone(&head));
        Ok(head)
    }
}

enum HeadFault {
    Database(DbError),
    Unreadable(ModelError),
}

impl CatalogError {
    /// One model is at fault: the database answers, and other models may well be served.
    pub(crate) fn is_of_the_model(&self) -> bool {
        match self {
            Self::Database(error) => matches!(error, DbError::Content(_)),
            _ => true,
        }
    }
}

fn check_price(price: Price) -> Result<(), CatalogError> {
    if price.input < 0 || price.output < 0 {
        return Err(CatalogError::NegativePrice);
    }
    if price.input > MAX_PRICE || price.output > MAX_PRICE {
        return Err(CatalogError::PriceTooHigh);
    }
    Ok(())
}

/// The profile that makes a head's model the one with this id.
fn profile(head: &Head, id: ModelId) -> Option<Profile> {
    let mut profiles = head.kind().profiles().iter().copied();
    profiles.find(|profile| head.id(*profile) == id)
}

/// Serves a model from now on, or changes its prices.
pub async fn add(
    database: &Database,
    head: &Head,
    profile: Profile,
    name: &str,
    price: Price,
    now_ms: i64,
) -> Result<ModelId, CatalogError> {
    check_price(price)?;
    head.kind()
        .require(profile, head.file())
        .map_err(CatalogError::Refused)?;
    let id = head.id(profile);
    let mut write = database.write().await?;
    let holder: Option<String> =
        sqlx::query_scalar("SELECT id FROM models WHERE name = ? AND removed_ms IS NULL")
            .bind(name)
            .fetch_optional(&mut *write)
            .await
            .map_err(DbError::from)?;
    if holder.is_some_and(|holder| holder != id.to_string()) {
        return Err(CatalogError::NameTaken(name.to_owned()));
    }
    let known_as: Option<String> =
        sqlx::query_scalar("SELECT name FROM models WHERE id = ? AND removed_ms IS NULL")
            .bind(id.to_string())
            .fetch_optional(&mut *write)
            .await
            .map_err(DbError::from)?;
    if let Some(known_as) = known_as.filter(|known_as| known_as != name) {
        return Err(CatalogError::Renamed(known_as));
    }
    sqlx::query(
        "INSERT INTO models (id, name, head, input_price, output_price, added_ms)
         VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, head = excluded.head,
             input_price = excluded.input_price, output_price = excluded.output_price,
             removed_ms = NULL",
    )
    .bind(id.to_string())
    .bind(name)
    .bind(head.to_bytes())
    .bind(price.input)
    .bind(price.output)
    .bind(now_ms)
    .execute(&mut *write)
    .await
    .map_err(DbError::from)?;
    write.commit().await?;
    Ok(id)
}

/// Changes the prices of a model that is served. Jobs that run keep theirs.
pub(crate) async fn set_price(
    database: &Database,
    name: &str,
    price: Price,
) -> Result<(), CatalogError> {
    check_price(price)?;
    let mut write = database.write().await?;
    let outcome = sqlx::query(
        "UPDATE models SET input_price = ?, output_price = ?
         WHERE name = ? AND removed_ms IS NULL",
    )
    .bind(price.input)
    .bind(price.output)
    .bind(name)
    .execute(&mut *write)
    .await
    .map_err(DbError::from)?;
    write.commit().await?;
    if outcome.rows_affected() == 0 {
        return Err(CatalogError::Unknown(name.to_owned()));
    }
    Ok(())
}

/// Serves a model no longer. Jobs that run go on.
pub async fn remove(database: &Database, name: &str, now_ms: i64) -> Result<(), CatalogError> {
    let removed = "UPDATE models SET removed_ms = ? WHERE name = ? AND removed_ms IS NULL";
    if !database.update_named(removed, now_ms, name).await? {
        return Err(CatalogError::Unknown(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use infera_model::Gguf;

    use super::*;

    async fn served(price: Price) -> (tempfile::TempDir, Database, Result<ModelId, CatalogError>) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/model/tiny-llama.gguf");
        let head = Head::from_gguf(&Gguf::open(&file).unwrap()).unwrap();
        let added = add(&database, &head, Profile::P32, "good", price, 0).await;
        (folder, database, added)
    }

    #[tokio::test]
    async fn a_price_that_the_books_cannot_hold_is_refused() {
        let price = |input, output| Price { input, output };
        for wrong in [price(i64::MAX, 1), price(1, MAX_PRICE + 1)] {
            let (_folder, _database, added) = served(wrong).await;
            assert!(matches!(added, Err(CatalogError::PriceTooHigh)));
        }
        let highest = price(MAX_PRICE, MAX_PRICE);
        let (_folder, _database, added) = served(highest).await;
        added.unwrap();
        let dearest = crate::ledger::cost(highest, u32::MAX, u32::MAX);
        assert!(dearest < i64::MAX / 1000, "{dearest}");
        let large = crate::ledger::cost(highest, 1 << 20, 0);
        assert!(large.checked_mul(8_000_000).is_some());
    }

    #[tokio::test]
    async fn a_model_that_cannot_be_served_keeps_no_other_from_it() {
        let (_folder, database, added) = served(Price {
            input: 1,
            output: 1,
        })
        .await;
        added.unwrap();
        let other = ModelId::from_bytes([7; 32]).to_string();
        let mut write = database.write().await.unwrap();
        for (id, name, head, price) in [
            (
                other.as_str(),
                "stale",
                "(SELECT head FROM models WHERE name = 'good')",
                1,
            ),
            (&other.replace("07", "08"), "broken", "x'00'", 1),
            (
                &other.replace("07", "09"),
                "dear",
                "(SELECT head FROM models WHERE name = 'good')",
                i64::MAX,
            ),
            ("nonsense", "nameless", "x'00'", 1),
        ] {
            let sql = format!(
                "INSERT INTO models (id, name, head, input_price, output_price, added_ms)
                 VALUES ('{id}', '{name}', {head}, {price}, 1, 0)"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(&mut *write)
                .await
                .unwrap();
        }
        write.commit().await.unwrap();
        let catalog = Catalog::default();
        for _ in 0..2 {
            catalog.refresh(&database).await.unwrap();
            let names: Vec<_> = catalog
                .list()
                .iter()
                .map(|model| model.name.clone())
                .collect();
            assert_eq!(names, ["good"]);
            let unusable = catalog.unusable();
            let names: Vec<_> = unusable.iter().map(|model| model.name.as_str()).collect();
            assert_eq!(names, ["broken", "dear", "nameless", "stale"]);
            assert!(unusable[0].fault.contains("model remove"), "{unusable:?}");
        }
    }
}
