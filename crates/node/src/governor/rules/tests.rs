//! The rules as tables, over a week, and over whatever else may happen.

use infera_surroundings::Power;
use proptest::prelude::*;

use super::*;
use crate::governor::days::{Chance, Outcome, starts_are_apart};
use crate::governor::{GovernorPolicy, Observations, Pause, Reason};

const NOW: i64 = 1_700_000_000_000;
const MINUTE: i64 = 60_000;

#[expect(clippy::unnecessary_wraps, reason = "as surroundings hold it")]
fn seen(names: &[&str]) -> Option<Seen> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Some(Seen { names })
}

fn playing() -> Surroundings {
    Surroundings {
        games: seen(&["Hades"]),
        ..Surroundings::default()
    }
}

fn guest(surroundings: Surroundings) -> Guest {
    Guest {
        surroundings,
        ..Guest::default()
    }
}

fn after(decision: Decision, surroundings: Surroundings) -> Guest {
    Guest {
        held: decision.held,
        ..guest(surroundings)
    }
}

fn why(decision: &Decision) -> Option<Why> {
    match &decision.reason {
        Some(Reason::Rule { why, .. }) => Some(why.clone()),
        _ => None,
    }
}

fn away() -> Rules {
    Rules::default().with(Preset::Away)
}

#[test]
fn what_each_rule_says_as_a_table() {
    let game = || Why::Game {
        name: "Hades".to_owned(),
    };
    let in_use = |remote| Why::InUse {
        minutes: 10,
        remote,
    };
    let quiet = |minutes: i64| {
        Some(Input::Quiet {
            since_ms: NOW - minutes * MINUTE,
        })
    };
    let all = Surroundings::default;
    let always = || Rules::default().with(Preset::Always);
    let named = |names: &[&str]| Rules {
        programs: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Rules::default()
    };
    let battery = Some(Power {
        on_battery: true,
        battery_percent: Some(80),
    });
    let low = |available_bytes| Surroundings {
        available_memory_bytes: Some(available_bytes),
        ..all()
    };
    let cases = [
        ("nothing is reported", away(), all(), None),
        ("a game", Rules::default(), playing(), Some(game())),
        ("a game, and that is allowed", always(), playing(), None),
        (
            "no game",
            Rules::default(),
            Surroundings {
                games: seen(&[]),
                ..all()
            },
            None,
        ),
        (
            "a film",
            Rules::default(),
            Surroundings {
                full_screen: seen(&["mpv"]),
                ..all()
            },
            Some(Why::FullScreen {
                name: "mpv".to_owned(),
            }),
        ),
        (
            "a game that fills the screen is a game",
            Rules::default(),
            Surroundings {
                full_screen: seen(&["hades"]),
                ..playing()
            },
            Some(game()),
        ),
        (
            "a named program",
            named(&["Blender.exe"]),
            Surroundings {
                programs: seen(&["blender"]),
                ..all()
            },
            Some(Why::Program {
                name: "blender".to_owned(),
            }),
        ),
        (
            "one that is no longer named",
            named(&["krita"]),
            Surroundings {
                programs: seen(&["blender"]),
                ..all()
            },
            None,
        ),
        (
            "on battery",
            Rules::default(),
            Surroundings {
                power: battery,
                ..all()
            },
            Some(Why::Battery { percent: Some(80) }),
        ),
        (
            "memory",
            Rules::default(),
            low((1 << 30) - 1),
            Some(Why::LowMemory {
                available_bytes: (1 << 30) - 1,
                resume_above_bytes: 5 << 28,
            }),
        ),
        ("memory enough", Rules::default(), low(1 << 30), None),
        (
            "somebody types",
            away(),
            Surroundings {
                input: Some(Input::Recent),
                ..all()
            },
            Some(in_use(false)),
        ),
        (
            "nobody has for nine minutes",
            away(),
            Surroundings {
                input: quiet(9),
                ..all()
            },
            Some(in_use(false)),
        ),
        (
            "nobody has for ten",
            away(),
            Surroundings {
                input: quiet(10),
                ..all()
            },
            None,
        ),
        (
            "the screen is locked",
            away(),
            Surroundings {
                input: Some(Input::Recent),
                session: Some(Session::Locked),
                ..all()
            },
            None,
        ),
        (
            "somebody is there from afar",
            away(),
            Surroundings {
                input: quiet(60),
                session: Some(Session::Remote),
                ..all()
            },
            Some(in_use(true)),
        ),
        (
            "the clock was set back",
            away(),
            Surroundings {
                input: quiet(-60),
                ..all()
            },
            None,
        ),
        (
            "sleep, which no switch is for",
            always(),
            Surroundings {
                going_to_sleep: Some(true),
                ..all()
            },
            Some(Why::Sleep),
        ),
    ];
    for (what, rules, surroundings, expected) in cases {
        let decision = decide(&rules, &guest(surroundings), NOW);
        assert_eq!(why(&decision), expected, "{what}");
        assert_eq!(decision.mode == Mode::Run, expected.is_none(), "{what}");
    }
}

