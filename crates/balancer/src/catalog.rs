//! The models the network serves: their heads, names and prices.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use infera_model::{Head, Kind, ModelError, Tokenizer};
use infera_protocol::node_api::{ModelOffer, Price};
use infera_protocol::{ModelId, Profile};

use crate::db::{Database, DbError};

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

/// The models now served. Reads the database again when asked, so that commands take effect
/// while the server runs.
#[derive(Default)]
pub(crate) struct Catalog {
    by_name: RwLock<HashMap<String, Arc<ServedModel>>>,
    /// Heads are large: each is read once, also for jobs on models that are no longer served.
    heads: RwLock<HashMap<ModelId, Arc<Head>>>,
    /// One at a time, so that an older reading never replaces a newer one.
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("A stored model cannot be read: {0}")]
    Head(ModelError),
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
        for row in rows {
            let model = self.model(database, row).await?;
            served.insert(model.name.clone(), Arc::new(model));
        }
        *self.by_name.write().unwrap_or_else(PoisonError::into_inner) = served;
        Ok(())
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
        let head = self.head(database, id).await?;
        let Some(profile) = profile(&head, id) else {
            return Err(CatalogError::Stale(name));
        };
        Ok(ServedModel {
            id,
            profile,
            name,
            price: Price { input, output },
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

    async fn head(&self, database: &Database, id: ModelId) -> Result<Arc<Head>, CatalogError> {
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
            .map_err(DbError::from)?;
        let head = Arc::new(Head::from_bytes(&bytes).map_err(CatalogError::Head)?);
        self.heads
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, Arc::clone(&head));
        Ok(head)
    }
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
    if price.input < 0 || price.output < 0 {
        return Err(CatalogError::NegativePrice);
    }
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
    write.commit().await.map_err(DbError::from)?;
    Ok(id)
}

/// Serves a model no longer. Jobs that run go on.
pub async fn remove(database: &Database, name: &str, now_ms: i64) -> Result<(), CatalogError> {
    let removed = "UPDATE models SET removed_ms = ? WHERE name = ? AND removed_ms IS NULL";
    if !database.update_named(removed, now_ms, name).await? {
        return Err(CatalogError::Unknown(name.to_owned()));
    }
    Ok(())
}
