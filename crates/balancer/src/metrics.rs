//! Counters for Prometheus. No label holds a client's or a node's name.

use std::sync::OnceLock;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

const JOBS_STARTED: &str = "infera_jobs_started_total";
const JOBS_ENDED: &str = "infera_jobs_ended_total";
const OUTPUT_TOKENS: &str = "infera_output_tokens_total";
const ATTEMPTS_ENDED: &str = "infera_attempts_ended_total";
const VERDICTS: &str = "infera_verdicts_total";
const CANARIES: &str = "infera_canaries_total";
const REFUSALS: &str = "infera_refusals_total";
const JOBS_LIVE: &str = "infera_jobs_live";
const JOBS_WAITING: &str = "infera_jobs_waiting";
const NETWORK_BALANCE: &str = "infera_network_balance_micro_points";
const SUBSIDY_REFUSED: &str = "infera_subsidy_refused_micro_points_total";
const NODES: &str = "infera_nodes";
const CONNECTIONS: &str = "infera_connections";
const CONNECTIONS_REFUSED: &str = "infera_connections_refused_total";

/// All that is counted.
const METRICS: &[Metric] = &[
    Metric {
        name: JOBS_STARTED,
        kind: Kind::Counter,
        about: "Jobs that were accepted",
    },
    Metric {
        name: JOBS_ENDED,
        kind: Kind::Counter,
        about: "Outputs that ended, by how",
    },
    Metric {
        name: OUTPUT_TOKENS,
        kind: Kind::Counter,
        about: "Tokens of ended outputs",
    },
    Metric {
        name: ATTEMPTS_ENDED,
        kind: Kind::Counter,
        about: "Nodes' holds on jobs, by how they ended",
    },
    Metric {
        name: VERDICTS,
        kind: Kind::Counter,
        about: "Final verdicts",
    },
    Metric {
        name: CANARIES,
        kind: Kind::Counter,
        about: "What reference nodes made of canaries",
    },
    Metric {
        name: REFUSALS,
        kind: Kind::Counter,
        about: "Calls of nodes that were refused, by code",
    },
    Metric {
        name: JOBS_LIVE,
        kind: Kind::Gauge,
        about: "Jobs that are queued, running or being checked",
    },
    Metric {
        name: JOBS_WAITING,
        kind: Kind::Gauge,
        about: "Jobs that wait for room, by what they wait for",
    },
    Metric {
        name: NETWORK_BALANCE,
        kind: Kind::Gauge,
        about: "The network's own account; it may go below zero as far as `subsidy_cap` says",
    },
    Metric {
        name: SUBSIDY_REFUSED,
        kind: Kind::Counter,
        about: "What reference nodes were not paid because the subsidy cap was reached",
    },
    Metric {
        name: NODES,
        kind: Kind::Gauge,
        about: "Nodes that are here, by role",
    },
    Metric {
        name: CONNECTIONS,
        kind: Kind::Gauge,
        about: "Connections that are open",
    },
    Metric {
        name: CONNECTIONS_REFUSED,
        kind: Kind::Counter,
        about: "Connections that were closed at once, because a limit was met",
    },
];

/// What is counted under one name.
struct Metric {
    name: &'static str,
    kind: Kind,
    about: &'static str,
}

enum Kind {
    Counter,
    Gauge,
}

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
        for Metric { name, kind, about } in METRICS {
            match kind {
                Kind::Counter => describe_counter!(*name, *about),
                Kind::Gauge => describe_gauge!(*name, *about),
            }
        }
        handle
    });
    Metrics(handle.clone())
}

impl Metrics {
    pub(crate) fn render(&self, now: Gauges) -> String {
        gauge!(JOBS_LIVE).set(now.jobs as f64);
        gauge!(NODES, "role" => "worker").set(now.nodes as f64);
        gauge!(NODES, "role" => "reference").set(now.references as f64);
        gauge!(JOBS_WAITING, "for" => "worker").set(now.waiting_workers as f64);
        gauge!(JOBS_WAITING, "for" => "reference").set(now.waiting_references as f64);
        gauge!(NETWORK_BALANCE).set(now.network_balance as f64);
        self.0.render()
    }
}

pub(crate) fn job_started() {
    counter!(JOBS_STARTED).increment(1);
}

pub(crate) fn job_ended(how: &'static str, tokens: usize) {
    counter!(JOBS_ENDED, "how" => how).increment(1);
    counter!(OUTPUT_TOKENS).increment(tokens as u64);
}

pub(crate) fn attempt_ended(how: &'static str) {
    counter!(ATTEMPTS_ENDED, "how" => how).increment(1);
}

pub(crate) fn settled(verdict: &'static str) {
    counter!(VERDICTS, "verdict" => verdict).increment(1);
}

pub(crate) fn subsidy_refused(micro_points: i64) {
    counter!(SUBSIDY_REFUSED).increment(micro_points.unsigned_abs());
}

pub(crate) fn canary(outcome: &'static str) {
    counter!(CANARIES, "outcome" => outcome).increment(1);
}

pub(crate) fn refused(code: String) {
    counter!(REFUSALS, "code" => code).increment(1);
}

pub(crate) fn connections(open: usize) {
    gauge!(CONNECTIONS).set(open as f64);
}

pub(crate) fn connection_refused() {
    counter!(CONNECTIONS_REFUSED).increment(1);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names in a text that are written as ours are.
    fn named(text: &str) -> BTreeSet<&str> {
        let letter = |letter: char| letter.is_ascii_lowercase() || letter == '_';
        text.split(|c| !letter(c))
            .filter(|word| word.starts_with("infera_"))
            .collect()
    }

    #[test]
    fn the_dashboard_shows_what_is_counted_and_nothing_else() {
        let file = include_str!("../../../packaging/grafana/infera-balancer.json");
        let dashboard: serde_json::Value = serde_json::from_str(file).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let queries: Vec<_> = panels
            .iter()
            .filter_map(|panel| panel["targets"].as_array())
            .flatten()
            .map(|target| target["expr"].as_str().unwrap())
            .collect();
        let shown: BTreeSet<_> = queries.iter().flat_map(|query| named(query)).collect();
        let counted: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(shown, counted);
    }

    #[test]
    fn what_is_rendered_is_in_the_list() {
        let metrics = install();
        job_started();
        job_ended("stop", 1);
        attempt_ended("finished");
        settled("verified");
        subsidy_refused(1);
        canary("met");
        refused("Taken".to_owned());
        connections(1);
        connection_refused();
        let text = metrics.render(Gauges {
            jobs: 1,
            nodes: 1,
            references: 1,
            waiting_workers: 1,
            waiting_references: 1,
            network_balance: 1,
        });
        let counted: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(named(&text), counted);
    }
}
