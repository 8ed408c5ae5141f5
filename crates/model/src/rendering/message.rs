//! What a program and the child that applies its templates say to each other, as frames.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::template::{ChatMessage, ChatTemplate};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask<'a> {
    /// Comes first, and once.
    Limits {
        memory_bytes: usize,
        /// Processor time for each template.
        seconds: u64,
    },
    Render {
        template: Cow<'a, ChatTemplate>,
        messages: Cow<'a, [ChatMessage]>,
        add_generation_prompt: bool,
        now_ms: u64,
    },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// The limits are in force.
    Ready,
    Text {
        text: String,
    },
    /// The template does not take these messages, and says why.
    Refused {
        message: String,
    },
    Failed {
        fault: String,
    },
}
