//! For tests and measurements only: a simulated node, which says to a balancer what a node says
//! without an engine behind it, and a balancer in this process for it.

#![expect(clippy::unwrap_used, reason = "only tests and measurements use it")]

mod account;
mod model;
mod network;
mod node;
mod work;

pub use account::SimAccount;
pub use model::{
    ANSWER_TOKENS, agreeing_report, embedder, head, honest_report, model_id, sim_answer,
    sim_log_probabilities, sim_token, sim_vector, sim_vectors, writing,
};
pub use network::{
    EMBEDDER, MODEL, Network, PRICE, Streamed, chat_body, hasty, patient, read_stream, until,
};
pub use node::{
    SimNode, answer, challenge, code, hardware, http, join_by, join_request, key, open_session,
    session_request,
};
pub use work::{Answer, Work, embedded};
