//! The rules as tables, over a week, and over whatever else may happen.

use proptest::prelude::*;

use super::*;
use crate::governor::Reason;
use crate::governor::days::{Chance, Outcome, starts_are_apart};

const NOW: i64 = 1_700_000_000_000;
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;
const RESERVE: u64 = GB / 2;

/// An idle GPU of 8 GB on which a model is loaded.
fn idle() -> GpuSeen {
    GpuSeen {
        adapter: "a".to_owned(),
        load_others_percent: Some(0),
        vram_others_bytes: Some(GB / 2),
        vram_ours_bytes: Some(4 * GB),
        vram_total_bytes: Some(8 * GB),
        temperature_celsius: Some(60),
        temperature_limit_celsius: Some(90),
    }
}

fn loaded(percent: u8) -> GpuSeen {
    GpuSeen {
        load_others_percent: Some(percent),
        ..idle()
    }
}

fn hot_at(celsius: u16) -> GpuSeen {
    GpuSeen {
        temperature_celsius: Some(celsius),
        ..idle()
    }
}

fn guest() -> GpuGuest {
    GpuGuest {
        reserve_bytes: RESERVE,
        ..GpuGuest::default()
    }
}

/// Decides as the caller does, who keeps the guest.
fn step(rules: &GpuRules, guest: &mut GpuGuest, seen: GpuSeen, now_ms: i64) -> Decision {
    guest.see(rules, Some(seen), now_ms);
    let decision = decide_gpu(rules, guest, now_ms);
    guest.held.clone_from(&decision.held);
    decision
}

fn why(decision: &Decision) -> Option<Why> {
    match &decision.reason {
        Some(Reason::Rule { why, .. }) => Some(why.clone()),
        _ => None,
    }
}

fn with_heat(celsius: Option<u16>) -> GpuRules {
    GpuRules {
        heat: GpuHeat { on: true, celsius },
        ..GpuRules::default()
    }
}

fn none() -> GpuRules {
    GpuRules {
        load: GpuLoad {
            on: false,
            ..GpuLoad::default()
        },
        memory: GpuMemory { on: false },
        heat: GpuHeat {
            on: false,
            celsius: None,
        },
        duty_percent: 100,
    }
}

#[test]
fn what_each_rule_says_as_a_table() {
    let rules = GpuRules::default;
    let unknown = |change: fn(&mut GpuSeen)| {
        let mut seen = hot_at(89);
        (seen.vram_others_bytes, seen.vram_ours_bytes) = (Some(4 * GB), Some(4 * GB));
        change(&mut seen);
        seen
    };
    let memory = |others, ours| GpuSeen {
        vram_others_bytes: Some(others),
        vram_ours_bytes: Some(ours),
        ..idle()
    };
    let gpu_memory = |resume_above_bytes| Some(Why::GpuMemory { resume_above_bytes });
    let gpu_hot = |resume_celsius| Some(Why::GpuHot { resume_celsius });
    let cases = [
        ("idle", rules(), idle(), None),
        ("nothing is reported", rules(), GpuSeen::default(), None),
        ("not hot", rules(), hot_at(80), None),
        ("hot", rules(), hot_at(81), gpu_hot(75)),
        (
            "hot for this owner",
            with_heat(Some(70)),
            hot_at(71),
            gpu_hot(65),
        ),
        (
            "hotter than its driver allows, whatever is set",
            with_heat(Some(110)),
            hot_at(91),
            gpu_hot(85),
        ),
        (
            "no limit is told, and none is set",
            rules(),
            GpuSeen {
                temperature_limit_celsius: None,
                ..hot_at(100)
            },
            None,
        ),
        (
            "no limit is told, but one is set",
            with_heat(Some(70)),
            GpuSeen {
                temperature_limit_celsius: None,
                ..hot_at(71)
            },
            gpu_hot(65),
        ),
        ("hot, and that is allowed", none(), hot_at(99), None),
        (
            "half of the reserve is free",
            rules(),
            memory(4 * GB, 4 * GB - RESERVE / 2),
            None,
        ),
        (
            "less than half of the reserve is free",
            rules(),
            memory(4 * GB, 4 * GB - RESERVE / 2 + MB),
            gpu_memory(4 * GB + RESERVE / 4 + MB),
        ),
        (
            "more is held than there is",
            rules(),
            memory(6 * GB, 4 * GB),
            gpu_memory(4 * GB + RESERVE / 2 + RESERVE / 4),
        ),
        (
            "what the node held is more than the rest could ever be",
            rules(),
            memory(GB, 8 * GB - MB),
            gpu_memory(8 * GB - RESERVE / 4),
        ),
        (
            "memory, and that is allowed",
            none(),
            memory(6 * GB, 4 * GB),
            None,
        ),
        (
            "hot and without memory: heat is told",
            rules(),
            unknown(|_| ()),
            gpu_hot(75),
        ),
        (
            "the heat is not reported",
            rules(),
            unknown(|seen| seen.temperature_celsius = None),
            gpu_memory(4 * GB + RESERVE / 2 + RESERVE / 4),
        ),
        (
            "nor what others hold",
            rules(),
            unknown(|seen| {
                seen.temperature_celsius = None;
                seen.vram_others_bytes = None;
            }),
            None,
        ),
        (
            "nor what the node holds",
            rules(),
            unknown(|seen| {
                seen.temperature_celsius = None;
                seen.vram_ours_bytes = None;
            }),
            None,
        ),
        (
            "nor what there is",
            rules(),
            unknown(|seen| {
                seen.temperature_celsius = None;
                seen.vram_total_bytes = None;
            }),
            None,
        ),
    ];
    for (what, rules, seen, expected) in cases {
        let decision = step(&rules, &mut guest(), seen, NOW);
        assert_eq!(why(&decision), expected, "{what}");
        let mode = if expected.is_none() {
            Mode::Run
        } else {
            Mode::ReleaseGpu
        };
        assert_eq!(decision.mode, mode, "{what}");
    }
}

