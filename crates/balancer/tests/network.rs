//! The balancer over real HTTP, with simulated nodes.

#![expect(clippy::unwrap_used, reason = "the functions that tests share")]

#[path = "network/accounts.rs"]
mod accounts;
#[path = "network/answers.rs"]
mod answers;
#[path = "network/clients.rs"]
mod clients;
#[path = "network/conduct.rs"]
mod conduct;
#[path = "network/edge.rs"]
mod edge;
#[path = "network/embeddings.rs"]
mod embeddings;
#[path = "network/invitations.rs"]
mod invitations;
#[path = "network/nodes.rs"]
mod nodes;
#[path = "network/operator.rs"]
mod operator;
#[path = "network/program.rs"]
mod program;
#[path = "network/references.rs"]
mod references;
#[path = "network/templates.rs"]
mod templates;
#[path = "network/verdicts.rs"]
mod verdicts;
