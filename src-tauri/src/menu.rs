//! The tray's menu as data: a pure function of the state.

use infera_node::app::api::{AppState, Obstacle};
use infera_node::state::Summary;
use infera_protocol::node_api::WorkKind;
use jiff::Zoned;
use serde_json::{Value, json};

use crate::words::Language;

/// A longer sentence is cut, so that the menu stays a menu.
const LONGEST_SENTENCE: usize = 80;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MenuItem {
    /// Says something, does nothing.
    Label(String),
    Button(Action, String),
    Submenu(String, Vec<(Action, String)>),
    Separator,
}

/// What a click does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Resume,
    Pause,
    WorkAnyway,
    Snooze15Minutes,
    Snooze1Hour,
    Snooze4Hours,
    SnoozeUntilTomorrow,
    FinishThenPause,
    Open,
    Update,
    Quit,
}

impl Action {
    const ALL: [Self; 11] = [
        Self::Resume,
        Self::Pause,
        Self::WorkAnyway,
        Self::Snooze15Minutes,
        Self::Snooze1Hour,
        Self::Snooze4Hours,
        Self::SnoozeUntilTomorrow,
        Self::FinishThenPause,
        Self::Open,
        Self::Update,
        Self::Quit,
    ];

    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Pause => "pause",
            Self::WorkAnyway => "work-anyway",
            Self::Snooze15Minutes => "snooze-15m",
            Self::Snooze1Hour => "snooze-1h",
            Self::Snooze4Hours => "snooze-4h",
            Self::SnoozeUntilTomorrow => "snooze-tomorrow",
            Self::FinishThenPause => "finish-then-pause",
            Self::Open => "open",
            Self::Update => "update",
            Self::Quit => "quit",
        }
    }

    pub(crate) fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.id() == id)
    }

    /// What it asks of the program; none if it is about the window or the whole program.
    pub(crate) fn command(self) -> Option<(&'static str, Value)> {
        let pause = |request| Some(("pause", request));
        match self {
            Self::Resume => Some(("resume", Value::Null)),
            Self::Pause => pause(json!({})),
            Self::WorkAnyway => Some(("work_anyway", json!({ "seconds": 60 * 60 }))),
            Self::Snooze15Minutes => pause(json!({ "seconds": 15 * 60 })),
            Self::Snooze1Hour => pause(json!({ "seconds": 60 * 60 })),
            Self::Snooze4Hours => pause(json!({ "seconds": 4 * 60 * 60 })),
            Self::SnoozeUntilTomorrow => pause(json!({ "until_tomorrow": true })),
            Self::FinishThenPause => pause(json!({ "finish_first": true })),
            Self::Open | Self::Update | Self::Quit => None,
        }
    }
}

/// The whole menu. `update` is the version that could be installed.
pub(crate) fn menu(state: &AppState, update: Option<&str>, now: &Zoned) -> Vec<MenuItem> {
    let language = Language::of(state);
    let button = |action, english: &str, german: &str| {
        MenuItem::Button(action, language.pick(english, german).to_owned())
    };
    let mut items = vec![MenuItem::Label(shorten(language.sentence(state, now)))];
    if state.setup.agreed && state.node.is_some() {
        items.push(MenuItem::Separator);
        let (paused, finishing) = pause(state);
        if paused {
            items.push(button(Action::Resume, "Resume", "Fortsetzen"));
        }
        if matches!(state.state.summary, Summary::Rule { .. }) {
            items.push(button(
                Action::WorkAnyway,
                "Work anyway for an hour",
                "Trotzdem eine Stunde arbeiten",
            ));
        }
        if !paused || finishing {
            items.push(button(Action::Pause, "Pause", "Pause"));
        }
        items.push(snooze(language));
        if has_job(state) && !paused {
            items.push(button(
                Action::FinishThenPause,
                "Finish this job, then pause",
                "Auftrag beenden, dann Pause",
            ));
        }
        items.push(MenuItem::Separator);
        items.push(MenuItem::Label(
            language.points_today(state.today.micro_points),
        ));
    }
    items.push(MenuItem::Separator);
    items.push(if state.setup.finished {
        button(Action::Open, "Open Infera Node", "Infera Node öffnen")
    } else {
        button(Action::Open, "Set up Infera Node", "Infera Node einrichten")
    });
    if let Some(version) = update {
        items.push(MenuItem::Button(
            Action::Update,
            language.pick(
                format!("Update to {version}"),
                format!("Auf {version} aktualisieren"),
            ),
        ));
    }
    items.push(button(Action::Quit, "Quit", "Beenden"));
    items
}

