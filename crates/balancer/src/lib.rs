//! The load balancer: takes requests in `OpenAI`'s format, broadcasts them to nodes, has their
//! output checked by reference nodes, and keeps the books.

mod account_http;
mod accounts;
mod address;
mod audits;
mod body;
mod bounds;
mod canaries;
mod catalog;
mod certificate;
pub mod cli;
mod client_http;
mod config;
mod connections;
mod db;
mod dispatch;
mod edges;
mod invitations;
mod job;
mod joining;
mod keys;
mod ledger;
#[cfg(test)]
mod life;
mod metrics;
mod node_http;
mod nodes;
mod openai;
mod operator;
mod page;
mod private;
mod prompts;
mod queues;
mod reach;
mod receipts;
mod references;
mod router;
mod server;
mod spending;
mod standstill;
mod states;
mod store;
mod submit_error;

pub use catalog::{CatalogError, add as add_model, remove as remove_model};
pub use config::{Config, ConfigError, policy};
pub use db::{Database, DbError};
pub use dispatch::Balancer;
pub use edges::Edges;
pub use infera_protocol::node_api::{AdmissionRule, Checking, Standing};
pub use invitations::{
    InvitationError, Terms, create as create_invitation, revoke as revoke_invitation,
};
pub use keys::{KeyError, create_key};
pub use ledger::{Balance, TrialBalance, trial_balance};
pub use operator::keys::{
    OperatorKeyError, create as create_operator_key, revoke as revoke_operator_key,
};
pub use server::{Address, ServeError, Server, Tls};
pub use store::{NodeRow, nodes as list_nodes};

/// Lets a node be what the operator says, beside what it is.
pub async fn trust(
    database: &Database,
    node: infera_protocol::NodeId,
    standing: Standing,
) -> Result<(), DbError> {
    let mut write = database.write().await?;
    store::trust(&mut write, node, standing).await?;
    write.commit().await
}

/// Makes it an ordinary node again.
pub async fn untrust(database: &Database, node: infera_protocol::NodeId) -> Result<(), DbError> {
    let mut write = database.write().await?;
    store::untrust(&mut write, node).await?;
    write.commit().await
}