#[test]
fn hours_are_told_with_their_beginning() {
    let guest = |open, changes_ms| Guest {
        schedule: Some(ScheduleSays { open, changes_ms }),
        ..Guest::default()
    };
    let rules = Rules::default().with(Preset::Nights);
    let decision = decide(&rules, &guest(false, Some(NOW + 5)), NOW);
    assert_eq!(decision.ask_again_ms, Some(NOW + 5));
    assert_eq!(
        why(&decision),
        Some(Why::Hours {
            opens_ms: Some(NOW + 5)
        })
    );
    let decision = decide(&rules, &guest(true, Some(NOW + 5)), NOW);
    assert_eq!(
        (decision.mode, decision.ask_again_ms),
        (Mode::Run, Some(NOW + 5))
    );
}

#[test]
fn a_rule_holds_for_a_moment_after_its_reason_is_gone() {
    let rules = Rules::default();
    let decision = decide(&rules, &guest(playing()), NOW);
    assert_eq!(decision.mode, Mode::ReleaseGpu);
    let gone = decide(
        &rules,
        &after(decision, Surroundings::default()),
        NOW + 1_000,
    );
    assert_eq!(gone.mode, Mode::ReleaseGpu);
    assert_eq!(gone.ask_again_ms, Some(NOW + 31_000));
    let Some(Reason::Rule { goes_on_ms, .. }) = gone.reason else {
        panic!("{gone:?}");
    };
    assert_eq!(goes_on_ms, Some(NOW + 31_000));
    // It starts again within that time, and that counts anew.
    let again = decide(&rules, &after(gone.clone(), playing()), NOW + 20_000);
    assert_eq!(again.held[0].ended_ms, None);
    assert_eq!(again.held[0].since_ms, NOW);
    let on = decide(
        &rules,
        &after(gone.clone(), Surroundings::default()),
        NOW + 31_000,
    );
    assert_eq!((on.mode, on.held.len()), (Mode::Run, 0));
    // Whoever switches the rule off does not wait.
    let off = rules.clone().with(Preset::Always);
    let decision = decide(
        &off,
        &after(gone.clone(), Surroundings::default()),
        NOW + 2_000,
    );
    assert_eq!(decision.mode, Mode::Run);
    // Nor does who set the clock back.
    let back = decide(
        &rules,
        &after(gone, Surroundings::default()),
        NOW - 3_600_000,
    );
    assert_eq!(back.mode, Mode::Run);
}

#[test]
fn who_comes_back_for_a_moment_finds_the_model_loaded() {
    let there = Surroundings {
        input: Some(Input::Recent),
        ..Surroundings::default()
    };
    let decision = decide(&away(), &guest(there.clone()), NOW);
    assert_eq!(decision.mode, Mode::StopNow);
    assert_eq!(decision.ask_again_ms, Some(NOW + MINUTE));
    let decision = decide(&away(), &after(decision, there), NOW + MINUTE);
    assert_eq!(decision.mode, Mode::ReleaseGpu);
    let quiet = Surroundings {
        input: Some(Input::Quiet {
            since_ms: NOW + MINUTE,
        }),
        ..Surroundings::default()
    };
    let decision = decide(&away(), &after(decision, quiet.clone()), NOW + 2 * MINUTE);
    assert_eq!(decision.ask_again_ms, Some(NOW + 11 * MINUTE));
    let decision = decide(&away(), &after(decision, quiet), NOW + 11 * MINUTE);
    assert_eq!(decision.mode, Mode::Run, "at once");
}

