//! When the owner needs a GPU: other programs' load and memory on it, and its heat. Each GPU is
//! decided on for itself.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::rules::{Finding, Held, Rule, Why, told};
use super::{Decision, Mode};
use crate::gpu::GpuSeen;

/// What a node must respect on each GPU. Each has a switch; the defaults are those of a careful
/// friend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct GpuRules {
    /// Not while other programs compute on it.
    pub load: GpuLoad,
    /// Not while other programs need its memory.
    pub memory: GpuMemory,
    /// Not while it is hot.
    pub heat: GpuHeat,
    /// The share of its time in which the node computes on it at most, for heat and noise: percent.
    pub duty_percent: u8,
}

/// Other programs' share of a GPU's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct GpuLoad {
    /// Without it their load is no reason.
    pub on: bool,
    /// From this share on, in percent. What is seen of it comes in steps of
    /// [`crate::gpu::LOAD_STEP_PERCENT`].
    pub percent: u8,
    /// For so long without a pause.
    pub seconds: u32,
}

/// A GPU's memory that is left to other programs. How much that is, is set beside the models that
/// must leave it free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct GpuMemory {
    /// Without it their memory is no reason.
    pub on: bool,
}

/// A GPU's heat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct GpuHeat {
    /// Without it heat is no reason. The driver slows a GPU down by itself where it must.
    pub on: bool,
    /// Above this, but never above the driver's own limit. None is that limit less 10 °C.
    pub celsius: Option<u16>,
}

/// What the rules are held against on one GPU. The caller keeps it from one decision to the next.
#[derive(Debug, Clone, Default)]
pub struct GpuGuest {
    /// What is seen of it; none while it is not looked at, or not there.
    pub seen: Option<GpuSeen>,
    /// Its memory that is left to other programs when a model is loaded.
    pub reserve_bytes: u64,
    /// The owner wants work done whatever the rules say: unix time in milliseconds.
    pub anyway_until_ms: Option<i64>,
    /// [`Decision::held`] of the decision before.
    pub held: Vec<Held>,
    /// Since when other programs' load is as high as [`GpuLoad::percent`].
    busy_since_ms: Option<i64>,
}

/// What [`GpuRules::duty_percent`] may be at least: below it a stream would stall.
pub const LEAST_DUTY_PERCENT: u8 = 10;
/// Most seconds that [`GpuLoad::seconds`] may be.
pub const MOST_LOAD_SECONDS: u32 = 600;
/// What [`GpuHeat::celsius`] may be. Below the least an idle GPU would be too hot.
pub const CELSIUS: std::ops::RangeInclusive<u16> = 40..=110;

/// So much cooler than where the rule begins the node goes on.
const COOLER_BY_CELSIUS: u16 = 5;
/// So far below its own limit a GPU is too hot where no number is set.
const BELOW_LIMIT_CELSIUS: u16 = 10;
/// Part of the reserve that must still be free: the rest is for what other programs take little by
/// little.
const LEFT_OF_RESERVE: u64 = 2;
/// Memory must be free by so much more than what stopped the node, as a share of the reserve.
const MEMORY_MARGIN: u64 = 4;

impl Default for GpuRules {
    fn default() -> Self {
        Self {
            load: GpuLoad::default(),
            memory: GpuMemory::default(),
            heat: GpuHeat::default(),
            duty_percent: 100,
        }
    }
}

impl Default for GpuLoad {
    fn default() -> Self {
        Self {
            on: true,
            percent: 30,
            seconds: 10,
        }
    }
}

impl Default for GpuMemory {
    fn default() -> Self {
        Self { on: true }
    }
}

impl Default for GpuHeat {
    fn default() -> Self {
        Self {
            on: true,
            celsius: None,
        }
    }
}

impl GpuRules {
    /// Whether anything must be seen for them.
    pub fn look(&self) -> bool {
        self.load.on || self.memory.on || self.heat.on
    }
}

impl GpuGuest {
    /// Takes in what is seen now. A load counts from when it was first seen so high, so this comes
    /// before each decision.
    pub fn see(&mut self, rules: &GpuRules, seen: Option<GpuSeen>, now_ms: i64) {
        let load = seen.as_ref().and_then(|seen| seen.load_others_percent);
        self.busy_since_ms = load
            .filter(|percent| *percent >= rules.load.percent)
            // A clock that was set back: it counts anew.
            .map(|_| self.busy_since_ms.unwrap_or(now_ms).min(now_ms));
        self.seen = seen;
    }

    /// A rule that held until now. What the owner sets aside leaves nothing behind, but for a heat
    /// that is above the driver's own limit.
    fn before(&self, rule: Rule, now_ms: i64) -> Option<&Held> {
        let before = self.held.iter().find(|held| held.rule == rule)?;
        let stands = !self.works_anyway(now_ms)
            || match before.why {
                Why::GpuHot { resume_celsius } => {
                    self.limit_celsius().map(cool) == Some(resume_celsius)
                }
                _ => false,
            };
        stands.then_some(before)
    }

    fn limit_celsius(&self) -> Option<u16> {
        self.seen.as_ref()?.temperature_limit_celsius
    }

