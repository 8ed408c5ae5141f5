//! Which notification to show, if any: rarely one.

use std::collections::HashMap;
use std::time::Duration;

use infera_node::app::api::AppState;
use infera_node::library::DownloadState;
use infera_node::state::{StateKind, Summary};

use crate::words::Language;

/// A state that goes away by itself within this time is nobody's business.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// In micro-points.
const MILESTONE: i64 = 1_000_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notification {
    pub(crate) title: String,
    pub(crate) text: String,
}

/// What was seen before. It starts empty: what is there when the program starts is no news.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Since when the node needs its owner, for what, and whether that was said.
    need: Option<Need>,
    /// By id; whether it had failed.
    downloads: HashMap<String, Seen>,
    /// Confirmed micro-points at which balancer.
    confirmed: Option<(String, i64)>,
}

#[derive(Debug)]
struct Need {
    since_ms: i64,
    what: std::mem::Discriminant<Summary>,
    said: bool,
}

#[derive(Debug)]
struct Seen {
    name: String,
    failed: bool,
}

impl Memory {
    /// Takes in a state. Everything is remembered, also while notifications are off, so that
    /// switching them on tells no old news.
    pub(crate) fn take_in(&mut self, state: &AppState, now_ms: i64) -> Vec<Notification> {
        let mut news = Vec::new();
        let language = Language::of(state);
        news.extend(self.need(state, language, now_ms));
        news.extend(self.downloads(state, language));
        news.extend(self.milestone(state, language));
        if !state.settings.notifications {
            news.clear();
        }
        news
    }

    /// How long until time alone makes news.
    pub(crate) fn wait(&self, now_ms: i64) -> Option<Duration> {
        let need = self.need.as_ref().filter(|need| !need.said)?;
        let elapsed = Duration::from_millis((now_ms - need.since_ms).max(0) as u64);
        Some(PATIENCE.saturating_sub(elapsed))
    }

    fn need(&mut self, state: &AppState, language: Language, now_ms: i64) -> Option<Notification> {
        let summary = &state.state.summary;
        // Who has not agreed, or not finished the first start, knows what is to be done.
        if state.state.kind != StateKind::NeedsYou
            || !state.setup.finished
            || *summary == Summary::NotAgreed
        {
            self.need = None;
            return None;
        }
        let what = std::mem::discriminant(summary);
        let need = match &mut self.need {
            Some(need) if need.what == what => need,
            other => other.insert(Need {
                since_ms: now_ms,
                what,
                said: false,
            }),
        };
        if need.said || now_ms - need.since_ms < PATIENCE.as_millis() as i64 {
            return None;
        }
        need.said = true;
        let now = jiff::Zoned::now();
        Some(Notification {
            title: language
                .pick("Infera Node needs you", "Infera Node braucht Sie")
                .to_owned(),
            text: match (&state.state.remedy, language) {
                (Some(remedy), Language::English) => {
                    format!("{}. {remedy}.", language.sentence(state, &now))
                }
                _ => language.sentence(state, &now),
            },
        })
    }

    fn downloads(&mut self, state: &AppState, language: Language) -> Vec<Notification> {
        let mut before = std::mem::take(&mut self.downloads);
        let mut news = Vec::new();
        for download in &state.downloads {
            let seen = before.remove(&download.id);
            let fault = match &download.state {
                DownloadState::Failed { code, .. } => Some(*code),
                _ => None,
            };
            if let Some(code) = fault
                && seen.is_some_and(|seen| !seen.failed)
            {
                news.push(Notification {
                    title: language.pick(
                        format!("{} was not downloaded", download.name),
                        format!("{} wurde nicht geladen", download.name),
                    ),
                    text: language.download_fault(code),
                });
            }
            let seen = Seen {
                name: download.name.clone(),
                failed: fault.is_some(),
            };
            self.downloads.insert(download.id.clone(), seen);
        }
        // One that is gone was finished if its model is here, else it was cancelled.
        for (id, seen) in before {
            let is_here = state
                .installed
                .iter()
                .any(|model| model.catalogue_id.as_ref() == Some(&id) || model.name == seen.name);
            if is_here {
                news.push(Notification {
                    title: language.pick(
                        format!("{} is downloaded", seen.name),
                        format!("{} ist geladen", seen.name),
                    ),
                    text: language
                        .pick("It is ready to use.", "Das Modell ist bereit.")
                        .to_owned(),
                });
            }
        }
        news
    }