fn snooze(language: Language) -> MenuItem {
    let items = [
        (Action::Snooze15Minutes, "15 minutes", "15 Minuten"),
        (Action::Snooze1Hour, "1 hour", "1 Stunde"),
        (Action::Snooze4Hours, "4 hours", "4 Stunden"),
        (Action::SnoozeUntilTomorrow, "Until tomorrow", "Bis morgen"),
    ];
    MenuItem::Submenu(
        language.pick("Snooze", "Später weiter").to_owned(),
        items
            .map(|(action, english, german)| (action, language.pick(english, german).to_owned()))
            .into(),
    )
}

/// Whether the person has paused the node, and whether a job is still being finished. The state
/// may speak of something else that weighs more.
fn pause(state: &AppState) -> (bool, bool) {
    let finishing = matches!(
        state.state.summary,
        Summary::Paused {
            finishing: true,
            ..
        }
    );
    let paused = matches!(state.state.summary, Summary::Paused { .. })
        || state
            .obstacles
            .iter()
            .any(|obstacle| matches!(obstacle, Obstacle::Paused { .. }));
    (paused, finishing)
}

fn has_job(state: &AppState) -> bool {
    state
        .node
        .iter()
        .flat_map(|node| &node.work)
        .any(|work| work.kind == WorkKind::Job)
}

fn shorten(sentence: String) -> String {
    match sentence.char_indices().nth(LONGEST_SENTENCE) {
        None => sentence,
        Some((end, _)) => {
            let cut = sentence[..end].rfind(' ').unwrap_or(end);
            format!("{}…", &sentence[..cut])
        }
    }
}

#[cfg(test)]
mod tests {
    use infera_node::governor::rules::Why;
    use infera_node::state::StartFault;

    use super::*;
    use crate::fixtures;

    /// One line for each item, as it would look.
    fn drawn(state: &AppState) -> Vec<String> {
        let lines = menu(state, None, &fixtures::now()).into_iter();
        lines
            .map(|item| match item {
                MenuItem::Label(text) => format!("({text})"),
                MenuItem::Button(_, text) => text,
                MenuItem::Submenu(text, items) => {
                    let items: Vec<_> = items.into_iter().map(|(_, text)| text).collect();
                    format!("{text} > {}", items.join(", "))
                }
                MenuItem::Separator => "-".to_owned(),
            })
            .collect()
    }

    const SNOOZE: &str = "Snooze > 15 minutes, 1 hour, 4 hours, Until tomorrow";

    fn paused(finishing: bool) -> AppState {
        let mut state = fixtures::state(Summary::Paused {
            until_ms: None,
            finishing,
        });
        state.state.sentence = "Paused by you".to_owned();
        state
    }

    #[test]
    fn while_it_waits() {
        let mut state = fixtures::state(Summary::WaitingForJobs);
        state.state.sentence = "Waiting for jobs".to_owned();
        assert_eq!(
            drawn(&state),
            [
                "(Waiting for jobs)",
                "-",
                "Pause",
                SNOOZE,
                "-",
                "(128 points today)",
                "-",
                "Open Infera Node",
                "Quit",
            ]
        );
    }

    #[test]
    fn while_a_job_runs_it_may_be_finished_first() {
        let mut state = fixtures::working(1, 0);
        state.state.sentence = "Working on a job: 42 tokens/s".to_owned();
        assert_eq!(
            drawn(&state)[..6],
            [
                "(Working on a job: 42 tokens/s)",
                "-",
                "Pause",
                SNOOZE,
                "Finish this job, then pause",
                "-",
            ]
        );
    }

    #[test]
    fn a_check_alone_is_no_job_to_finish() {
        let lines = drawn(&fixtures::working(0, 1));
        assert!(!lines.iter().any(|line| line.starts_with("Finish")));
    }

    #[test]
    fn a_pause_is_ended_or_given_an_end() {
        assert_eq!(
            drawn(&paused(false))[..5],
            ["(Paused by you)", "-", "Resume", SNOOZE, "-"]
        );
    }

