//! When the owner needs the machine: the rules that they set, and what each says of what is seen.

use std::time::Duration;

use infera_surroundings::{Input, QUIET_AFTER_MS, Seen, Session, Surroundings};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::gpu_rules::GpuRules;
use super::schedule::{Schedule, ScheduleSays};
use super::{Decision, Mode, Reason};

/// What a node must respect. Each has a switch; the defaults are those of a careful friend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Rules {
    /// Work only while nobody uses the machine.
    pub away: Away,
    /// Not while a game runs.
    pub games: bool,
    /// Not while a program fills the screen: a film, a talk.
    pub full_screen: bool,
    /// Not while one of these runs: names of programs without a path, in any case.
    pub programs: Vec<String>,
    /// Not on battery.
    pub battery: bool,
    /// Not with less than so much in the battery, whatever feeds the machine: percent. None lets it
    /// be as empty as it likes.
    pub battery_percent: Option<u8>,
    /// Not while main memory is short.
    pub memory: Memory,
    /// What other programs do on a GPU, and its heat: each GPU for itself.
    pub gpu: GpuRules,
    /// Only in these hours.
    pub schedule: Schedule,
    /// The machine does not fall asleep by itself while a job runs.
    pub keep_awake: bool,
    /// No model is downloaded over a connection that costs by the byte.
    pub metered_downloads: bool,
}

/// Work only while nobody uses the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Away {
    /// Without it somebody may be there.
    pub on: bool,
    /// So long nobody must have touched keyboard, mouse or gamepad.
    pub minutes: u32,
}

/// Main memory that is left to other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Memory {
    /// Without it memory is no reason.
    pub on: bool,
    /// So much must be free.
    pub bytes: u64,
}

/// Rules that fit together, by what a person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// While nobody uses the machine.
    Away,
    /// From ten to seven.
    Nights,
    /// Whenever the owner does not play or watch.
    NotPlaying,
    /// Whatever the owner does.
    Always,
}

/// Most minutes that [`Away::minutes`] may be: a day.
pub const MOST_MINUTES: u32 = 24 * 60;
/// Most names that [`Rules::programs`] may hold.
pub const MOST_PROGRAMS: usize = 100;
/// Most that [`Rules::battery_percent`] may be: a battery that ages is never full.
pub const MOST_BATTERY_PERCENT: u8 = 90;

impl Default for Rules {
    fn default() -> Self {
        Self {
            away: Away::default(),
            games: true,
            full_screen: true,
            programs: Vec::new(),
            battery: true,
            battery_percent: None,
            memory: Memory::default(),
            gpu: GpuRules::default(),
            schedule: Schedule::default(),
            keep_awake: false,
            metered_downloads: true,
        }
    }
}

impl Default for Away {
    fn default() -> Self {
        Self {
            on: false,
            minutes: 10,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            on: true,
            bytes: 1 << 30,
        }
    }
}

impl Rules {
    /// Turned into a preset. What no preset is about stays as it is.
    #[must_use]
    pub fn with(mut self, preset: Preset) -> Self {
        let playing = preset != Preset::Always;
        self.games = playing;
        self.full_screen = playing;
        self.away.on = preset == Preset::Away;
        self.schedule.on = preset == Preset::Nights;
        self
    }

    /// The preset that they are, if they are one.
    pub fn preset(&self) -> Option<Preset> {
        use Preset::{Always, Away, Nights, NotPlaying};
        [NotPlaying, Away, Nights, Always]
            .into_iter()
            .find(|preset| self.clone().with(*preset) == *self)
    }
}

/// What keeps a guest from working, as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// The machine is about to sleep.
    Sleep,
    /// A game runs.
    Game {
        /// What it is called.
        name: String,
    },
    /// A program runs that the owner named.
    Program {
        /// As they named it.
        name: String,
    },
    /// A program fills the screen.
    FullScreen {
        /// What it is called.
        name: String,
    },
    /// Other programs need the main memory.
    LowMemory {
        /// What they could still have.
        available_bytes: u64,
        /// The node goes on above this.
        resume_above_bytes: u64,
    },
    /// Nothing feeds the machine but its battery.
    Battery {
        /// What is left in it, where that is told.
        percent: Option<u8>,
    },
    /// The battery is nearly empty, whatever feeds the machine.
    LowBattery {
        /// The node goes on with so much in it.
        resume_percent: u8,
    },
    /// Other programs compute on the GPU.
    GpuBusy,
    /// Other programs need the GPU's memory.
    GpuMemory {
        /// The node goes on with so much of it free.
        resume_above_bytes: u64,
    },
    /// The GPU is too hot.
    GpuHot {
        /// The node goes on at this.
        resume_celsius: u16,
    },
    /// Somebody uses the machine.
    InUse {
        /// So long nobody must have touched it.
        minutes: u32,
        /// They do so from afar.
        remote: bool,
    },
    /// The hour is none of the schedule's.
    Hours {
        /// When the next begin: unix time in milliseconds; none if they never do.
        opens_ms: Option<i64>,
    },
}

