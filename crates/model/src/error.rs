//! What can be wrong with a model file.

use std::path::PathBuf;

use infera_protocol::Profile;

use crate::architecture::Architecture;

/// Every text is one sentence that names the file and the fault.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The operating system does not give the file.
    #[error("Cannot open the model file `{}`: {source}.", path.display())]
    Open {
        /// As it was asked for.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The bytes are no GGUF, or a tensor is not what it should be.
    #[error("`{file}` is not a usable GGUF file: {fault}.")]
    Malformed {
        /// The name of the file.
        file: String,
        /// A clause.
        fault: String,
    },
    /// What the model needs is not said.
    #[error("`{file}` has no metadata `{key}`, which its model needs; get a complete file.")]
    MissingMetadata {
        /// The name of the file.
        file: String,
        /// The absent one.
        key: String,
    },
    /// A value that is of the wrong type or makes no sense.
    #[error("The metadata `{key}` of `{file}` {fault}.")]
    BadMetadata {
        /// The name of the file.
        file: String,
        /// Whose value it is.
        key: String,
        /// A clause of which the metadata is the subject.
        fault: String,
    },
    /// A family of models that is not built.
    #[error(
        "`{file}` has the architecture `{found}`; this program runs {}.",
        Architecture::list()
    )]
    UnknownArchitecture {
        /// The name of the file.
        file: String,
        /// In `general.architecture`.
        found: String,
    },
    /// What would give wrong answers, because it is not built.
    #[error("`{file}` cannot be run: {what}.")]
    Unsupported {
        /// The name of the file.
        file: String,
        /// A clause.
        what: String,
    },
    /// A numerics profile that the model's kind does not have.
    #[error(
        "`{file}` cannot be run in profile {profile}: an embedding model has no KV cache, and is \
         run in P32."
    )]
    NoProfile {
        /// The name of the file.
        file: String,
        /// The one that was asked for.
        profile: Profile,
    },
    /// A model for plain completions.
    #[error("`{file}` has no chat template; use it for plain completions, or get a chat model.")]
    NoChatTemplate {
        /// The name of the file.
        file: String,
    },
    /// The template cannot be read, or fails on these messages.
    #[error("The chat template of `{file}` fails: {fault}.")]
    BadTemplate {
        /// The name of the file.
        file: String,
        /// What the template engine says.
        fault: String,
    },
    /// The template itself says why it does not take these messages.
    #[error("The model's chat template refuses these messages: {message}")]
    MessagesRefused {
        /// In the template's own words.
        message: String,
    },
    /// Bytes that are not what [`crate::Head::to_bytes`] gives.
    #[error("This is not a model head: {fault}.")]
    BadHead {
        /// A clause.
        fault: String,
    },
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
