//! What the network could not do, in `OpenAI`'s format.

use infera_model::ModelError;
use infera_model::rendering::RenderError;

use crate::db::DbError;
use crate::openai::ApiError;
use crate::submit_error::{PromptError, SubmitError};

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::TooManyAnswers { .. } => Self::invalid(None, message),
            SubmitError::TooManyJobs { .. } => Self::too_many("rate_limit_exceeded", message),
            // No waiting helps, which 429 would say.
            SubmitError::BeyondLimit => Self {
                code: Some("insufficient_quota"),
                ..Self::invalid(None, message)
            },
            SubmitError::NoOwnNodes | SubmitError::BeyondRoute(_) => {
                Self::invalid(Some("infera.route"), message)
            }
            SubmitError::LimitReached
            | SubmitError::DailyLimitReached
            | SubmitError::NotEnoughPoints { .. } => Self {
                retry_after_s: None,
                ..Self::too_many("insufficient_quota", message)
            },
            SubmitError::Storage => Self::unavailable("storage_unavailable", message),
            SubmitError::NobodyTakesSoLong { .. } => Self {
                code: Some("context_length_exceeded"),
                ..Self::invalid(Some("messages"), message)
            },
            SubmitError::NobodyHas { .. }
            | SubmitError::NoneOfOwn { .. }
            | SubmitError::NoneOfTrusted { .. }
            | SubmitError::Paused { .. }
            | SubmitError::Unfit { .. } => Self::unavailable("no_eligible_node", message),
            SubmitError::Busy { .. } => Self::unavailable("all_nodes_busy", message),
            SubmitError::NobodyFinished { .. } => Self::unavailable("no_node_finished", message),
            SubmitError::TookTooLong { .. } => Self::unavailable("deadline_exceeded", message),
        }
    }
}

impl From<PromptError> for ApiError {
    fn from(error: PromptError) -> Self {
        let message = error.to_string();
        match error {
            PromptError::TextTooLong { context, index } => {
                Self::text_too_long(context, index, None)
            }
            PromptError::PromptTooLong { context } => Self::context_exceeded(context, None, None),
            PromptError::TooMuch { param, .. } | PromptError::BeyondVocabulary { param, .. } => {
                Self::invalid(Some(param), message)
            }
            PromptError::NoTemplate(_)
            | PromptError::Template(RenderError::Model(ModelError::MessagesRefused { .. })) => {
                Self::invalid(Some("messages"), message)
            }
            PromptError::Template(RenderError::Model(_)) => Self {
                code: Some("model_template_failed"),
                ..Self::server(format!(
                    "{message} The model's file is at fault, not the request. Tell this network's operator, or choose another model"
                ))
            },
            PromptError::Template(RenderError::Busy) => {
                Self::unavailable("templates_busy", message)
            }
            PromptError::Template(RenderError::Start(_)) => {
                Self::unavailable("templates_unavailable", message)
            }
            PromptError::Unread { .. } => Self::server(message),
        }
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        SubmitError::storage(&error).into()
    }
}
