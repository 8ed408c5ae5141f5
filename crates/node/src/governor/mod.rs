//! Whether the node may work now, and why not: one pure function.

#![deny(missing_docs)]

#[cfg(test)]
mod days;
pub mod gpu_rules;
pub mod rules;
pub mod schedule;

use std::time::Duration;

use infera_protocol::requirements::{Mark, Requirement};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use self::rules::{Guest, Held, Rules, Why};

/// What is known when a decision is made.
#[derive(Debug, Clone, Default)]
pub struct Observations {
    /// None while the person wants work done. One that is over counts as none.
    pub pause: Option<Pause>,
    /// The program is ending.
    pub closing: bool,
    /// What speaks against any work from the start.
    pub hold: Option<Hold>,
    /// The owner chats with a model, or measures one.
    pub own_use: bool,
    /// The balancer will never speak to this version of the program.
    pub refused: bool,
    /// The network's hardware gate, row by row; empty while it is unknown.
    pub requirements: Vec<Requirement>,
    /// On the disk with the data folder.
    pub free_disk_bytes: Option<u64>,
    /// The decision before this one was for want of disk space.
    pub disk_was_low: bool,
    /// What keeps the data folder from being written, in one sentence.
    pub storage_fault: Option<String>,
    /// Jobs and audits in progress.
    pub running: usize,
    /// What the owner's rules are held against.
    pub guest: Guest,
}

/// Why a node may not even look for work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The person has not agreed to lend their GPU.
    NotAgreed,
    /// No network is chosen.
    NoBalancer,
}

/// The user asked for quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Unix time in milliseconds.
    pub since_ms: i64,
    /// When it ends by itself.
    pub until_ms: Option<i64>,
    /// Jobs in progress are finished first.
    pub finish_first: bool,
}

/// Where the limits are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GovernorPolicy {
    /// A paused node keeps the model loaded for so long, in case the click was a mistake.
    pub release_after: Duration,
    /// Below this the node takes no new jobs.
    pub stop_below_disk_bytes: u64,
    /// It goes on above this.
    pub resume_above_disk_bytes: u64,
    /// When the owner needs the machine.
    pub rules: Rules,
}

impl Default for GovernorPolicy {
    fn default() -> Self {
        Self {
            release_after: Duration::from_millis(500),
            stop_below_disk_bytes: 100_000_000,
            resume_above_disk_bytes: 200_000_000,
            rules: Rules::default(),
        }
    }
}

/// Whether the node works, and what keeps it from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Decision {
    /// What the controller does with jobs and engines.
    pub mode: Mode,
    /// Why it is not `Run`.
    pub reason: Option<Reason>,
    /// When time alone may change the decision: unix time in milliseconds.
    #[serde(skip)]
    pub ask_again_ms: Option<i64>,
    /// The owner's rules that hold, whether or not one of them is the reason.
    pub held: Vec<Held>,
}

/// How far the node steps back, from not at all to all the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Take jobs.
    Run,
    /// Take no new ones; finish those in progress.
    Drain,
    /// Hand back those in progress; keep the model loaded.
    StopNow,
    /// As `StopNow`, and end the engine: no GPU memory stays in use.
    ReleaseGpu,
}

/// What keeps the node from taking jobs, as data: the window, the tray and the command line have
/// their own words for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// The program is ending.
    Closing,
    /// The person has not agreed to lend their GPU.
    NotAgreed,
    /// The settings name no network.
    NoBalancer,
    /// The owner chats with a model, or measures one.
    OwnUse,
    /// The balancer will never speak to this version of the program.
    Refused,
    /// The person asked for quiet.
    Paused {
        /// Unix time in milliseconds at which it ends by itself; none until the person resumes.
        until_ms: Option<i64>,
        /// Jobs in progress are still being finished.
        finishing: bool,
    },
    /// The owner needs the machine.
    Rule {
        /// What for.
        why: Why,
        /// It is over, and the node goes on then: unix time in milliseconds. None while it lasts.
        goes_on_ms: Option<i64>,
    },
    /// The data folder cannot be written, and work that is not recorded is not done.
    StorageFault {
        /// What the system says, in one sentence in English.
        message: String,
    },
    /// The disk with the data folder is nearly full.
    LowDisk {
        /// What this user may still write there.
        free_bytes: u64,
        /// The node goes on by itself above this. It is more than what stopped it, so that it does
        /// not come and go.
        resume_above_bytes: u64,
    },
    /// The machine does not have what the network asks for.
    RequirementFailed {
        /// The first row that failed.
        requirement: Requirement,
    },
}