#[test]
fn a_job_that_is_nearly_done_is_finished_where_nothing_hurries() {
    let on_battery = |seconds: Option<u64>| Guest {
        time_left: seconds.map(Duration::from_secs),
        ..guest(Surroundings {
            power: Some(Power {
                on_battery: true,
                battery_percent: None,
            }),
            ..Surroundings::default()
        })
    };
    let mode = |guest: Guest| decide(&Rules::default(), &guest, NOW).mode;
    assert_eq!(mode(on_battery(Some(10))), Mode::Drain);
    assert_eq!(mode(on_battery(Some(11))), Mode::ReleaseGpu);
    assert_eq!(mode(on_battery(None)), Mode::ReleaseGpu);
    let game = Guest {
        time_left: Some(Duration::from_secs(1)),
        ..guest(playing())
    };
    assert_eq!(mode(game), Mode::ReleaseGpu);
}

#[test]
fn a_battery_that_is_nearly_empty_is_charged_first() {
    let rules = Rules {
        battery: false,
        battery_percent: Some(20),
        ..Rules::default()
    };
    let with = |on_battery, battery_percent| Surroundings {
        power: Some(Power {
            on_battery,
            battery_percent,
        }),
        ..Surroundings::default()
    };
    let low = || Why::LowBattery { resume_percent: 25 };
    for (on_battery, percent, expected) in [
        (true, Some(20), None),
        (true, Some(19), Some(low())),
        (false, Some(19), Some(low())),
        (false, Some(100), None),
        // A machine without one, or one that does not tell.
        (false, None, None),
        (true, None, None),
    ] {
        let decision = decide(&rules, &guest(with(on_battery, percent)), NOW);
        assert_eq!(why(&decision), expected, "{on_battery} {percent:?}");
    }
    let decision = decide(&rules, &guest(with(false, Some(19))), NOW);
    let later = decide(
        &rules,
        &after(decision, with(false, Some(24))),
        NOW + MINUTE,
    );
    assert_eq!(why(&later), Some(low()), "it goes up and down by one");
    let charged = decide(
        &rules,
        &after(later, with(false, Some(25))),
        NOW + 2 * MINUTE,
    );
    assert_eq!(charged.ask_again_ms, Some(NOW + 2 * MINUTE + 30_000));
    // Where both count, a plug is enough above the number.
    let both = Rules {
        battery: true,
        ..rules
    };
    let decision = decide(&both, &guest(with(true, Some(22))), NOW);
    assert_eq!(why(&decision), Some(Why::Battery { percent: Some(22) }));
    let plugged = decide(&both, &after(decision, with(false, Some(22))), NOW + MINUTE);
    assert!(plugged.held[0].ended_ms.is_some(), "{plugged:?}");
}

/// The model that was unloaded made the room: without knowing that, it would come and go.
#[test]
fn memory_that_the_node_gave_back_is_not_free() {
    let with = |available_bytes, own_memory_bytes| Guest {
        own_memory_bytes,
        ..guest(Surroundings {
            available_memory_bytes: Some(available_bytes),
            ..Surroundings::default()
        })
    };
    const GB: u64 = 1 << 30;
    let rules = Rules::default();
    let decision = decide(&rules, &with(GB / 2, 8 * GB), NOW);
    assert_eq!(decision.mode, Mode::ReleaseGpu);
    let later = |available, at| {
        let guest = Guest {
            held: decision.held.clone(),
            ..with(available, 0)
        };
        decide(&rules, &guest, NOW + at)
    };
    assert!(later(17 * GB / 2, 60_000).held[0].ended_ms.is_none());
    assert!(later(19 * GB / 2, 60_000).held[0].ended_ms.is_some());
}

#[test]
fn work_anyway_goes_before_the_rules_but_not_before_sleep() {
    let anyway = |surroundings| Guest {
        anyway_until_ms: Some(NOW + MINUTE),
        ..guest(surroundings)
    };
    let decision = decide(&Rules::default(), &anyway(playing()), NOW);
    assert_eq!(
        (decision.mode, decision.ask_again_ms),
        (Mode::Run, Some(NOW + MINUTE))
    );
    let over = decide(&Rules::default(), &anyway(playing()), NOW + MINUTE);
    assert_eq!(over.mode, Mode::ReleaseGpu);
    let sleepy = Surroundings {
        going_to_sleep: Some(true),
        ..playing()
    };
    let decision = decide(&Rules::default(), &anyway(sleepy), NOW);
    assert_eq!(why(&decision), Some(Why::Sleep));
}