/// The rules by name, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The machine's sleep, which has no switch.
    Sleep,
    /// [`Rules::games`].
    Games,
    /// [`Rules::programs`].
    Programs,
    /// [`Rules::full_screen`].
    FullScreen,
    /// [`Rules::memory`].
    Memory,
    /// [`Rules::battery`] and [`Rules::battery_percent`].
    Battery,
    /// [`GpuRules::heat`].
    GpuHeat,
    /// [`GpuRules::memory`].
    GpuMemory,
    /// [`GpuRules::load`].
    GpuLoad,
    /// [`Rules::away`].
    Away,
    /// [`Rules::schedule`].
    Schedule,
}

/// A rule that keeps the node from working.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Held {
    /// Which.
    pub rule: Rule,
    /// What it said last.
    pub why: Why,
    /// When it began: unix time in milliseconds.
    pub since_ms: i64,
    /// When its reason ended; none while it lasts.
    pub ended_ms: Option<i64>,
    /// Memory that the node gave back for it: main memory, or the GPU's.
    #[serde(skip)]
    pub gave_back_bytes: u64,
}

/// What the rules are held against.
#[derive(Debug, Clone, Default)]
pub struct Guest {
    /// What is seen.
    pub surroundings: Surroundings,
    /// What the schedule says; none where it is off.
    pub schedule: Option<ScheduleSays>,
    /// The owner wants work done whatever the rules say: unix time in milliseconds.
    pub anyway_until_ms: Option<i64>,
    /// What the node's own engines take of the main memory.
    pub own_memory_bytes: u64,
    /// When the last job in progress would be done.
    pub time_left: Option<Duration>,
    /// [`Decision::held`] of the decision before.
    pub held: Vec<Held>,
}

/// How long a reason must be gone before the node goes on: a game that starts anew, a film between
/// two parts, a plug that is loose.
pub(super) const GOES_ON_AFTER_MS: i64 = 30_000;
/// Who comes back to the machine for a moment finds the model loaded when they go.
const KEPT_WHILE_IN_USE_MS: i64 = 60_000;
/// A job that is done sooner is finished where the rule is in no hurry.
const FINISHED_WITHIN: Duration = Duration::from_secs(10);
/// Memory must be free by so much more than what stopped the node, as a share of that.
const MEMORY_MARGIN: u64 = 4;
/// A battery that was too empty must have so much more in it, in percent of all it holds.
const BATTERY_MARGIN: u8 = 5;

impl Rule {
    /// Those about the whole machine.
    const ALL: [Self; 8] = [
        Self::Sleep,
        Self::Games,
        Self::Programs,
        Self::FullScreen,
        Self::Memory,
        Self::Battery,
        Self::Away,
        Self::Schedule,
    ];

    /// Each GPU has a decision of its own about it ([`super::gpu_rules`]).
    pub fn is_about_a_gpu(self) -> bool {
        matches!(self, Self::GpuHeat | Self::GpuMemory | Self::GpuLoad)
    }

