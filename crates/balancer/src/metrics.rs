//! Counters for Prometheus. No label holds a client's or a node's name.

use std::sync::OnceLock;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();

/// Renders what was counted.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(PrometheusHandle);

/// What is measured at the moment of asking.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauges {
    pub jobs: usize,
    pub nodes: usize,
    pub references: usize,
    /// Jobs that wait for a worker, and for a reference.
    pub waiting_workers: usize,
    pub waiting_references: usize,
    /// What the network's own account holds, in micro-points.
    pub network_balance: i64,
}

/// Starts counting, once for the process.
pub(crate) fn install() -> Metrics {
    let handle = INSTALLED.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Another recorder can only be there in a program that embeds this crate; it then counts.
        let _ = metrics::set_global_recorder(recorder);
        describe_counter!("infera_jobs_started_total", "Jobs that were accepted");
        describe_counter!("infera_jobs_ended_total", "Outputs that ended, by how");
        describe_counter!("infera_output_tokens_total", "Tokens of ended outputs");
        describe_counter!(
            "infera_attempts_ended_total",
            "Nodes' holds on jobs, by how they ended"
        );
        describe_counter!("infera_verdicts_total", "Final verdicts");
        describe_counter!(
            "infera_canaries_total",
            "What reference nodes made of canaries"
        );
        describe_counter!(
            "infera_refusals_total",
            "Calls of nodes that were refused, by code"
        );
        describe_gauge!(
            "infera_jobs_live",
            "Jobs that are queued, running or being checked"
        );
        describe_gauge!(
            "infera_jobs_waiting",
            "Jobs that wait for room, by what they wait for"
        );
        describe_gauge!(
            "infera_network_balance_micro_points",
            "The network's own account; it may go below zero as far as `subsidy_cap` says"
        );
        describe_counter!(
            "infera_subsidy_refused_micro_points_total",
            "What reference nodes were not paid because the subsidy cap was reached"
        );
        describe_gauge!("infera_nodes", "Nodes that are here, by role");
        describe_gauge!("infera_connections", "Connections that are open");
        describe_counter!(
            "infera_connections_refused_total",
            "Connections that were closed at once, because a limit was met"
        );
        handle
    });
    Metrics(handle.clone())
}

impl Metrics {
    pub(crate) fn render(&self, now: Gauges) -> String {
        gauge!("infera_jobs_live").set(now.jobs as f64);
        gauge!("infera_nodes", "role" => "worker").set(now.nodes as f64);
        gauge!("infera_nodes", "role" => "reference").set(now.references as f64);
        gauge!("infera_jobs_waiting", "for" => "worker").set(now.waiting_workers as f64);
        gauge!("infera_jobs_waiting", "for" => "reference").set(now.waiting_references as f64);
        gauge!("infera_network_balance_micro_points").set(now.network_balance as f64);
        self.0.render()
    }
}

pub(crate) fn job_started() {
    counter!("infera_jobs_started_total").increment(1);
}

pub(crate) fn job_ended(how: &'static str, tokens: usize) {
    counter!("infera_jobs_ended_total", "how" => how).increment(1);
    counter!("infera_output_tokens_total").increment(tokens as u64);
}

pub(crate) fn attempt_ended(how: &'static str) {
    counter!("infera_attempts_ended_total", "how" => how).increment(1);
}

pub(crate) fn settled(verdict: &'static str) {
    counter!("infera_verdicts_total", "verdict" => verdict).increment(1);
}

pub(crate) fn subsidy_refused(micro_points: i64) {
    counter!("infera_subsidy_refused_micro_points_total").increment(micro_points.unsigned_abs());
}

pub(crate) fn canary(outcome: &'static str) {
    counter!("infera_canaries_total", "outcome" => outcome).increment(1);
}

pub(crate) fn refused(code: String) {
    counter!("infera_refusals_total", "code" => code).increment(1);
}

pub(crate) fn connections(open: usize) {
    gauge!("infera_connections").set(open as f64);
}

pub(crate) fn connection_refused() {
    counter!("infera_connections_refused_total").increment(1);
}