    #[test]
    fn a_pause_that_finishes_a_job_can_stop_at_once() {
        assert_eq!(
            drawn(&paused(true))[1..6],
            ["-", "Resume", "Pause", SNOOZE, "-"]
        );
    }

    #[test]
    fn a_rule_can_be_set_aside() {
        let mut state = fixtures::state(Summary::Rule {
            why: Why::Game {
                name: "Hades".to_owned(),
            },
            goes_on_ms: None,
        });
        let sentence = "(Paused: Hades is running. Goes on when it closes)";
        assert_eq!(
            drawn(&state)[..4],
            [sentence, "-", "Work anyway for an hour", "Pause"]
        );
        state.settings.language = Some("de".to_owned());
        assert_eq!(drawn(&state)[2], "Trotzdem eine Stunde arbeiten");
    }

    #[test]
    fn a_pause_behind_something_heavier_can_still_be_ended() {
        let mut state = fixtures::state(Summary::OwnUse);
        state.obstacles = vec![Obstacle::OwnUse, Obstacle::Paused { until_ms: None }];
        assert_eq!(drawn(&state)[2], "Resume");
    }

    #[test]
    fn before_the_person_agrees_there_is_nothing_to_pause() {
        let mut state = fixtures::state(Summary::NotAgreed);
        state.setup.agreed = false;
        state.setup.finished = false;
        assert_eq!(
            drawn(&state),
            [
                "(Nothing is shared yet: you have not agreed)",
                "-",
                "Set up Infera Node",
                "Quit"
            ]
        );
    }

    #[test]
    fn a_node_that_cannot_start_has_nothing_to_pause() {
        let mut state = fixtures::state(Summary::CannotStart {
            fault: StartFault::KeychainLocked,
        });
        state.node = None;
        assert_eq!(
            drawn(&state),
            [
                "(The keychain with this node’s key is locked)",
                "-",
                "Open Infera Node",
                "Quit"
            ]
        );
    }

    #[test]
    fn in_german() {
        let mut state = fixtures::working(1, 0);
        state.settings.language = Some("de".to_owned());
        assert_eq!(
            drawn(&state),
            [
                "(Arbeitet an einem Auftrag: 42 Token/s)",
                "-",
                "Pause",
                "Später weiter > 15 Minuten, 1 Stunde, 4 Stunden, Bis morgen",
                "Auftrag beenden, dann Pause",
                "-",
                "(Heute 128 Punkte)",
                "-",
                "Infera Node öffnen",
                "Beenden",
            ]
        );
    }

    #[test]
    fn an_update_waits_above_quit() {
        let state = fixtures::state(Summary::WaitingForJobs);
        let items = menu(&state, Some("0.2.0"), &fixtures::now());
        assert_eq!(
            items[items.len() - 2],
            MenuItem::Button(Action::Update, "Update to 0.2.0".to_owned())
        );
    }

    #[test]
    fn a_long_sentence_is_cut_between_words() {
        let text = shorten("word ".repeat(30));
        assert!(text.chars().count() <= LONGEST_SENTENCE, "{text}");
        assert!(text.ends_with("word…"), "{text}");
        assert_eq!(shorten("äöü".to_owned()), "äöü");
    }

    #[test]
    fn every_action_is_found_by_its_id() {
        for action in Action::ALL {
            assert_eq!(Action::from_id(action.id()), Some(action));
        }
        assert_eq!(Action::from_id("something else"), None);
    }

    #[test]
    fn what_a_click_asks() {
        let asked = |action: Action| {
            action
                .command()
                .map(|(name, body)| format!("{name} {body}"))
        };
        assert_eq!(asked(Action::Resume).unwrap(), "resume null");
        assert_eq!(asked(Action::Pause).unwrap(), "pause {}");
        assert_eq!(
            asked(Action::Snooze15Minutes).unwrap(),
            r#"pause {"seconds":900}"#
        );
        assert_eq!(
            asked(Action::SnoozeUntilTomorrow).unwrap(),
            r#"pause {"until_tomorrow":true}"#
        );
        assert_eq!(
            asked(Action::FinishThenPause).unwrap(),
            r#"pause {"finish_first":true}"#
        );
        assert_eq!(asked(Action::Quit), None);
    }
}