    /// What it has against work now. What is not reported is no reason.
    fn says(self, rules: &Rules, guest: &Guest, now_ms: i64) -> Option<Why> {
        let seen = &guest.surroundings;
        match self {
            Self::Sleep => (seen.going_to_sleep == Some(true)).then_some(Why::Sleep),
            Self::Games => first(seen.games.as_ref())
                .filter(|_| rules.games)
                .map(|name| Why::Game { name }),
            Self::Programs => first(seen.programs.as_ref())
                .filter(|name| rules.programs.iter().any(|wanted| same(wanted, name)))
                .map(|name| Why::Program { name }),
            Self::FullScreen => first(seen.full_screen.as_ref())
                .filter(|_| rules.full_screen)
                .map(|name| Why::FullScreen { name }),
            Self::Memory => {
                let available_bytes = seen.available_memory_bytes?;
                let limit = rules.memory.bytes;
                let before = guest.held.iter().find(|held| held.rule == self);
                let resume_above_bytes = (limit + limit / MEMORY_MARGIN)
                    + before.map_or(guest.own_memory_bytes, |held| held.gave_back_bytes);
                let needed = if before.is_some() {
                    resume_above_bytes
                } else {
                    limit
                };
                (rules.memory.on && available_bytes < needed).then_some(Why::LowMemory {
                    available_bytes,
                    resume_above_bytes,
                })
            }
            Self::Battery => {
                let power = seen.power?;
                if rules.battery && power.on_battery {
                    return Some(Why::Battery {
                        percent: power.battery_percent,
                    });
                }
                let (least, percent) = (rules.battery_percent?, power.battery_percent?);
                let resume_percent = least.saturating_add(BATTERY_MARGIN).min(100);
                let was_low = guest
                    .held
                    .iter()
                    .any(|held| matches!(held.why, Why::LowBattery { .. }));
                let needed = if was_low { resume_percent } else { least };
                (percent < needed).then_some(Why::LowBattery { resume_percent })
            }
            Self::GpuHeat | Self::GpuMemory | Self::GpuLoad => None,
            Self::Away => {
                let Away { on, minutes } = rules.away;
                (on && in_use(seen, minutes, now_ms)).then_some(Why::InUse {
                    minutes,
                    remote: seen.session == Some(Session::Remote),
                })
            }
            Self::Schedule => {
                let says = guest.schedule?;
                (!says.open).then_some(Why::Hours {
                    opens_ms: says.changes_ms,
                })
            }
        }
    }

    /// How long after its reason is gone the node goes on. Input and hours have their own time in
    /// the rule; a machine that woke up is asked for nothing more.
    fn goes_on_after_ms(self) -> i64 {
        match self {
            Self::Sleep | Self::Away | Self::Schedule => 0,
            Self::Games
            | Self::Programs
            | Self::FullScreen
            | Self::Memory
            | Self::Battery
            | Self::GpuHeat
            | Self::GpuMemory
            | Self::GpuLoad => GOES_ON_AFTER_MS,
        }
    }

    /// "Work anyway" does not go before it.
    fn is_above_the_owner(self) -> bool {
        self == Self::Sleep
    }

    /// How far the node steps back, and when it steps back further.
    fn mode(self, held: &Held, guest: &Guest, now_ms: i64) -> (Mode, Option<i64>) {
        match self {
            Self::Sleep
            | Self::Games
            | Self::Programs
            | Self::FullScreen
            | Self::Memory
            | Self::GpuHeat
            | Self::GpuMemory
            | Self::GpuLoad => (Mode::ReleaseGpu, None),
            Self::Battery | Self::Schedule => match guest.time_left {
                Some(left) if left <= FINISHED_WITHIN => (Mode::Drain, None),
                _ => (Mode::ReleaseGpu, None),
            },
            Self::Away => {
                let release_ms = held.since_ms + KEPT_WHILE_IN_USE_MS;
                // A clock that was set back must not keep the GPU for hours.
                if (held.since_ms..release_ms).contains(&now_ms) {
                    (Mode::StopNow, Some(release_ms))
                } else {
                    (Mode::ReleaseGpu, None)
                }
            }
        }
    }
}

impl Held {
    /// When it lets the node go on; none while its reason lasts.
    pub(super) fn goes_on_ms(&self) -> Option<i64> {
        Some(self.ended_ms? + self.rule.goes_on_after_ms())
    }
}

fn first(seen: Option<&Seen>) -> Option<String> {
    seen?.names.first().cloned()
}

fn same(wanted: &str, name: &str) -> bool {
    let plain = |name: &str| {
        let name = name.trim().to_lowercase();
        name.strip_suffix(".exe")
            .map_or(name.clone(), str::to_owned)
    };
    plain(wanted) == plain(name)
}

/// Whether somebody may be at the machine. A locked screen is nobody; somebody from afar is there as
/// long as they are connected. Where neither input nor session is reported, nobody can tell, and the
/// rule keeps the node from nothing.
fn in_use(seen: &Surroundings, minutes: u32, now_ms: i64) -> bool {
    match (seen.session, seen.input) {
        (Some(Session::Locked), _) | (_, None) => false,
        (Some(Session::Remote), _) | (_, Some(Input::Recent)) => true,
        (_, Some(Input::Quiet { since_ms })) => {
            let away_ms = since_ms + away_after_ms(minutes);
            // As above: a clock that was set back.
            (since_ms..away_ms).contains(&now_ms)
        }
    }
}

