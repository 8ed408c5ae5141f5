//! The node's own books: jobs done and points earned, searched, summed up and exported.

#![deny(missing_docs)]

pub(crate) mod cost;
mod csv;
pub(crate) mod energy;
mod queries;
mod stretches;
mod sums;

pub use self::stretches::{Stretch, StretchesQuery};
pub(crate) use self::sums::{day_start, last_days};

use infera_protocol::node_api::{VerdictStatus, WorkKind, WorkRecord};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::tariff::Electricity;

/// Which jobs to list, and in what order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, deny_unknown_fields)]
pub struct JobsQuery {
    /// In the model's name or the job's id.
    pub search: String,
    /// Only work with this verdict; none for any.
    pub verdict: Option<VerdictStatus>,
    /// Only jobs, or only audits; none for both.
    pub kind: Option<WorkKind>,
    /// Only work for the network of this address; none for all.
    #[ts(optional)]
    pub network: Option<String>,
    /// Begun at this Unix time in milliseconds or later.
    pub since_ms: Option<i64>,
    /// Begun before it.
    pub until_ms: Option<i64>,
    /// What decides the order. What is equal stands newest first.
    pub sort: JobsSort,
    /// The smallest or oldest first. What is unknown comes last either way.
    pub ascending: bool,
    /// Rows to leave out before the first one.
    pub offset: u32,
    /// At most 1000; 0 counts only.
    pub limit: u32,
}

/// A column of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum JobsSort {
    /// When it began.
    #[default]
    Started,
    /// The model's name, in any case.
    Model,
    /// The prompt's length.
    InputTokens,
    /// The output's length.
    OutputTokens,
    /// The speed; work without a measurement comes last.
    TokensPerSecond,
    /// How long it took; what still runs comes last.
    Duration,
    /// The verdict's word, so that equal ones stand together.
    Verdict,
    /// What it earned.
    Points,
}

/// Part of the jobs that a query finds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct JobsPage {
    /// Rows of this page, in the query's order.
    pub jobs: Vec<JobRow>,
    /// All rows that the query finds, not only this page's.
    pub count: u64,
    /// Points of all rows that the query finds, pending ones included.
    pub total_micro_points: i64,
    /// What was read for all rows that the query finds.
    pub total_input_tokens: u64,
    /// What was written for all rows that the query finds.
    pub total_output_tokens: u64,
}

/// A piece of work as this node saw it, with what the balancer made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct JobRow {
    /// The work and its verdict. In JSON its fields stand beside the speed.
    #[serde(flatten)]
    pub record: WorkRecord,
    /// None where this node did not measure it.
    pub tokens_per_second: Option<f32>,
    /// What computed it: an adapter's id, or `cpu`. None where this program did not see it.
    pub device: Option<String>,
    /// The address of the network that it was done for. None for what was done before that was kept.
    pub network: Option<String>,
}

impl JobRow {
    /// What a network's balancer tells of a piece of work, and nothing else.
    pub fn told(record: WorkRecord, network: &str) -> Self {
        Self {
            record,
            tokens_per_second: None,
            device: None,
            network: Some(network.to_owned()),
        }
    }
}

/// How long each bucket of the earnings is, in the machine's time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first of the month.
    Month,
}

/// How finely to sum up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct EarningsQuery {
    /// How long each bucket is.
    pub period: Period,
    /// Only what the network of this address paid; none for the active one, or for all while there
    /// is none.
    #[ts(optional)]
    #[serde(default)]
    pub network: Option<String>,
}

/// Points over time. The totals are the sum of the buckets and `unlisted`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct Earnings {
    /// All that this node has earned there, as far as this machine and the balancer know.
    pub total: PointSums,
    /// Oldest first, without gaps, to the current one.
    pub buckets: Vec<EarningsBucket>,
    /// What the balancer counts and this machine has no record of: an earlier installation.
    pub unlisted: PointSums,
    /// None until the node has worked for five of the last fifteen minutes.
    pub estimate: Option<Estimate>,
    /// What the work of the last days took from the wall.
    pub consumption: Consumption,
}

