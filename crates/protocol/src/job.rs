//! A job: a task that a node was given.

use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::task::Task;

/// What the node that claimed a job gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The protocol's ([`crate::VERSION`]).
    pub version: u16,
    /// The job.
    pub job: JobId,
    /// Counts from 1; each node that takes the job over gets the next number.
    pub attempt: u32,
    /// What is to be computed.
    pub task: Task,
    /// What earlier attempts already produced. Generation goes on after it.
    pub output: Vec<u32>,
    /// How long the node may go without sending output before the job goes to another.
    pub lease_ms: u64,
}

impl JobSpec {
    /// The output position of the first token this attempt produces.
    pub fn start(&self) -> u32 {
        self.output.len() as u32
    }
}

/// Why an output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model produced an end-of-generation token, which is the last of the output.
    EndOfText,
    /// A stop string was completed by the last token.
    Stop,
    /// `max_tokens` or the context is full.
    Length,
    /// The balancer asked the node to stop.
    Cancelled,
    /// Every text has its vector.
    Embedded,
}

impl FinishReason {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::EndOfText => 0,
            Self::Stop => 1,
            Self::Length => 2,
            Self::Cancelled => 3,
            Self::Embedded => 4,
        }
    }
}