fn away_after_ms(minutes: u32) -> i64 {
    (i64::from(minutes) * 60_000).max(QUIET_AFTER_MS)
}

/// What the rules say together: the furthest step back that any of them asks for.
pub(super) fn decide(rules: &Rules, guest: &Guest, now_ms: i64) -> Decision {
    let anyway = guest
        .anyway_until_ms
        .is_some_and(|until_ms| until_ms > now_ms);
    let mut ask_again: Vec<i64> = guest
        .anyway_until_ms
        .filter(|_| anyway)
        .into_iter()
        .collect();
    let held: Vec<_> = Rule::ALL
        .into_iter()
        .filter(|rule| !anyway || rule.is_above_the_owner())
        .filter_map(|rule| {
            let says = rule.says(rules, guest, now_ms);
            let before = guest.held.iter().find(|held| held.rule == rule);
            let found = Finding {
                rule,
                says,
                is_on: rules.has(rule),
                held_bytes: guest.own_memory_bytes,
            };
            found.hold(before, now_ms)
        })
        .collect();
    let mut mode = Mode::Run;
    for one in &held {
        let (asked, steps_back_ms) = one.rule.mode(one, guest, now_ms);
        mode = mode.max(asked);
        ask_again.extend(steps_back_ms);
        ask_again.extend(one.goes_on_ms());
    }
    if rules.away.on
        && let Some(Input::Quiet { since_ms }) = guest.surroundings.input
    {
        ask_again.push(since_ms + away_after_ms(rules.away.minutes));
    }
    ask_again.extend(guest.schedule.and_then(|says| says.changes_ms));
    Decision {
        mode,
        reason: told(&held),
        ask_again_ms: ask_again.into_iter().filter(|at| *at > now_ms).min(),
        held,
    }
}

/// What lasts is told before what is over, and then what was told first of all.
pub(super) fn told(held: &[Held]) -> Option<Reason> {
    let told = held
        .iter()
        .min_by_key(|one| (one.ended_ms.is_some(), one.rule))?;
    Some(Reason::Rule {
        why: told.why.clone(),
        goes_on_ms: told.goes_on_ms(),
    })
}

/// What one rule makes of what is seen.
pub(super) struct Finding {
    pub(super) rule: Rule,
    /// What it has against work now.
    pub(super) says: Option<Why>,
    /// It is switched on.
    pub(super) is_on: bool,
    /// What the node would give back for it.
    pub(super) held_bytes: u64,
}

impl Finding {
    /// A rule that holds, or did until a moment ago.
    pub(super) fn hold(self, before: Option<&Held>, now_ms: i64) -> Option<Held> {
        if let Some(why) = self.says {
            return Some(match before {
                Some(before) => Held {
                    why,
                    ended_ms: None,
                    ..before.clone()
                },
                None => Held {
                    rule: self.rule,
                    why,
                    since_ms: now_ms,
                    ended_ms: None,
                    gave_back_bytes: self.held_bytes,
                },
            });
        }
        let mut held = before?.clone();
        let ended_ms = *held.ended_ms.get_or_insert(now_ms);
        // A rule that was switched off ends at once; so does one after a clock was set back.
        let waits = self.is_on && (ended_ms..held.goes_on_ms()?).contains(&now_ms);
        waits.then_some(held)
    }
}

impl Rules {
    /// Whether a rule is switched on.
    fn has(&self, rule: Rule) -> bool {
        match rule {
            Rule::Sleep => true,
            Rule::Games => self.games,
            Rule::Programs => !self.programs.is_empty(),
            Rule::FullScreen => self.full_screen,
            Rule::Memory => self.memory.on,
            Rule::Battery => self.battery || self.battery_percent.is_some(),
            Rule::GpuHeat => self.gpu.heat.on,
            Rule::GpuMemory => self.gpu.memory.on,
            Rule::GpuLoad => self.gpu.load.on,
            Rule::Away => self.away.on,
            Rule::Schedule => self.schedule.on,
        }
    }
}

#[cfg(test)]
mod tests;
