//! The node's own books: jobs done and points earned, searched, summed up and exported.

mod csv;
mod queries;
mod sums;

use infera_protocol::node_api::{VerdictStatus, WorkKind, WorkRecord};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Which jobs to list, and in what order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, deny_unknown_fields)]
pub struct JobsQuery {
    /// In the model's name or the job's id.
    pub search: String,
    pub verdict: Option<VerdictStatus>,
    pub kind: Option<WorkKind>,
    /// Begun at this Unix time in milliseconds or later.
    pub since_ms: Option<i64>,
    /// Begun before it.
    pub until_ms: Option<i64>,
    pub sort: JobsSort,
    pub ascending: bool,
    pub offset: u32,
    /// At most 1000; 0 counts only.
    pub limit: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum JobsSort {
    #[default]
    Started,
    Model,
    InputTokens,
    OutputTokens,
    TokensPerSecond,
    Duration,
    Verdict,
    Points,
}

/// Part of the jobs that a query finds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct JobsPage {
    pub jobs: Vec<JobRow>,
    /// All rows that the query finds, not only this page's.
    pub count: u64,
    pub total_micro_points: i64,
    pub total_input_tokens: u64,
    pub total_output_tokens: u64,
}

/// A piece of work as this node saw it, with what the balancer made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct JobRow {
    #[serde(flatten)]
    pub record: WorkRecord,
    /// None where this node did not measure it.
    pub tokens_per_second: Option<f32>,
}

/// How long each bucket of the earnings is, in the machine's time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    Day,
    Week,
    Month,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct EarningsQuery {
    pub period: Period,
}

/// Points over time. The totals are the sum of the buckets and `unlisted`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct Earnings {
    pub total: PointSums,
    /// Oldest first, without gaps, to the current one.
    pub buckets: Vec<EarningsBucket>,
    /// What the balancer counts and this machine has no record of: an earlier installation.
    pub unlisted: PointSums,
    /// None until the node has worked for five of the last fifteen minutes.
    pub estimate: Option<Estimate>,
}

/// In micro-points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct PointSums {
    pub confirmed: i64,
    pub pending: i64,
    pub forfeited: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct EarningsBucket {
    /// Unix time in milliseconds of its first moment.
    pub start_ms: i64,
    pub points: PointSums,
    /// Audits earn points, but are no jobs.
    pub jobs: u32,
    /// Written for jobs.
    pub output_tokens: u64,
}

/// What a day like the last minutes would earn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct Estimate {
    pub micro_points_per_day: i64,
    /// For how much of the last fifteen minutes the node worked.
    pub basis_seconds: u32,
}

/// The first screen's figures of the day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Today {
    /// Confirmed and pending.
    pub micro_points: i64,
    pub jobs: u32,
    pub verified: u32,
    pub pending: u32,
    pub failed: u32,
}