/// The strictest of what each observation asks for. `now_ms` is unix time in milliseconds.
pub fn decide(observations: &Observations, policy: &GovernorPolicy, now_ms: i64) -> Decision {
    let by_rules = rules::decide(&policy.rules, &observations.guest, now_ms);
    let Some(decision) = without_rules(observations, policy, now_ms) else {
        return by_rules;
    };
    // Who lets the last job end does not say so of a job that a rule ends.
    let reason = if decision.mode == Mode::Drain && by_rules.mode > Mode::Drain {
        by_rules.reason
    } else {
        decision.reason
    };
    let times = decision.ask_again_ms.into_iter();
    Decision {
        mode: decision.mode.max(by_rules.mode),
        reason,
        ask_again_ms: times.chain(by_rules.ask_again_ms).min(),
        // The rules look on behind whatever else keeps the node: when that ends, they hold at once.
        held: by_rules.held,
    }
}

/// What one of the devices may do: no more than the node, nothing while its owner wants it left
/// alone, and what the rules about GPUs say of it. `running` is the work in progress on it.
pub fn decide_device(
    node: &Decision,
    pause: Option<Pause>,
    by_rules: &Decision,
    running: usize,
    policy: &GovernorPolicy,
    now_ms: i64,
) -> Decision {
    let by_owner = pause
        .filter(|pause| pause.until_ms.is_none_or(|until| until > now_ms))
        .map(|pause| paused(pause, running, policy, now_ms));
    // What keeps the whole node is told before what keeps one of its devices.
    let all: Vec<_> = [Some(node), by_owner.as_ref(), Some(by_rules)]
        .into_iter()
        .flatten()
        .collect();
    Decision {
        mode: all.iter().fold(node.mode, |mode, one| mode.max(one.mode)),
        reason: all.iter().find_map(|one| one.reason.clone()),
        ask_again_ms: all.iter().filter_map(|one| one.ask_again_ms).min(),
        held: by_rules.held.clone(),
    }
}

/// What the node does as a whole, given what each of its devices may: it works while one of them does.
pub fn sum_up(node: Decision, devices: &[Decision]) -> Decision {
    let freest = devices.iter().min_by_key(|device| device.mode);
    let Some(freest) = freest.filter(|_| node.mode == Mode::Run) else {
        return node;
    };
    let times = devices.iter().filter_map(|device| device.ask_again_ms);
    Decision {
        mode: freest.mode,
        reason: freest.reason.clone(),
        ask_again_ms: times.chain(node.ask_again_ms).min(),
        held: [node.held, freest.held.clone()].concat(),
    }
}

/// What speaks against work beside the owner's rules.
fn without_rules(
    observations: &Observations,
    policy: &GovernorPolicy,
    now_ms: i64,
) -> Option<Decision> {
    let decision = |mode, reason| {
        Some(Decision {
            mode,
            reason: Some(reason),
            ask_again_ms: None,
            held: Vec::new(),
        })
    };
    let finish_or_release = if observations.running > 0 {
        Mode::Drain
    } else {
        Mode::ReleaseGpu
    };
    if observations.closing {
        return decision(Mode::ReleaseGpu, Reason::Closing);
    }
    if let Some(hold) = observations.hold {
        let reason = match hold {
            Hold::NotAgreed => Reason::NotAgreed,
            Hold::NoBalancer => Reason::NoBalancer,
        };
        return decision(Mode::ReleaseGpu, reason);
    }
    if observations.refused {
        return decision(Mode::ReleaseGpu, Reason::Refused);
    }
    if let Some(pause) = observations.pause
        && pause.until_ms.is_none_or(|until| until > now_ms)
    {
        return Some(paused(pause, observations.running, policy, now_ms));
    }
    if observations.own_use {
        return decision(Mode::ReleaseGpu, Reason::OwnUse);
    }
    if let Some(message) = observations.storage_fault.clone() {
        return decision(Mode::StopNow, Reason::StorageFault { message });
    }
    if let Some(free_bytes) = observations.free_disk_bytes {
        let limit = if observations.disk_was_low {
            policy.resume_above_disk_bytes
        } else {
            policy.stop_below_disk_bytes
        };
        if free_bytes < limit {
            return decision(
                Mode::Drain,
                Reason::LowDisk {
                    free_bytes,
                    resume_above_bytes: policy.resume_above_disk_bytes,
                },
            );
        }
    }
    if let Some(requirement) = observations
        .requirements
        .iter()
        .find(|row| row.mark == Mark::Fail)
    {
        return decision(
            finish_or_release,
            Reason::RequirementFailed {
                requirement: requirement.clone(),
            },
        );
    }
    None
}