#[test]
fn a_load_counts_once_it_lasts() {
    let rules = GpuRules::default();
    let mut guest = guest();
    let mut at =
        |seconds, percent| step(&rules, &mut guest, loaded(percent), NOW + seconds * SECOND);
    assert_eq!(at(0, 25).ask_again_ms, None);
    assert_eq!(at(2, 30).ask_again_ms, Some(NOW + 12 * SECOND));
    assert_eq!(at(10, 95).mode, Mode::Run);
    // A moment without it: it counts anew.
    at(11, 5);
    assert_eq!(at(12, 40).ask_again_ms, Some(NOW + 22 * SECOND));
    assert_eq!(at(21, 40).mode, Mode::Run);
    let busy = at(22, 40);
    assert_eq!(
        (busy.mode, why(&busy)),
        (Mode::ReleaseGpu, Some(Why::GpuBusy))
    );
    // Less, and more again before it goes on: it holds at once.
    let less = at(30, 25);
    assert_eq!(less.ask_again_ms, Some(NOW + 60 * SECOND));
    let Some(Reason::Rule { goes_on_ms, .. }) = less.reason else {
        panic!("{less:?}");
    };
    assert_eq!(goes_on_ms, Some(NOW + 60 * SECOND));
    assert_eq!(at(59, 30).held[0].ended_ms, None);
    at(61, 0);
    assert_eq!(at(90, 0).mode, Mode::ReleaseGpu);
    let on = at(91, 0);
    assert_eq!((on.mode, on.held.len()), (Mode::Run, 0));
}

#[test]
fn a_gpu_that_is_lost_or_tells_nothing_any_more_keeps_nobody() {
    let rules = with_heat(Some(70));
    let mut guest = guest();
    assert_eq!(
        step(&rules, &mut guest, hot_at(71), NOW).mode,
        Mode::ReleaseGpu
    );
    let mut gone = |seconds| {
        let now_ms = NOW + seconds * SECOND;
        guest.see(&rules, None, now_ms);
        let decision = decide_gpu(&rules, &guest, now_ms);
        guest.held.clone_from(&decision.held);
        decision
    };
    assert_eq!(gone(1).ask_again_ms, Some(NOW + 31 * SECOND));
    assert_eq!(gone(31).mode, Mode::Run);
}