/// In micro-points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct PointSums {
    /// Earned by what was verified or needed no check.
    pub confirmed: i64,
    /// Earned by what has no verdict yet; a failed one takes it away.
    pub pending: i64,
    /// Lost because verification failed. No part of the other two.
    pub forfeited: i64,
}

/// One day, week or month of a node's work, by when the work ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct EarningsBucket {
    /// Unix time in milliseconds of its first moment.
    pub start_ms: i64,
    /// What its work earned.
    pub points: PointSums,
    /// Audits earn points, but are no jobs.
    pub jobs: u32,
    /// Written for jobs.
    pub output_tokens: u64,
    /// What the work of its days took. None where nothing was measured.
    pub energy: Option<Energy>,
}

/// What work took from the wall: the GPU's own draw while there was work, less what it draws at
/// rest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct Energy {
    /// Never less than nothing.
    pub kilowatt_hours: f64,
    /// In billionths of the currency's unit. None without a price.
    pub cost_nano: Option<i64>,
}

/// What the work of the last days took, and cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct Consumption {
    /// Why there is no measurement now. Figures of earlier days stay.
    pub unmeasured: Option<Unmeasured>,
    /// What its money is counted with.
    pub tariff: Electricity,
    /// Since midnight. None where nothing was measured.
    pub today: Option<EnergySpan>,
    /// Today and the six days before.
    pub week: Option<EnergySpan>,
    /// Today and the 29 days before.
    pub month: Option<EnergySpan>,
}

/// Why the energy that work takes is not measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Unmeasured {
    /// No GPU computes, and nothing reports what a processor draws.
    Processor,
    /// Drivers that report no power.
    Driver {
        /// Names of the GPUs that they drive.
        adapters: Vec<String>,
    },
}

/// The energy of some days. Costs are in billionths of the currency's unit, and none without a
/// price.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct EnergySpan {
    /// From the first of them on which something was measured to today: what a day's mean is of.
    pub days: u32,
    /// For so long work was measured, on all GPUs together.
    pub working_seconds: u64,
    /// The mean of a GPU at work.
    pub working_watts: f32,
    /// The mean of a GPU at rest, which does not count. None where one was never seen at rest: then
    /// all that it draws counts.
    pub rest_watts: Option<f32>,
    /// What counts.
    pub kilowatt_hours: f64,
    /// Of all of it.
    pub cost_nano: Option<i64>,
    /// The mean of a day.
    pub cost_nano_per_day: Option<i64>,
    /// By what was written for jobs; none where nothing was.
    pub cost_nano_per_1000_tokens: Option<i64>,
    /// By what was earned, pending points included; none where nothing was.
    pub cost_nano_per_100_points: Option<i64>,
}

/// What a day like the last minutes would earn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct Estimate {
    /// Micro-points in 24 hours, pending ones included.
    pub micro_points_per_day: i64,
    /// For how much of the last fifteen minutes the node worked.
    pub basis_seconds: u32,
}

/// The first screen's figures of the day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Today {
    /// Confirmed and pending.
    pub micro_points: i64,
    /// Attempts at jobs that ended today, or began today and still run. Audits are none.
    pub jobs: u32,
    /// Those of them that the references agree with.
    pub verified: u32,
    /// Those of them without a verdict.
    pub pending: u32,
    /// Those of them that lost their points.
    pub failed: u32,
    /// The same by what computed them, as far as this program saw it.
    pub devices: Vec<DeviceToday>,
}

/// What one device did on a day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct DeviceToday {
    /// An adapter's id, or `cpu`.
    pub device: String,
    /// Confirmed and pending.
    pub micro_points: i64,
    /// As [`Today::jobs`].
    pub jobs: u32,
}
