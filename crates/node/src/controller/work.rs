//! What the node has to do: jobs and audits, from the offer to the last word about them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use infera_protocol::AuditId;
use infera_protocol::node_api::Offer;
use tokio::time::Instant;

use super::audits::{Audit, Report};
use super::jobs::Job;
use crate::store::AttemptKey;

#[derive(Default)]
pub(super) struct Work {
    pub(super) offers: Vec<(Offer, Instant)>,
    /// The slots that claims are for.
    pub(super) claiming: HashMap<AttemptKey, usize>,
    pub(super) jobs: BTreeMap<AttemptKey, Job>,
    pub(super) audits: BTreeMap<AuditId, Audit>,
    pub(super) reports: BTreeMap<AuditId, Report>,
    /// Attempts and audits that are over, so that a repeated event does not begin them again.
    over: VecDeque<Duty>,
    requests_made: u64,
    /// What each request to an engine is for.
    in_engine: HashMap<u64, Duty>,
}

/// One request to an engine, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    Job(AttemptKey),
    Audit(AuditId),
}

const OVER_KEPT: usize = 1024;

impl Work {
    /// How many pieces of work a slot has, those about to come included.
    pub(super) fn load_of(&self, slot: usize) -> u32 {
        let jobs = self.jobs.values().map(|job| job.slot);
        let audits = self.audits.values().map(|audit| audit.slot);
        let claims = self.claiming.values().copied();
        let all = jobs.chain(audits).chain(claims);
        all.filter(|its| *its == slot).count() as u32
    }

    pub(super) fn mark_over(&mut self, duty: Duty) {
        self.over.push_back(duty);
        if self.over.len() > OVER_KEPT {
            self.over.pop_front();
        }
    }

    pub(super) fn is_over(&self, duty: Duty) -> bool {
        self.over.contains(&duty)
    }

    /// The number of the next request to an engine: they are given out in order.
    pub(super) fn next_request(&self) -> u64 {
        self.requests_made + 1
    }

    /// Numbers a request to an engine.
    pub(super) fn begin(&mut self, duty: Duty) -> u64 {
        self.requests_made += 1;
        self.in_engine.insert(self.requests_made, duty);
        self.requests_made
    }

    /// What a request is for; none if that is not of interest any more.
    pub(super) fn duty(&self, request: u64) -> Option<Duty> {
        self.in_engine.get(&request).copied()
    }

    /// The same; the request is over.
    pub(super) fn take(&mut self, request: u64) -> Option<Duty> {
        self.in_engine.remove(&request)
    }

    /// All that a slot's engine was asked for.
    pub(super) fn take_from_engine(&mut self, slot: usize) -> Vec<Duty> {
        let (jobs, audits) = (&self.jobs, &self.audits);
        self.in_engine
            .extract_if(|_, duty| match duty {
                Duty::Job(key) => jobs.get(key).is_some_and(|job| job.slot == slot),
                Duty::Audit(audit) => audits.get(audit).is_some_and(|audit| audit.slot == slot),
            })
            .map(|(_, duty)| duty)
            .collect()
    }
}