#[test]
fn heat_goes_when_it_is_five_degrees_cooler() {
    let rules = GpuRules::default();
    let mut guest = guest();
    let mut at =
        |seconds, celsius| step(&rules, &mut guest, hot_at(celsius), NOW + seconds * SECOND);
    assert_eq!(at(0, 81).mode, Mode::ReleaseGpu);
    assert_eq!(at(60, 76).held[0].ended_ms, None);
    assert_eq!(at(61, 75).held[0].ended_ms, Some(NOW + 61 * SECOND));
    assert_eq!(at(90, 75).mode, Mode::ReleaseGpu);
    assert_eq!(at(91, 75).mode, Mode::Run);
    assert_eq!(at(92, 80).mode, Mode::Run);
}

/// The model that was unloaded made the room: without knowing that, it would come and go.
#[test]
fn memory_that_the_node_gave_back_is_not_free() {
    let rules = GpuRules::default();
    let mut guest = guest();
    let mut at = |seconds, others, ours| {
        let seen = GpuSeen {
            vram_others_bytes: Some(others),
            vram_ours_bytes: Some(ours),
            ..idle()
        };
        step(&rules, &mut guest, seen, NOW + seconds * SECOND)
    };
    assert_eq!(at(0, 4 * GB, 4 * GB - 100 * MB).mode, Mode::ReleaseGpu);
    // Ours is given back; what others hold is what it was.
    let given_back = at(2, 4 * GB, 0);
    assert_eq!(given_back.held[0].ended_ms, None);
    assert_eq!(at(1_000, 4 * GB, 0).mode, Mode::ReleaseGpu);
    // They give back as much as the node needs, and a little.
    assert_eq!(
        at(2_000, 3 * GB, 0).held[0].ended_ms,
        Some(NOW + 2_000 * SECOND)
    );
    assert_eq!(at(2_030, 3 * GB, 0).mode, Mode::Run);
    assert_eq!(at(2_040, 3 * GB, 4 * GB - 100 * MB).mode, Mode::Run);
}

#[test]
fn who_switches_a_rule_off_does_not_wait_nor_who_sets_the_clock_back() {
    let rules = GpuRules::default();
    for (changed, now_ms) in [(none(), NOW + SECOND), (rules, NOW - 60 * MINUTE)] {
        let mut guest = guest();
        step(&rules, &mut guest, hot_at(81), NOW);
        step(&rules, &mut guest, hot_at(60), NOW + SECOND / 2);
        assert_eq!(guest.held.len(), 1);
        assert_eq!(
            step(&changed, &mut guest, hot_at(60), now_ms).mode,
            Mode::Run
        );
    }
    // A load that was seen in what is the future now has not lasted.
    let mut guest = guest();
    step(&rules, &mut guest, loaded(90), NOW);
    let back = NOW - 60 * MINUTE;
    assert_eq!(step(&rules, &mut guest, loaded(90), back).mode, Mode::Run);
    let lasts = step(&rules, &mut guest, loaded(90), back + 10 * SECOND);
    assert_eq!(lasts.mode, Mode::ReleaseGpu);
}

#[test]
fn work_anyway_goes_before_the_owners_rules_but_not_before_the_drivers_limit() {
    let rules = with_heat(Some(70));
    let until = NOW + 60 * MINUTE;
    let all = |celsius| GpuSeen {
        load_others_percent: Some(90),
        vram_others_bytes: Some(4 * GB),
        vram_ours_bytes: Some(4 * GB),
        ..hot_at(celsius)
    };
    let mut guest = guest();
    let at = |guest: &mut GpuGuest, seconds, celsius| {
        step(&rules, guest, all(celsius), NOW + seconds * SECOND)
    };
    at(&mut guest, 0, 71);
    assert_eq!(at(&mut guest, 10, 71).held.len(), 3);
    guest.anyway_until_ms = Some(until);
    let works = at(&mut guest, 11, 90);
    assert_eq!((works.mode, works.ask_again_ms), (Mode::Run, Some(until)));
    let limit = at(&mut guest, 12, 91);
    assert_eq!(why(&limit), Some(Why::GpuHot { resume_celsius: 85 }));
    assert_eq!(at(&mut guest, 13, 86).mode, Mode::ReleaseGpu);
    // As always it waits a moment, so that it does not come and go.
    assert_eq!(at(&mut guest, 14, 85).mode, Mode::ReleaseGpu);
    assert_eq!(at(&mut guest, 44, 85).mode, Mode::Run);
    // Without a limit there is none to stand above the owner.
    let mut untold = all(120);
    untold.temperature_limit_celsius = None;
    assert_eq!(
        step(&rules, &mut guest, untold, NOW + 50 * SECOND).mode,
        Mode::Run
    );
    // When the hour is over, all of it counts again.
    let over = at(&mut guest, 60 * 60, 71);
    assert_eq!((over.mode, over.held.len()), (Mode::ReleaseGpu, 3));
}