#[test]
fn rules_and_what_else_keeps_the_node() {
    let policy = GovernorPolicy::default();
    let observe = |pause, storage_fault: Option<&str>| Observations {
        pause,
        storage_fault: storage_fault.map(str::to_owned),
        running: 1,
        guest: guest(playing()),
        ..Observations::default()
    };
    let pause = |finish_first| {
        Some(Pause {
            since_ms: NOW,
            until_ms: Some(NOW + MINUTE),
            finish_first,
        })
    };
    let decide = |observations: &Observations, at| super::super::decide(observations, &policy, at);
    // Who pauses is told of the pause; the GPU is free at once for the game.
    let both = decide(&observe(pause(false), None), NOW);
    assert!(
        matches!(both.reason, Some(Reason::Paused { .. })),
        "{both:?}"
    );
    assert_eq!((both.mode, both.held.len()), (Mode::ReleaseGpu, 1));
    // A job that was to be finished is not, for a game.
    let both = decide(&observe(pause(true), None), NOW);
    assert!(matches!(both.reason, Some(Reason::Rule { .. })), "{both:?}");
    assert_eq!(both.mode, Mode::ReleaseGpu);
    // The end of a snooze is no reason to work while the game runs.
    let over = decide(&observe(pause(false), None), NOW + MINUTE);
    assert!(matches!(over.reason, Some(Reason::Rule { .. })), "{over:?}");
    assert_eq!(over.mode, Mode::ReleaseGpu);
}

#[test]
fn presets_are_told_from_rules_and_keep_what_they_are_not_about() {
    use Preset::{Always, Away, Nights, NotPlaying};
    assert_eq!(Rules::default().preset(), Some(NotPlaying));
    let mine = Rules {
        programs: vec!["blender".to_owned()],
        battery: false,
        battery_percent: Some(20),
        gpu: GpuRules {
            duty_percent: 50,
            ..GpuRules::default()
        },
        away: super::Away {
            on: false,
            minutes: 3,
        },
        ..Rules::default()
    };
    for preset in [NotPlaying, Away, Nights, Always] {
        let rules = mine.clone().with(preset);
        assert_eq!(rules.preset(), Some(preset));
        assert_eq!((&rules.programs, rules.away.minutes), (&mine.programs, 3));
        assert_eq!((rules.gpu, rules.battery_percent), (mine.gpu, Some(20)));
    }
    let own = Rules {
        full_screen: false,
        ..Rules::default()
    };
    assert_eq!(own.preset(), None);
}

/// One thing that changes.
#[derive(Debug, Clone)]
enum Change {
    Game(bool),
    Film(bool),
    Battery(bool),
    There(bool),
    Memory(u64),
    Sleep(bool),
}

impl Change {
    fn apply(&self, surroundings: &mut Surroundings, now_ms: i64) {
        let named = |on: bool, name| seen(if on { name } else { &[] });
        match self {
            Self::Game(on) => surroundings.games = named(*on, &["Hades"]),
            Self::Film(on) => surroundings.full_screen = named(*on, &["mpv"]),
            Self::Battery(on) => {
                surroundings.power = Some(Power {
                    on_battery: *on,
                    battery_percent: None,
                });
            }
            Self::There(true) => surroundings.input = Some(Input::Recent),
            Self::There(false) => {
                surroundings.input = Some(Input::Quiet {
                    since_ms: now_ms - QUIET_AFTER_MS,
                });
            }
            Self::Memory(bytes) => surroundings.available_memory_bytes = Some(*bytes),
            Self::Sleep(on) => surroundings.going_to_sleep = Some(*on),
        }
    }
}

/// Plays changes, in their order of time, and decides when something changes or was to be asked
/// again; no rule may ever be broken in between.
fn play(rules: &Rules, changes: &[(i64, Change)], end_ms: i64) -> Outcome {
    let mut outcome = Outcome::default();
    let mut surroundings = Surroundings::default();
    let mut held = Vec::new();
    let mut now_ms = NOW;
    let mut changes = changes.iter().peekable();
    let mut worked = false;
    while now_ms < end_ms {
        while let Some((_, change)) = changes.next_if(|(at, _)| *at <= now_ms) {
            change.apply(&mut surroundings, now_ms);
        }
        let guest = Guest {
            surroundings: surroundings.clone(),
            held: std::mem::take(&mut held),
            ..Guest::default()
        };
        let decision = decide(rules, &guest, now_ms);
        let works = decision.mode == Mode::Run;
        let says_no = |at| {
            Rule::ALL
                .iter()
                .any(|rule| rule.says(rules, &guest, at).is_some())
        };
        assert!(!works || !says_no(now_ms), "{now_ms}: {decision:?}");
        if works && !worked {
            outcome.starts.push(now_ms);
        }
        worked = works;
        let next_change = changes.peek().map_or(end_ms, |(at, _)| *at);
        let next_ms = decision
            .ask_again_ms
            .map_or(next_change, |at| at.min(next_change))
            .min(end_ms);
        assert!(next_ms > now_ms, "time goes on: {decision:?}");
        // Nothing changes of itself without having been asked for.
        assert!(!works || !says_no(next_ms - 1), "{next_ms}: {decision:?}");
        if !says_no(now_ms) {
            outcome.allowed_ms += next_ms - now_ms;
        }
        if works {
            outcome.worked_ms += next_ms - now_ms;
        }
        held = decision.held;
        now_ms = next_ms;
    }
    outcome
}