fn paused(pause: Pause, running: usize, policy: &GovernorPolicy, now_ms: i64) -> Decision {
    let finishing = pause.finish_first && running > 0;
    let release_at = pause.since_ms + policy.release_after.as_millis() as i64;
    // A clock that was set back must not keep the GPU for hours.
    let just_paused = (pause.since_ms..release_at).contains(&now_ms);
    let mode = match (finishing, just_paused) {
        (true, _) => Mode::Drain,
        (false, true) => Mode::StopNow,
        (false, false) => Mode::ReleaseGpu,
    };
    let ask_again_ms = [pause.until_ms, just_paused.then_some(release_at)]
        .into_iter()
        .flatten()
        .min();
    Decision {
        mode,
        reason: Some(Reason::Paused {
            until_ms: pause.until_ms,
            finishing,
        }),
        ask_again_ms,
        held: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use infera_protocol::requirements::{Amount, RequirementId};

    use super::*;

    const NOW: i64 = 1_000_000;

    fn pause(ago_ms: i64, until_ms: Option<i64>, finish_first: bool) -> Pause {
        Pause {
            since_ms: NOW - ago_ms,
            until_ms,
            finish_first,
        }
    }

    fn row(mark: Mark) -> Requirement {
        Requirement {
            id: RequirementId::Gpu,
            need: Amount::Unknown,
            found: Amount::Unknown,
            mark,
        }
    }

    #[test]
    fn one_device_as_a_table() {
        let policy = GovernorPolicy::default();
        let quiet = Observations::default;
        let runs = decide(&quiet(), &policy, NOW);
        let rests = |until_ms| {
            let paused = Observations {
                pause: Some(pause(60_000, until_ms, false)),
                ..quiet()
            };
            decide(&paused, &policy, NOW)
        };
        let by_owner = |until_ms| Reason::Paused {
            until_ms,
            finishing: false,
        };
        let soon = Some(NOW + 9);
        let cases = [
            (&runs, None, Mode::Run, None),
            (
                &runs,
                Some(pause(60_000, None, false)),
                Mode::ReleaseGpu,
                Some(by_owner(None)),
            ),
            (
                &runs,
                Some(pause(60_000, Some(NOW), false)),
                Mode::Run,
                None,
            ),
            (
                &runs,
                Some(pause(100, None, false)),
                Mode::StopNow,
                Some(by_owner(None)),
            ),
            // The node's own reason goes before.
            (
                &rests(soon),
                Some(pause(60_000, None, false)),
                Mode::ReleaseGpu,
                Some(by_owner(soon)),
            ),
            (&rests(soon), None, Mode::ReleaseGpu, Some(by_owner(soon))),
        ];
        for (node, own, mode, reason) in cases {
            let decision = decide_device(node, own, &runs, 0, &policy, NOW);
            assert_eq!((decision.mode, decision.reason), (mode, reason), "{own:?}");
        }
    }

    #[test]
    fn the_node_works_while_one_device_does() {
        let policy = GovernorPolicy::default();
        let node = decide(&Observations::default(), &policy, NOW);
        let free = decide(&Observations::default(), &policy, NOW);
        let runs = decide_device(&node, None, &free, 0, &policy, NOW);
        let rests = |until_ms| {
            let own = Some(pause(60_000, Some(until_ms), false));
            decide_device(&node, own, &free, 0, &policy, NOW)
        };
        let both = sum_up(node.clone(), &[runs, rests(NOW + 5)]);
        assert_eq!((both.mode, both.reason), (Mode::Run, None));
        assert_eq!(both.ask_again_ms, Some(NOW + 5));
        let none = sum_up(node.clone(), &[rests(NOW + 9), rests(NOW + 5)]);
        assert_eq!(none.mode, Mode::ReleaseGpu);
        assert!(matches!(none.reason, Some(Reason::Paused { .. })));
        assert_eq!(none.ask_again_ms, Some(NOW + 5));
        assert_eq!(sum_up(node.clone(), &[]), node);
    }

    #[test]
    fn decisions_as_a_table() {
        let quiet = Observations::default;
        let fault = Some("The disk is full".to_owned());
        let cases = [
            ("nothing speaks against it", quiet(), Mode::Run, None),
            (
                "paused a moment ago: the model stays loaded",
                Observations {
                    pause: Some(pause(100, None, false)),
                    ..quiet()
                },
                Mode::StopNow,
                Some(NOW + 400),
            ),
            (
                "paused for longer: the GPU is free",
                Observations {
                    pause: Some(pause(500, None, false)),
                    ..quiet()
                },
                Mode::ReleaseGpu,
                None,
            ),
            (
                "snoozed: asks again when it ends",
                Observations {
                    pause: Some(pause(60_000, Some(NOW + 5), false)),
                    ..quiet()
                },
                Mode::ReleaseGpu,
                Some(NOW + 5),
            ),
            (
                "the snooze is over",
                Observations {
                    pause: Some(pause(60_000, Some(NOW), false)),
                    ..quiet()
                },
                Mode::Run,
                None,
            ),
            (
                "finish, then pause: a job runs",
                Observations {
                    pause: Some(pause(60_000, None, true)),
                    running: 1,
                    ..quiet()
                },
                Mode::Drain,
                None,
            ),
            (
                "finish, then pause: nothing runs",
                Observations {
                    pause: Some(pause(60_000, None, true)),
                    ..quiet()
                },
                Mode::ReleaseGpu,
                None,
            ),
            (
                "the clock was set back: the GPU is not kept",
                Observations {
                    pause: Some(pause(-3_600_000, None, false)),
                    ..quiet()
                },
                Mode::ReleaseGpu,
                None,
            ),
            (
                "closing goes before everything",
                Observations {
                    closing: true,
                    pause: Some(pause(0, None, true)),
                    running: 1,
                    ..quiet()
                },
                Mode::ReleaseGpu,
                None,
            ),
            (
                "a network that refuses this version keeps no GPU",
                Observations {
                    refused: true,
                    running: 1,
                    ..quiet()
                },
                Mode::ReleaseGpu,
                None,
            ),
            (
                "nothing can be written",
                Observations {
                    storage_fault: fault.clone(),
                    running: 1,
                    ..quiet()
                },
                Mode::StopNow,
                None,
            ),
            (
                "a pause hides a storage fault",
                Observations {
                    storage_fault: fault,
                    pause: Some(pause(60_000, None, false)),
                    ..quiet()
                },
                Mode::ReleaseGpu,
                None,
            ),
            (
                "the disk is nearly full",
                Observations {
                    free_disk_bytes: Some(99_999_999),
                    running: 1,
                    ..quiet()
                },
                Mode::Drain,
                None,
            ),
            (
                "enough for who was not low",
                Observations {
                    free_disk_bytes: Some(150_000_000),
                    ..quiet()
                },
                Mode::Run,
                None,
            ),
            (
                "not enough for who was low",
                Observations {
                    free_disk_bytes: Some(150_000_000),
                    disk_was_low: true,
                    ..quiet()
                },
                Mode::Drain,
                None,
            ),
            (
                "unknown disk space is no reason",
                Observations {
                    free_disk_bytes: None,
                    disk_was_low: true,
                    ..quiet()
                },
                Mode::Run,
                None,
            ),
            (
                "a failed requirement lets a job finish",
                Observations {
                    requirements: vec![row(Mark::Fail)],
                    running: 1,
                    ..quiet()
                },
                Mode::Drain,
                None,
            ),
            (
                "a failed requirement frees the GPU",
                Observations {
                    requirements: vec![row(Mark::Pass), row(Mark::Fail)],
                    ..quiet()
                },
                Mode::ReleaseGpu,
                None,
            ),
            (
                "what could not be found out is no reason",
                Observations {
                    requirements: vec![row(Mark::Warn)],
                    ..quiet()
                },
                Mode::Run,
                None,
            ),
        ];
        for (what, observations, mode, ask_again_ms) in cases {
            let decision = decide(&observations, &GovernorPolicy::default(), NOW);
            assert_eq!(decision.mode, mode, "{what}");
            assert_eq!(decision.ask_again_ms, ask_again_ms, "{what}");
            assert_eq!(decision.reason.is_none(), mode == Mode::Run, "{what}");
        }
    }
}