#[test]
fn nothing_has_to_be_looked_at_for_rules_that_are_off() {
    assert!(GpuRules::default().look());
    assert!(!none().look());
    assert!(with_heat(None).look());
}

/// What the owner does.
#[derive(Debug, Clone, Copy)]
enum Change {
    Load(u8),
    Memory(u64),
    /// How much hotter or cooler the room is.
    Warmth(i64),
    /// The driver tells nothing for a while.
    Tells(bool),
}

/// A GPU of which our engine takes 4 GB, and which it warms up while it works.
#[derive(Debug)]
struct Gpu {
    load: u8,
    others_bytes: u64,
    warmth: i64,
    tells: bool,
    /// In tenths of a degree.
    heat: i64,
    works: bool,
}

/// So often it is looked at.
const LOOK: i64 = 2 * SECOND;

impl Gpu {
    fn new() -> Self {
        Self {
            load: 0,
            others_bytes: GB / 2,
            warmth: 0,
            tells: true,
            heat: 450,
            works: false,
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Load(percent) => self.load = percent,
            Change::Memory(bytes) => self.others_bytes = bytes,
            Change::Warmth(degrees) => self.warmth = degrees,
            Change::Tells(tells) => self.tells = tells,
        }
    }

    /// Half a degree at a time, to where it would stay.
    fn warm(&mut self) {
        let target =
            10 * (35 + self.warmth + if self.works { 30 } else { 0 } + i64::from(self.load) / 4);
        self.heat += (target - self.heat).clamp(-5, 5);
    }

    fn seen(&self) -> Option<GpuSeen> {
        self.tells.then(|| GpuSeen {
            load_others_percent: Some(self.load),
            vram_others_bytes: Some(self.others_bytes),
            vram_ours_bytes: Some(if self.works { 4 * GB } else { 0 }),
            temperature_celsius: Some((self.heat / 10).max(0) as u16),
            ..idle()
        })
    }
}

/// Plays changes, in their order of time. What is seen is held against each rule by itself: none may
/// say no while the node works.
fn play(rules: &GpuRules, changes: &[(i64, Change)], end_ms: i64) -> Outcome {
    let (mut outcome, mut gpu, mut guest) = (Outcome::default(), Gpu::new(), guest());
    let mut changes = changes.iter().peekable();
    let mut busy_since: Option<i64> = None;
    let mut now_ms = NOW;
    while now_ms < end_ms {
        while let Some((_, change)) = changes.next_if(|(at, _)| *at <= now_ms) {
            gpu.apply(*change);
        }
        gpu.warm();
        let seen = gpu.seen();
        let decision = {
            guest.see(rules, seen.clone(), now_ms);
            decide_gpu(rules, &guest, now_ms)
        };
        let works = decision.mode == Mode::Run;
        // By what is seen alone, without what `guest` remembers of it.
        let is_busy = rules.load.on && gpu.tells && gpu.load >= rules.load.percent;
        busy_since = is_busy.then(|| busy_since.unwrap_or(now_ms));
        let lasts = busy_since
            .is_some_and(|since| now_ms - since >= i64::from(rules.load.seconds) * SECOND);
        let heat = seen.as_ref().and_then(|seen| seen.temperature_celsius);
        let too_hot = rules.heat.on
            && heat.is_some_and(|heat| heat > rules.heat.celsius.unwrap_or(80).min(90));
        let held = if gpu.works { 4 * GB } else { 0 };
        let too_full = rules.memory.on
            && gpu.tells
            && (8 * GB).saturating_sub(gpu.others_bytes + held) < RESERVE / LEFT_OF_RESERVE;
        assert!(
            !works || !(lasts || too_hot || too_full),
            "{now_ms}: {decision:?} {gpu:?}"
        );
        if works && !gpu.works {
            outcome.starts.push(now_ms);
        }
        let says_no = decision.held.iter().any(|held| held.ended_ms.is_none());
        if !says_no {
            outcome.allowed_ms += LOOK;
        }
        if works {
            outcome.worked_ms += LOOK;
        }
        gpu.works = works;
        guest.held = decision.held;
        now_ms += LOOK;
    }
    outcome
}

