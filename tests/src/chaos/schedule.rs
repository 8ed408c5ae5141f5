//! What disturbs the network and when: a pure function of a seed.

use std::fmt;
use std::time::Duration;

use super::dice::Dice;
use super::{CLIENTS, NODES, node_name};

/// What can be disturbed on this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach {
    /// Parts whose data folder is a disk of its own, which can be filled.
    pub(crate) disks: Vec<Part>,
    /// Whether processes see a clock that can be set.
    pub(crate) clocks: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Balancer,
    Node(usize),
    /// A node's engine process.
    Engine(usize),
}

/// What befalls a link, that is a client's or a node's connections to the balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// Every connection breaks, and none can be made.
    Cut,
    /// Connections stay, and nothing passes.
    Stalled,
    /// A few kilobytes a second, late.
    Slow,
}

/// What hostile nodes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    /// Claim, and send empty batches for ever.
    Hold,
    /// Claim, and send a made-up token now and then.
    Drip,
    /// Claim, and say nothing more.
    Lapse,
    /// Claim, and hand back at once.
    Release,
    /// Answer with made-up tokens, in due form.
    Lie,
    /// As a reference that the operator trusts: find every output right without computing.
    Lazy,
    /// A client, a worker and throwaway identities that play a job to and fro until it fails.
    Mint,
}

/// What hostile clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Nuisance {
    /// Connect and say nothing, or half a request.
    Silence,
    /// Ask and hang up, mostly before the job has begun.
    HangUps,
    /// Prompts far too long, bodies far too large.
    Huge,
    /// What is no request at all.
    Garbage,
    /// Ask for challenges of identities that never come.
    Challenges,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Disturbance {
    Kill(Part),
    /// SIGSTOP, and SIGCONT later.
    Freeze(Part),
    FillDisk(Part),
    /// The link with this number: the nodes' first, then the clients'.
    Link(usize, Fault),
    /// The wall clock is off by so many seconds from now on.
    Clock(Part, i64),
    Nodes(Deed),
    Clients(Nuisance),
}

/// One disturbance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// After the storm's begin.
    pub(crate) at: Duration,
    /// 0 for what happens in a moment.
    pub(crate) lasts: Duration,
    pub(crate) what: Disturbance,
}

/// Between the begins of two disturbances, in milliseconds.
const GAP_MS: (u64, u64) = (500, 2500);
/// The clock's faults, in seconds. The last takes back what came before.
const CLOCK_STEPS: [i64; 6] = [-3600, -30, 20, 3600, 2 * 86_400, 0];

/// All disturbances of a storm of this `length`, in order of time. Kinds are drawn like cards from
/// a pack that is shuffled anew when it is empty, so none is left out for long.
pub(crate) fn schedule(seed: u64, length: Duration, reach: &Reach) -> Vec<Step> {
    let mut dice = Dice::new(seed, "schedule");
    let mut steps = Vec::new();
    let mut pack = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_millis(dice.between(GAP_MS.0, GAP_MS.1));
        if at >= length {
            return steps;
        }
        if pack.is_empty() {
            pack = kinds(&mut dice, reach);
            dice.shuffle(&mut pack);
        }
        let Some(what) = pack.pop() else {
            return steps;
        };
        let (least, most) = what.seconds();
        let lasts = Duration::from_millis(dice.between(1000 * least, 1000 * most));
        let lasts = lasts.min(length.saturating_sub(at));
        steps.push(Step { at, lasts, what });
    }
}

/// One pack: each kind of disturbance, what is likelier several times, at drawn places.
fn kinds(dice: &mut Dice, reach: &Reach) -> Vec<Disturbance> {
    use Disturbance::{Clients, Clock, FillDisk, Freeze, Kill, Link};
    let node = |dice: &mut Dice| dice.below(NODES as u64) as usize;
    let node_link = |dice: &mut Dice| dice.below(NODES as u64) as usize;
    let client_link = |dice: &mut Dice| NODES + dice.below(CLIENTS as u64) as usize;
    let mut kinds = vec![
        Kill(Part::Balancer),
        Kill(Part::Node(node(dice))),
        Kill(Part::Node(node(dice))),
        Kill(Part::Engine(node(dice))),
        Freeze(Part::Balancer),
        Freeze(Part::Node(node(dice))),
        Freeze(Part::Engine(node(dice))),
        Link(node_link(dice), Fault::Cut),
        Link(node_link(dice), Fault::Stalled),
        Link(node_link(dice), Fault::Slow),
        Link(client_link(dice), Fault::Cut),
        Link(client_link(dice), Fault::Stalled),
        Link(client_link(dice), Fault::Slow),
        Clients(Nuisance::Silence),
        Clients(Nuisance::HangUps),
        Clients(Nuisance::Huge),
        Clients(Nuisance::Garbage),
        Clients(Nuisance::Challenges),
    ];
    let deeds = [
        Deed::Hold,
        Deed::Drip,
        Deed::Lapse,
        Deed::Release,
        Deed::Lie,
        Deed::Lazy,
        Deed::Mint,
    ];
    kinds.extend(deeds.map(Disturbance::Nodes));
    kinds.extend(reach.disks.iter().map(|part| FillDisk(*part)));
    if reach.clocks {
        for part in [Part::Balancer, Part::Node(node(dice))] {
            let step = CLOCK_STEPS[dice.below(CLOCK_STEPS.len() as u64) as usize];
            kinds.push(Clock(part, step));
        }
    }
    kinds
}

