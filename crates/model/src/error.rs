//! What can be wrong with a model file.

use std::path::PathBuf;

use infera_protocol::Profile;

use crate::architecture::Architecture;

/// Every text is one sentence that names the file and the fault.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("Cannot open the model file `{}`: {source}.", path.display())]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("`{file}` is not a usable GGUF file: {fault}.")]
    Malformed { file: String, fault: String },
    #[error("`{file}` has no metadata `{key}`, which its model needs; get a complete file.")]
    MissingMetadata { file: String, key: String },
    #[error("The metadata `{key}` of `{file}` {fault}.")]
    BadMetadata {
        file: String,
        key: String,
        fault: String,
    },
    #[error(
        "`{file}` has the architecture `{found}`; this program runs {}.",
        Architecture::list()
    )]
    UnknownArchitecture { file: String, found: String },
    #[error("`{file}` cannot be run: {what}.")]
    Unsupported { file: String, what: String },
    #[error(
        "`{file}` cannot be run in profile {profile}: an embedding model has no KV cache, and is \
         run in P32."
    )]
    NoProfile { file: String, profile: Profile },
    #[error("`{file}` has no chat template; use it for plain completions, or get a chat model.")]
    NoChatTemplate { file: String },
    #[error("The chat template of `{file}` fails: {fault}.")]
    BadTemplate { file: String, fault: String },
    /// The template itself says why it does not take these messages.
    #[error("The model's chat template refuses these messages: {message}")]
    MessagesRefused { message: String },
    #[error("This is not a model head: {fault}.")]
    BadHead { fault: String },
}

impl ModelError {
    pub(crate) fn malformed(file: &str, fault: impl Into<String>) -> Self {
        Self::Malformed {
            file: file.to_owned(),
            fault: fault.into(),
        }
    }

    pub(crate) fn metadata(file: &str, key: &str, fault: impl Into<String>) -> Self {
        Self::BadMetadata {
            file: file.to_owned(),
            key: key.to_owned(),
            fault: fault.into(),
        }
    }

    pub(crate) fn unsupported(file: &str, what: impl Into<String>) -> Self {
        Self::Unsupported {
            file: file.to_owned(),
            what: what.into(),
        }
    }
}
