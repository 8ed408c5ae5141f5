//! The states of jobs, attempts and audits that outlive the process, and the words by which the
//! database, receipts, metrics and the log know them.

use infera_protocol::node_api::VerdictStatus;
use infera_protocol::{FinishReason, Route};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::db::DbError;
use crate::reach::Host;

/// How far a job is, as its row has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobState {
    Running,
    Auditing,
    Done,
}

/// How far an audit is, as its row has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuditState {
    Offered,
    Accepted,
    Committed,
    Reported,
    Expired,
    Declined,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    Finished,
    Released,
    LeaseEnded,
    /// The job's time is over.
    Stopped,
}

/// A state that is a word outside the program.
pub(crate) trait Word: Copy + 'static {
    const WORDS: &'static [(Self, &'static str)];

    fn word(self) -> &'static str;

    /// Reads a column.
    fn read(row: &SqliteRow, column: &str) -> Result<Self, DbError> {
        let word: &str = row.try_get(column)?;
        let known = Self::WORDS.iter().find(|(_, known)| *known == word);
        let (state, _) = known.ok_or_else(|| DbError::Content(format!("the {column} `{word}`")))?;
        Ok(*state)
    }
}

macro_rules! words {
    ($($state:ident { $($value:ident = $word:literal),+ $(,)? })+) => { $(
        impl Word for $state {
            const WORDS: &'static [(Self, &'static str)] = &[$((Self::$value, $word)),+];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$value => $word),+
                }
            }
        }
    )+ };
}

words! {
    JobState {
        Running = "running",
        Auditing = "auditing",
        Done = "done",
    }
    FinishReason {
        EndOfText = "end_of_text",
        Stop = "stop",
        Length = "length",
        Cancelled = "cancelled",
        Embedded = "embedded",
    }
    AttemptEnd {
        Finished = "finished",
        Released = "released",
        LeaseEnded = "lease_ended",
        Stopped = "stopped",
    }
    AuditState {
        Offered = "offered",
        Accepted = "accepted",
        Committed = "committed",
        Reported = "reported",
        Expired = "expired",
        Declined = "declined",
    }
    Host {
        Own = "own",
        Trusted = "trusted",
        Other = "other",
    }
    Route {
        Own = "own",
        Trusted = "trusted",
        Any = "any",
    }
    VerdictStatus {
        Verified = "verified",
        SampledOut = "sampled_out",
        NotChecked = "not_checked",
        Pending = "pending",
        Failed = "failed",
    }
}

/// How a job ended: by its output's end, or without an answer.
pub(crate) fn ended(reason: Option<FinishReason>) -> &'static str {
    reason.map_or("failed", Word::word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What clients and nodes read in JSON is what the database holds.
    #[test]
    fn states_that_travel_have_one_word_everywhere() {
        for (reason, word) in FinishReason::WORDS {
            assert_eq!(serde_json::to_value(reason).unwrap(), *word);
        }
        for (route, word) in Route::WORDS {
            assert_eq!(serde_json::to_value(route).unwrap(), *word);
            assert_eq!(word.parse(), Ok(*route));
        }
        for (verdict, word) in VerdictStatus::WORDS {
            assert_eq!(serde_json::to_value(verdict).unwrap(), *word);
        }
    }
}
