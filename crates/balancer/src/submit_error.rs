//! Why a request did not become jobs, or a job came to nothing. How that is said to a client is the
//! door's.

use infera_model::rendering::RenderError;
use infera_protocol::Route;

use crate::db::DbError;
use crate::ledger::points;

/// Why jobs were not accepted, or one came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubmitError {
    #[error(
        "The request asks for {count} answers, and a key may have {most} jobs at once. Send it in parts"
    )]
    TooManyAnswers { count: usize, most: usize },
    #[error("This key may have {most} jobs at once. Wait for one to end")]
    TooManyJobs { most: usize },
    /// Whatever else the key's jobs cost.
    #[error(
        "The request may cost more than this key's whole limit of points. Ask for fewer tokens, or have the key's limit raised"
    )]
    BeyondLimit,
    #[error(
        "This key's limit of points would be exceeded. Ask for fewer tokens, or raise the key's limit"
    )]
    LimitReached,
    #[error(
        "This key may spend only so many points a day, and this request may cost more than is left of them. Ask for fewer tokens, wait until midnight in UTC, or make a key with a higher limit"
    )]
    DailyLimitReached,
    /// In micro-points.
    #[error(
        "Your account has {} points left, and this request may cost {}. Ask for fewer tokens, earn more, or ask with the route `own`, which costs nothing on your own machines", points(*.balance), points(*.asked)
    )]
    NotEnoughPoints { balance: i64, asked: i64 },
    #[error(
        "This key belongs to no account, so no nodes are its own. Make a key with `infera key create`, or ask with another route"
    )]
    NoOwnNodes,
    #[error(
        "This key's requests go to {} nodes at most. Ask without a route, or make another key", .0.word()
    )]
    BeyondRoute(Route),
    #[error("The balancer cannot use its database now. Try again")]
    Storage,
    #[error("No node that is online has the model `{model}`. Try again later")]
    NobodyHas { model: String },
    #[error(
        "None of your own machines that are online has the model `{model}`. Start one, or ask with another route"
    )]
    NoneOfOwn { model: String },
    #[error(
        "No node that this network's operator trusts is online with the model `{model}`. Try again later, or ask with another route"
    )]
    NoneOfTrusted { model: String },
    #[error("All nodes that may have the model `{model}` are paused ({count}). Try again later")]
    Paused { model: String, count: usize },
    #[error(
        "None of the nodes that may have the model `{model}` may take jobs now ({count}): they do not meet the network's requirements. Try again later"
    )]
    Unfit { model: String, count: usize },
    /// `longest` is what one node has, in tokens of prompt and answer together.
    #[error(
        "This model's maximum context length is {longest} tokens; that is the most that a node takes which is online with the model `{model}`. Shorten the prompt or lower `max_tokens`"
    )]
    NobodyTakesSoLong { model: String, longest: u32 },
    #[error("All nodes with the model `{model}` are busy. Try again later")]
    Busy { model: String },
    #[error("{tries} nodes took the job and lost it. Try again")]
    NobodyFinished { tries: u32 },
    #[error(
        "The job took longer than the {seconds} seconds that this network gives one. Ask for fewer tokens, or try again"
    )]
    TookTooLong { seconds: u64 },
}

/// Why a request's texts did not become tokens. `param` is the field that holds them, and texts are
/// counted from 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromptError {
    /// One of several texts to embed.
    #[error("text {index} has more than {context} tokens")]
    TextTooLong { context: u32, index: usize },
    #[error("the prompt has more than {context} tokens")]
    PromptTooLong { context: u32 },
    #[error(
        "`{param}` has more than {most} tokens, which is the most for one request. Send the texts in several requests"
    )]
    TooMuch { param: &'static str, most: usize },
    #[error("Token id {id} in `{param}` is beyond the model's vocabulary of {vocabulary}")]
    BeyondVocabulary {
        param: &'static str,
        id: u32,
        vocabulary: u32,
    },
    #[error("{0}")]
    NoTemplate(String),
    #[error(transparent)]
    Template(RenderError),
    #[error("The `{param}` could not be read")]
    Unread { param: &'static str },
}

impl SubmitError {
    /// The database's own words are for the log.
    pub(crate) fn storage(error: &DbError) -> Self {
        tracing::error!(%error, "the database refused");
        Self::Storage
    }
}