    fn works_anyway(&self, now_ms: i64) -> bool {
        self.anyway_until_ms
            .is_some_and(|until_ms| until_ms > now_ms)
    }

    /// What our engines would give back.
    fn held_bytes(&self) -> u64 {
        let seen = self.seen.as_ref();
        seen.and_then(|seen| seen.vram_ours_bytes).unwrap_or(0)
    }
}

/// Whether the node may compute on one GPU now, as far as the rules about it go. What is not
/// reported is no reason. `now_ms` is unix time in milliseconds.
pub fn decide_gpu(rules: &GpuRules, guest: &GpuGuest, now_ms: i64) -> Decision {
    let held: Vec<_> = findings(rules, guest, now_ms)
        .into_iter()
        .filter_map(|finding| {
            let before = guest.before(finding.rule, now_ms);
            finding.hold(before, now_ms)
        })
        .collect();
    let times = held.iter().filter_map(Held::goes_on_ms);
    let times = times
        .chain(begins_to_count_ms(rules, guest))
        .chain(guest.anyway_until_ms);
    Decision {
        mode: if held.is_empty() {
            Mode::Run
        } else {
            Mode::ReleaseGpu
        },
        reason: told(&held),
        ask_again_ms: times.filter(|at| *at > now_ms).min(),
        held,
    }
}

fn findings(rules: &GpuRules, guest: &GpuGuest, now_ms: i64) -> Vec<Finding> {
    let anyway = guest.works_anyway(now_ms);
    let held_bytes = guest.held_bytes();
    let finding = |rule, is_on: bool, says: Option<Why>| Finding {
        rule,
        says: says.filter(|_| is_on),
        is_on,
        held_bytes,
    };
    let of_owner = |is_on: bool| is_on && !anyway;
    vec![
        finding(Rule::GpuHeat, rules.heat.on, hot(rules, guest, now_ms)),
        finding(
            Rule::GpuMemory,
            of_owner(rules.memory.on),
            short_of_memory(guest, now_ms),
        ),
        finding(
            Rule::GpuLoad,
            of_owner(rules.load.on),
            busy(rules, guest, now_ms),
        ),
    ]
}

/// Other programs compute, and have for a while.
fn busy(rules: &GpuRules, guest: &GpuGuest, now_ms: i64) -> Option<Why> {
    let since_ms = guest.busy_since_ms?;
    let lasts = now_ms >= since_ms + for_ms(rules);
    (lasts || guest.before(Rule::GpuLoad, now_ms).is_some()).then_some(Why::GpuBusy)
}

/// When a load that is high begins to count, if it stays so.
fn begins_to_count_ms(rules: &GpuRules, guest: &GpuGuest) -> Option<i64> {
    let since_ms = guest.busy_since_ms.filter(|_| rules.load.on)?;
    Some(since_ms + for_ms(rules))
}

fn for_ms(rules: &GpuRules) -> i64 {
    i64::from(rules.load.seconds) * 1000
}

/// Other programs have taken much of what was left to them. What our own hold counts as free only
/// once it is given back, and then no longer: without that the node would come and go.
fn short_of_memory(guest: &GpuGuest, now_ms: i64) -> Option<Why> {
    let seen = guest.seen.as_ref()?;
    let (all, ours) = (seen.vram_total_bytes?, seen.vram_ours_bytes?);
    let available_bytes = all
        .saturating_sub(ours)
        .saturating_sub(seen.vram_others_bytes?);
    let before = guest.before(Rule::GpuMemory, now_ms);
    let gave_back = before.map_or(ours, |held| held.gave_back_bytes);
    let (least, margin) = (
        guest.reserve_bytes / LEFT_OF_RESERVE,
        guest.reserve_bytes / MEMORY_MARGIN,
    );
    let resume_above_bytes = (gave_back + least + margin).min(all.saturating_sub(margin));
    let needed = if before.is_some() {
        resume_above_bytes
    } else {
        least
    };
    (available_bytes < needed).then_some(Why::GpuMemory { resume_above_bytes })
}

/// Hotter than the rule allows, or not yet cool again. The owner may set their own number aside, the
/// driver's limit they may not.
fn hot(rules: &GpuRules, guest: &GpuGuest, now_ms: i64) -> Option<Why> {
    let seen = guest.seen.as_ref()?;
    let (celsius, limit) = (seen.temperature_celsius?, guest.limit_celsius());
    let above = if guest.works_anyway(now_ms) {
        limit?
    } else {
        match (rules.heat.celsius, limit) {
            (Some(set), limit) => set.min(limit.unwrap_or(u16::MAX)),
            (None, limit) => limit?.saturating_sub(BELOW_LIMIT_CELSIUS),
        }
    };
    let was_hot = guest.before(Rule::GpuHeat, now_ms).is_some();
    let allowed = if was_hot { cool(above) } else { above };
    (celsius > allowed).then_some(Why::GpuHot {
        resume_celsius: cool(above),
    })
}

/// Where the node goes on that was too hot above this.
fn cool(above: u16) -> u16 {
    above.saturating_sub(COOLER_BY_CELSIUS)
}

#[cfg(test)]
mod tests;