    fn milestone(&mut self, state: &AppState, language: Language) -> Option<Notification> {
        let node = state.node.as_ref()?;
        let points = node.points?.confirmed;
        let before = self
            .confirmed
            .replace((node.balancer.clone(), points))
            .filter(|(balancer, _)| *balancer == node.balancer)?
            .1;
        if before <= 0 && points > 0 {
            return Some(Notification {
                title: language
                    .pick("Your first verified job", "Ihr erster geprüfter Auftrag")
                    .to_owned(),
                text: language.pick(
                    format!("It earned {} points.", language.points(points)),
                    format!("Er brachte {} Punkte.", language.points(points)),
                ),
            });
        }
        let reached = points / MILESTONE;
        (reached > before / MILESTONE).then(|| {
            let reached = language.points(reached * MILESTONE);
            Notification {
                title: language.pick(format!("{reached} points"), format!("{reached} Punkte")),
                text: language
                    .pick(
                        "That is what your GPU has earned so far.",
                        "So viel hat Ihre GPU bisher verdient.",
                    )
                    .to_owned(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use infera_node::state::StartFault;

    use infera_node::library::{Download, DownloadFault, Fit, InstalledModel};

    use super::*;
    use crate::fixtures::{state, with_points};

    fn titles(news: Vec<Notification>) -> Vec<String> {
        news.into_iter().map(|news| news.title).collect()
    }

    fn download(download_state: DownloadState) -> Download {
        Download {
            id: "smollm2".to_owned(),
            name: "SmolLM2".to_owned(),
            url: "https://models.example/smollm2.gguf".to_owned(),
            done_bytes: 1,
            total_bytes: Some(2),
            bytes_per_second: None,
            seconds_left: None,
            state: download_state,
        }
    }

    fn failed() -> DownloadState {
        DownloadState::Failed {
            code: DownloadFault::WrongHash,
            message: "What came is not what the catalogue promises".to_owned(),
        }
    }

    fn installed() -> InstalledModel {
        InstalledModel {
            path: "/models/smollm2.gguf".to_owned(),
            name: "smollm2".to_owned(),
            architecture: "llama".to_owned(),
            quantisation: "Q4_1".to_owned(),
            bytes: 2,
            context_tokens: 2048,
            licence: None,
            id: None,
            catalogue_id: Some("smollm2".to_owned()),
            added_ms: 0,
            fit: Fit::Unknown,
            in_use: false,
            price: None,
            fault: None,
        }
    }

    #[test]
    fn who_is_needed_is_told_once_after_a_minute() {
        let mut memory = Memory::default();
        let needy = state(Summary::NoModel);
        assert_eq!(memory.take_in(&needy, 0), []);
        assert_eq!(memory.wait(10_000), Some(Duration::from_secs(50)));
        assert_eq!(memory.take_in(&needy, 59_999), []);
        assert_eq!(
            titles(memory.take_in(&needy, 60_000)),
            ["Infera Node needs you"]
        );
        assert_eq!(memory.wait(60_000), None);
        assert_eq!(memory.take_in(&needy, 999_999), []);
    }

    #[test]
    fn what_goes_away_by_itself_is_not_told() {
        let mut memory = Memory::default();
        memory.take_in(&state(Summary::NoModel), 0);
        memory.take_in(&state(Summary::WaitingForJobs), 30_000);
        assert_eq!(memory.wait(30_000), None);
        assert_eq!(memory.take_in(&state(Summary::NoModel), 61_000), []);
    }

    #[test]
    fn another_need_is_told_anew() {
        let mut memory = Memory::default();
        memory.take_in(&state(Summary::NoModel), 0);
        assert_eq!(memory.take_in(&state(Summary::NoModel), 60_000).len(), 1);
        let other = state(Summary::CannotStart {
            fault: StartFault::KeychainLocked,
        });
        assert_eq!(memory.take_in(&other, 61_000), []);
        assert_eq!(memory.take_in(&other, 121_000).len(), 1);
    }

    #[test]
    fn the_first_start_is_left_in_peace() {
        let mut memory = Memory::default();
        let mut first = state(Summary::NoModel);
        first.setup.finished = false;
        for summary in [first, state(Summary::NotAgreed)] {
            memory.take_in(&summary, 0);
            assert_eq!(memory.take_in(&summary, 100_000), []);
        }
    }

    #[test]
    fn who_wants_no_notifications_gets_none_and_no_old_ones_later() {
        let mut memory = Memory::default();
        let mut needy = state(Summary::NoModel);
        needy.settings.notifications = false;
        memory.take_in(&needy, 0);
        assert_eq!(memory.take_in(&needy, 60_000), []);
        needy.settings.notifications = true;
        assert_eq!(memory.take_in(&needy, 70_000), []);
    }

    #[test]
    fn a_download_ends_in_one_of_three_ways() {
        let running = || {
            let mut running = state(Summary::WaitingForJobs);
            running.downloads = vec![download(DownloadState::Running)];
            let mut memory = Memory::default();
            assert_eq!(memory.take_in(&running, 0), []);
            memory
        };
        let mut done = state(Summary::WaitingForJobs);
        done.installed = vec![installed()];
        assert_eq!(
            titles(running().take_in(&done, 1)),
            ["SmolLM2 is downloaded"]
        );

        let mut broken = state(Summary::WaitingForJobs);
        broken.downloads = vec![download(failed())];
        let mut memory = running();
        assert_eq!(
            titles(memory.take_in(&broken, 1)),
            ["SmolLM2 was not downloaded"]
        );
        assert_eq!(memory.take_in(&broken, 2), []);

        let cancelled = state(Summary::WaitingForJobs);
        assert_eq!(running().take_in(&cancelled, 1), []);
    }

    #[test]
    fn what_had_failed_before_the_start_is_no_news() {
        let mut broken = state(Summary::WaitingForJobs);
        broken.downloads = vec![download(failed())];
        assert_eq!(Memory::default().take_in(&broken, 0), []);
    }

    #[test]
    fn milestones_are_the_first_job_and_every_thousand_points() {
        let mut memory = Memory::default();
        let mut at = |points: i64| {
            let state = with_points(state(Summary::WaitingForJobs), points * 1_000_000);
            titles(memory.take_in(&state, 0))
        };
        assert!(at(0).is_empty());
        assert_eq!(at(4), ["Your first verified job"]);
        assert!(at(999).is_empty());
        assert_eq!(at(1_002), ["1,000 points"]);
        assert!(at(1_003).is_empty());
        assert_eq!(at(3_500), ["3,000 points"]);
        assert!(at(900).is_empty(), "points can be taken away");
    }

    #[test]
    fn points_that_were_there_are_no_milestone() {
        let mut memory = Memory::default();
        let rich = with_points(state(Summary::WaitingForJobs), 5_000_000_000);
        assert_eq!(memory.take_in(&rich, 0), []);
        let mut elsewhere = rich.clone();
        elsewhere.node.as_mut().unwrap().balancer = "https://other.example".to_owned();
        elsewhere
            .node
            .as_mut()
            .unwrap()
            .points
            .as_mut()
            .unwrap()
            .confirmed = 9_000_000_000;
        assert_eq!(memory.take_in(&elsewhere, 0), []);
    }
}