impl Disturbance {
    /// How long it may last: least and most.
    fn seconds(self) -> (u64, u64) {
        match self {
            Self::Kill(_) | Self::Clock(..) => (0, 0),
            Self::Freeze(_) => (1, 5),
            // So long that a write-ahead log has to grow.
            Self::FillDisk(_) => (3, 10),
            Self::Link(_, Fault::Cut) => (1, 4),
            Self::Link(_, Fault::Stalled) => (1, 6),
            Self::Link(_, Fault::Slow) => (3, 8),
            Self::Nodes(Deed::Lazy | Deed::Mint) => (10, 20),
            Self::Nodes(_) => (6, 12),
            Self::Clients(_) => (2, 5),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balancer => out.write_str("the balancer"),
            Self::Node(node) => out.write_str(&node_name(*node)),
            Self::Engine(node) => write!(out, "the engine of {}", node_name(*node)),
        }
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(part) => write!(out, "kill {part}"),
            Self::Freeze(part) => write!(out, "freeze {part}"),
            Self::FillDisk(part) => write!(out, "fill the disk of {part}"),
            Self::Link(link, fault) => {
                let who = match link.checked_sub(NODES) {
                    None => node_name(*link),
                    Some(client) => format!("client {}", client + 1),
                };
                write!(out, "link of {who}: {fault:?}")
            }
            Self::Clock(part, seconds) => write!(out, "clock of {part} off by {seconds} s"),
            Self::Nodes(deed) => write!(out, "hostile nodes: {deed:?}"),
            Self::Clients(nuisance) => write!(out, "hostile clients: {nuisance:?}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:7.2} s  {}", self.at.as_secs_f64(), self.what)?;
        if self.lasts.is_zero() {
            return Ok(());
        }
        write!(out, ", for {:.1} s", self.lasts.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::mem::discriminant;

    use super::*;

    const LENGTH: Duration = Duration::from_secs(150);

    fn reach() -> Reach {
        Reach {
            disks: vec![Part::Balancer, Part::Node(0)],
            clocks: true,
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_storm_and_another_seed_another() {
        let storm = schedule(7, LENGTH, &reach());
        assert_eq!(storm, schedule(7, LENGTH, &reach()));
        assert_ne!(storm, schedule(8, LENGTH, &reach()));
    }

    #[test]
    fn disturbances_are_in_order_and_end_with_the_storm() {
        for seed in 0..50 {
            let storm = schedule(seed, LENGTH, &reach());
            assert!(storm.is_sorted_by_key(|step| step.at), "seed {seed}");
            assert!(storm.len() > 60, "seed {seed}: {}", storm.len());
            assert!(
                storm.iter().all(|step| step.at + step.lasts <= LENGTH),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn every_kind_comes_in_three_minutes() {
        for seed in 0..50 {
            let storm = schedule(seed, LENGTH, &reach());
            let kinds: HashSet<_> = storm.iter().map(|step| discriminant(&step.what)).collect();
            assert_eq!(kinds.len(), 7, "seed {seed}: {kinds:?}");
            let hostile: HashSet<_> = storm
                .iter()
                .map(|step| step.what)
                .filter(|what| matches!(what, Disturbance::Nodes(_) | Disturbance::Clients(_)))
                .collect();
            assert_eq!(hostile.len(), 12, "seed {seed}: {hostile:?}");
        }
    }

    #[test]
    fn what_this_machine_cannot_do_is_left_out() {
        let storm = schedule(1, LENGTH, &Reach::default());
        assert!(
            !storm
                .iter()
                .any(|step| matches!(step.what, Disturbance::FillDisk(_) | Disturbance::Clock(..)))
        );
    }
}