/// Work and games, films and nights, a plug that is pulled now and then, memory that runs short.
#[test]
fn a_week_as_people_live_it() {
    let mut chance = Chance(7);
    let mut changes = Vec::new();
    for day in 0..7 {
        let at = |hour: i64, minute: i64| NOW + ((day * 24 + hour) * 60 + minute) * MINUTE;
        // At the machine from 9 to 12 and from 18 to 23, with pauses of half a minute to an hour.
        for (from, to) in [(at(9, 0), at(12, 0)), (at(18, 0), at(23, 0))] {
            let mut time = from + chance.below(10 * MINUTE);
            while time < to {
                changes.push((time, Change::There(true)));
                time += QUIET_AFTER_MS + chance.below(20 * MINUTE);
                changes.push((time, Change::There(false)));
                time += chance.below(60 * MINUTE).max(1);
            }
        }
        let stretch = |chance: &mut Chance, from: i64, most: i64, make: fn(bool) -> Change| {
            let begins = from + chance.below(30 * MINUTE);
            let ends = begins + MINUTE + chance.below(most * MINUTE);
            [(begins, make(true)), (ends, make(false))]
        };
        changes.extend(stretch(&mut chance, at(19, 0), 120, Change::Game));
        // A game that crashes and is started again at once.
        changes.extend([
            (at(21, 40), Change::Game(true)),
            (at(21, 41), Change::Game(false)),
        ]);
        changes.push((at(21, 41) + 5_000, Change::Game(true)));
        changes.push((at(21, 55), Change::Game(false)));
        changes.extend(stretch(&mut chance, at(22, 0), 90, Change::Film));
        changes.extend(stretch(&mut chance, at(10, 0), 60, Change::Battery));
        changes.push((at(14, 0), Change::Memory(1 << 29)));
        changes.push((at(14, 10), Change::Memory(8 << 30)));
        changes.push((at(2, 0), Change::Sleep(true)));
        changes.push((at(6, 0), Change::Sleep(false)));
    }
    changes.sort_by_key(|(at, _)| *at);
    let end = NOW + 7 * 24 * 60 * MINUTE;
    for preset in [Preset::NotPlaying, Preset::Away, Preset::Always] {
        let outcome = play(&Rules::default().with(preset), &changes, end);
        assert!(starts_are_apart(&outcome), "{preset:?}: {outcome:?}");
        let lost = 1.0 - outcome.worked_ms as f64 / outcome.allowed_ms as f64;
        assert!(lost <= 0.02, "{preset:?}: {lost}");
        assert!(
            outcome.allowed_ms > 60 * 60 * MINUTE,
            "{preset:?}: {outcome:?}"
        );
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<bool>().prop_map(Change::Game),
        any::<bool>().prop_map(Change::Film),
        any::<bool>().prop_map(Change::Battery),
        any::<bool>().prop_map(Change::There),
        (0_u64..4 << 30).prop_map(Change::Memory),
        any::<bool>().prop_map(Change::Sleep),
    ]
}

proptest! {
    /// [`play`] holds every decision against every rule.
    #[test]
    fn no_rule_is_ever_broken(
        steps in proptest::collection::vec((1_i64..40 * MINUTE, any_change()), 1..60),
        away_on: bool,
        minutes in 1_u32..30,
    ) {
        let rules = Rules {
            away: Away { on: away_on, minutes },
            ..Rules::default()
        };
        let mut at = NOW;
        let changes: Vec<_> = steps
            .into_iter()
            .map(|(wait, change)| {
                at += wait;
                (at, change)
            })
            .collect();
        play(&rules, &changes, at + 60 * MINUTE);
    }
}
