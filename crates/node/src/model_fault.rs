//! Why a model does not answer here, as data: a window says it in its language.

#![deny(missing_docs)]

use infera_engine::message::{Failure, FailureCode};
use infera_model::ModelError;
use infera_model::rendering::RenderError;
use infera_protocol::shown;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::engine_link::EngineError;
use crate::local_engine::LocalFault;

/// A model's file, its device, its engine or what it was asked stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[error("{message}")]
pub struct ModelFault {
    /// What kind of fault; the window has a sentence for each.
    pub cause: ModelCause,
    /// What happened, in one sentence.
    pub message: String,
}

/// Kinds of faults. What a person can do differs between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ModelCause {
    /// The system does not give the file.
    Unreadable,
    /// An architecture, a quantisation or a tokenizer that this program lacks.
    Unsupported,
    /// The file is damaged or incomplete, or what it computes is no number.
    Damaged,
    /// It has no chat template, or one that does not take this conversation.
    Template,
    /// The chosen device is not there, or cannot be opened.
    NoDevice,
    /// The device, or the machine, has too little memory for it.
    OutOfMemory,
    /// The GPU's driver crashed or was reset.
    DeviceLost,
    /// The engine's program cannot be started.
    NotStarted,
    /// The engine does not answer.
    Silent,
    /// The engine ended by itself.
    Ended,
    /// The conversation is longer than the model's context.
    ContextFull,
    /// The owner asked for something else meanwhile.
    BrokenOff,
    /// The engine made a mistake of its own; the message is for a report.
    Internal,
}

impl ModelFault {
    /// A file's own words may be in the message.
    pub(crate) fn new(cause: ModelCause, message: &str) -> Self {
        Self {
            cause,
            message: shown::line(message).into_owned(),
        }
    }
}

impl From<ModelError> for ModelFault {
    fn from(error: ModelError) -> Self {
        let cause = match error {
            ModelError::NoChatTemplate { .. }
            | ModelError::BadTemplate { .. }
            | ModelError::MessagesRefused { .. } => ModelCause::Template,
            _ => match FailureCode::from(&error) {
                FailureCode::Unreadable => ModelCause::Unreadable,
                FailureCode::Unsupported => ModelCause::Unsupported,
                _ => ModelCause::Damaged,
            },
        };
        Self::new(cause, &error.to_string())
    }
}

impl From<RenderError> for ModelFault {
    fn from(error: RenderError) -> Self {
        Self::new(ModelCause::Template, &error.to_string())
    }
}

impl From<Failure> for ModelFault {
    fn from(failure: Failure) -> Self {
        let cause = match failure.code {
            FailureCode::Unreadable => ModelCause::Unreadable,
            FailureCode::Unsupported => ModelCause::Unsupported,
            FailureCode::BadModel => ModelCause::Damaged,
            FailureCode::NoDevice => ModelCause::NoDevice,
            FailureCode::OutOfMemory => ModelCause::OutOfMemory,
            FailureCode::DeviceLost => ModelCause::DeviceLost,
            FailureCode::BadRequest | FailureCode::NotLoaded | FailureCode::Internal => {
                ModelCause::Internal
            }
        };
        Self::new(cause, &failure.message)
    }
}

impl From<EngineError> for ModelFault {
    fn from(error: EngineError) -> Self {
        let cause = match error {
            EngineError::Start(_) => ModelCause::NotStarted,
            EngineError::Silent => ModelCause::Silent,
            EngineError::Ended => ModelCause::Ended,
        };
        Self::new(cause, &error.to_string())
    }
}

impl From<LocalFault> for ModelFault {
    fn from(fault: LocalFault) -> Self {
        match fault {
            LocalFault::Engine(error) => error.into(),
            LocalFault::Failed(failure) => failure.into(),
            LocalFault::Ended => Self::new(ModelCause::Ended, &fault.to_string()),
        }
    }
}