/// Renders and games, a browser that plays a film now and then, a hot afternoon, a driver that
/// hangs.
#[test]
fn a_week_as_people_live_it() {
    let mut chance = Chance(11);
    let mut changes = Vec::new();
    for day in 0..7 {
        let at = |hour: i64, minute: i64| NOW + ((day * 24 + hour) * 60 + minute) * MINUTE;
        // A desktop that draws a little, and a page that draws much for a moment.
        let mut time = at(8, 0);
        while time < at(23, 0) {
            changes.push((time, Change::Load(5 * (chance.below(5) as u8))));
            time += 20 * SECOND + chance.below(4 * MINUTE);
            if chance.below(4) == 0 {
                changes.push((time, Change::Load(80)));
                time += 2 * SECOND + chance.below(6 * SECOND);
                changes.push((time, Change::Load(5)));
            }
        }
        changes.push((at(23, 0), Change::Load(0)));
        // A render that takes the GPU and its memory.
        let (begins, lasts) = (chance.below(30), 20 + chance.below(40));
        changes.push((at(14, begins), Change::Load(95)));
        changes.push((at(14, begins) + 30 * SECOND, Change::Memory(5 * GB)));
        changes.push((at(14, begins + lasts), Change::Load(0)));
        changes.push((at(14, begins + lasts) + 5 * SECOND, Change::Memory(GB / 2)));
        // A game that loads between two levels.
        for level in 0..6 {
            changes.push((at(19, 10 * level), Change::Load(99)));
            changes.push((at(19, 10 * level + 9) + 40 * SECOND, Change::Load(10)));
        }
        changes.push((at(20, 0), Change::Load(5)));
        changes.push((at(12, 30), Change::Memory(3 * GB)));
        changes.push((at(12, 50), Change::Memory(GB / 2)));
        changes.push((at(16, 0), Change::Warmth(if day == 3 { 12 } else { 6 })));
        changes.push((at(18, 0), Change::Warmth(0)));
        changes.push((at(10, 0), Change::Tells(false)));
        changes.push((at(10, 5), Change::Tells(true)));
    }
    changes.sort_by_key(|(at, _)| *at);
    let end = NOW + 7 * 24 * 60 * MINUTE;
    for rules in [GpuRules::default(), with_heat(Some(75)), none()] {
        let outcome = play(&rules, &changes, end);
        assert!(starts_are_apart(&outcome), "{rules:?}: {outcome:?}");
        let lost = 1.0 - outcome.worked_ms as f64 / outcome.allowed_ms as f64;
        assert!(lost <= 0.02, "{rules:?}: {lost}");
        assert!(outcome.allowed_ms > 100 * 60 * MINUTE, "{rules:?}");
        assert_eq!(
            rules.look(),
            outcome.starts.len() > 7,
            "{rules:?}: {outcome:?}"
        );
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0_u8..=20).prop_map(|step| Change::Load(5 * step)),
        (0_u64..8 * GB).prop_map(Change::Memory),
        (-10_i64..40).prop_map(Change::Warmth),
        any::<bool>().prop_map(Change::Tells),
    ]
}

proptest! {
    /// [`play`] holds every decision against every rule.
    #[test]
    fn no_rule_is_ever_broken(
        steps in proptest::collection::vec((1_i64..10 * MINUTE, any_change()), 1..60),
        percent in 1_u8..=100,
        seconds in 1_u32..60,
        celsius in proptest::option::of(CELSIUS),
    ) {
        let rules = GpuRules {
            load: GpuLoad { on: true, percent, seconds },
            ..with_heat(celsius)
        };
        let mut at = NOW;
        let changes: Vec<_> = steps
            .into_iter()
            .map(|(wait, change)| {
                at += wait;
                (at, change)
            })
            .collect();
        let outcome = play(&rules, &changes, at + 5 * MINUTE);
        prop_assert!(starts_are_apart(&outcome), "{outcome:?}");
    }
}
