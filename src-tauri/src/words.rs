//! What the tray, dialogs and notifications say: in the window's own words where it says the same.

use std::collections::HashMap;
use std::sync::LazyLock;

use infera_node::app::api::AppState;
use infera_node::governor::rules::Why;
use infera_node::library::DownloadFault;
use infera_node::state::{StartFault, Summary, TurnedAway, rate};
use infera_protocol::requirements::{
    Amount, Gpu, GpuKind, Requirement, RequirementId, memory_size,
};
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

/// A text of the window's; for one and for many where that differs.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Plural { one: String, other: String },
}

/// By language and key. The window's tests write the file (`cargo xtask bindings`).
static WORDS: LazyLock<HashMap<String, HashMap<String, Text>>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../words.json")).expect("a test reads the same file")
});

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    German,
}

/// A question or a message in a window of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dialog {
    pub(crate) title: &'static str,
    pub(crate) text: String,
    /// Does what the person asked for.
    pub(crate) yes: &'static str,
    /// Changes nothing; none where there is nothing to decide.
    pub(crate) no: Option<&'static str>,
}

/// The settings could not be read, so it is in English.
pub(crate) fn cannot_start(message: &str) -> Dialog {
    Dialog {
        title: "Infera Node cannot start",
        text: message.to_owned(),
        yes: "Close",
        no: None,
    }
}

/// Microsoft's own installer of the web view.
pub(crate) const WEB_VIEW_SOURCE: &str = "https://go.microsoft.com/fwlink/p/?LinkId=2124703";

/// Why a click on the tray opens nothing.
pub(crate) fn no_window(language: Language, lacks_web_view: bool, fault: &str) -> Dialog {
    let node = language.pick(
        "The node works all the same: pause and quit it from the tray.",
        "Der Knoten arbeitet trotzdem: Pausieren und beenden lässt er sich im Infobereich.",
    );
    let (why, yes, no) = if lacks_web_view {
        (
            language
                .pick(
                    "The window is drawn by Microsoft Edge WebView2, which this system lacks. Install it, then open the window again.",
                    "Das Fenster zeichnet Microsoft Edge WebView2, das auf diesem System fehlt. Installieren Sie es und öffnen Sie dann das Fenster noch einmal.",
                )
                .to_owned(),
            language.pick("Get WebView2", "WebView2 holen"),
            Some(language.pick("Close", "Schließen")),
        )
    } else {
        let says = language.pick("The system says", "Das System meldet");
        (
            format!("{says}: {fault}"),
            language.pick("Close", "Schließen"),
            None,
        )
    };
    Dialog {
        title: language.pick(
            "The window cannot be shown",
            "Das Fenster kann nicht gezeigt werden",
        ),
        text: format!("{why}\n\n{node}"),
        yes,
        no,
    }
}

impl Language {
    /// The person's choice, else the system's, else English.
    pub(crate) fn of(state: &AppState) -> Self {
        match &state.settings.language {
            Some(chosen) => Self::named(chosen),
            None => sys_locale::get_locale().map_or(Self::English, |tag| Self::named(&tag)),
        }
    }

    fn named(tag: &str) -> Self {
        match tag.split(['-', '_']).next() {
            Some("de") => Self::German,
            _ => Self::English,
        }
    }

    /// One text in two languages, side by side so that they stay alike.
    pub(crate) fn pick<T>(self, english: T, german: T) -> T {
        match self {
            Self::English => english,
            Self::German => german,
        }
    }

    /// `1,284 points today`.
    pub(crate) fn points_today(self, micro_points: i64) -> String {
        let points = self.points(micro_points);
        match self {
            Self::English if points == "1" => "1 point today".to_owned(),
            Self::English => format!("{points} points today"),
            Self::German if points == "1" => "Heute 1 Punkt".to_owned(),
            Self::German => format!("Heute {points} Punkte"),
        }
    }

    /// As the window writes them: whole from a hundred on, one decimal below. Something earned is
    /// never nothing.
    pub(crate) fn points(self, micro_points: i64) -> String {
        const POINT: u64 = 1_000_000;
        let amount = micro_points.unsigned_abs();
        let sign = if micro_points < 0 { "-" } else { "" };
        if amount != 0 && amount < POINT / 20 {
            let digits = 6 - amount.ilog10() as usize;
            let text = format!("{sign}{:.digits$}", amount as f64 / POINT as f64);
            return self.numeral(text.trim_end_matches('0'));
        }
        let tenths = (amount + POINT / 20) / (POINT / 10);
        if tenths >= 1000 || amount.is_multiple_of(POINT) {
            return format!("{sign}{}", self.whole((amount + POINT / 2) / POINT));
        }
        self.numeral(&format!("{sign}{}.{}", tenths / 10, tenths % 10))
    }

    fn whole(self, number: u64) -> String {
        let digits = number.to_string();
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(self.pick(',', '.'));
            }
            text.push(digit);
        }
        text
    }

    /// State and reason, without a countdown, which would be wrong a second later.
    pub(crate) fn sentence(self, state: &AppState, now: &Zoned) -> String {
        let say = |key: &str| self.say(key, &[]);
        match &state.state.summary {
            Summary::ReadingHardware => say("summary.reading_hardware"),
            Summary::CannotStart { fault } => say(match fault {
                StartFault::KeychainLocked => "start.keychain_locked",
                StartFault::KeychainMissing => "start.keychain_missing",
                StartFault::KeychainSilent => "start.keychain_silent",
                StartFault::Other { .. } => "start.other",
            }),
            Summary::Outdated { .. } => say("summary.outdated"),
            Summary::NotAgreed => say("summary.not_agreed"),
            Summary::NoBalancer => say("summary.no_balancer"),
            Summary::Closing => say("summary.closing"),
            Summary::Paused {
                until_ms,
                finishing,
            } => match (until_ms, finishing) {
                (None, false) => say("summary.paused"),
                (None, true) => say("summary.finishing"),
                (Some(until_ms), finishing) => {
                    let key = if *finishing {
                        "summary.finishing_until"
                    } else {
                        "summary.paused_until"
                    };
                    self.say(key, &[("time", &self.moment(*until_ms, now))])
                }
            },
            Summary::OwnUse => say("summary.own_use"),
            Summary::Rule { why, goes_on_ms } => self.rule(why, goes_on_ms.is_some(), now),
            Summary::StorageFault { .. } => say("summary.storage_fault"),
            Summary::ModelsBroken { fault } => {
                let reason = say(&format!("model_fault.{}", word(fault.cause)));
                self.say("summary.models_broken", &[("reason", &reason)])
            }
            Summary::LowDisk { free_bytes, .. } => {
                let free = self.numeral(&Amount::Disk { bytes: *free_bytes }.to_string());
                self.say("summary.low_disk", &[("free", &free)])
            }
            Summary::RequirementFailed {
                requirement,
                finishing,
            } => {
                let sentence = self.shortfall(requirement);
                if *finishing {
                    self.say("summary.after_job", &[("sentence", &sentence)])
                } else {
                    sentence
                }
            }
            Summary::NoModel => say("summary.no_model"),
            Summary::Unreachable { balancer, .. } => {
                self.say("summary.unreachable_now", &[("balancer", balancer)])
            }
            Summary::TurnedAway { why } => say(match why {
                TurnedAway::IdentityInUse => "summary.turned_away.identity_in_use",
                TurnedAway::TooMuch => "summary.turned_away.too_much",
                TurnedAway::InvitationNeeded => "summary.turned_away.invitation_needed",
            }),
            Summary::Loading { model, percent } => self.say(
                "summary.loading",
                &[("model", model), ("percent", &percent.to_string())],
            ),
            Summary::Tuning { model, done, total } => self.say(
                "summary.tuning",
                &[
                    ("model", model),
                    ("done", &done.to_string()),
                    ("total", &total.to_string()),
                ],
            ),
            Summary::Restarting { .. } => say("summary.restarting_now"),
            Summary::NotServed { models } => {
                self.say("summary.not_served", &[("models", &models.join(", "))])
            }
            Summary::Connecting => say("summary.connecting"),
            Summary::WaitingForJobs => say("summary.waiting_for_jobs"),
            Summary::WaitingForAudits => say("summary.waiting_for_audits"),
            Summary::Working {
                jobs: 0, audits, ..
            } => self.count("summary.audits", *audits),
            Summary::Working {
                jobs,
                tokens_per_second,
                ..
            } => {
                let what = self.count("summary.jobs", *jobs);
                let Some(tokens_per_second) = tokens_per_second else {
                    return what;
                };
                let rate = self.numeral(&rate(*tokens_per_second));
                let rate = self.say("unit.tokens_per_second", &[("rate", &rate)]);
                self.say("summary.at_rate", &[("what", &what), ("rate", &rate)])
            }
        }
    }

    /// What the owner needs the machine for, or that they no longer do.
    fn rule(self, why: &Why, is_over: bool, now: &Zoned) -> String {
        let (key, values): (&str, Vec<(&str, String)>) = match why {
            Why::Sleep => ("sleep", vec![]),
            Why::Game { name } => ("game", vec![("name", name.clone())]),
            Why::Program { name } => ("program", vec![("name", name.clone())]),
            Why::FullScreen { name } => ("full_screen", vec![("name", name.clone())]),
            Why::LowMemory {
                available_bytes,
                resume_above_bytes,
            } => {
                let size = |bytes: &u64| self.numeral(&memory_size(*bytes));
                let sizes = vec![
                    ("left", size(available_bytes)),
                    ("enough", size(resume_above_bytes)),
                ];
                ("low_memory", sizes)
            }
            Why::Battery {
                percent: Some(percent),
            } if !is_over => ("battery_left", vec![("percent", percent.to_string())]),
            Why::Battery { .. } => ("battery", vec![]),
            Why::LowBattery { resume_percent } => {
                ("low_battery", vec![("percent", resume_percent.to_string())])
            }
            Why::GpuBusy => ("gpu_busy", vec![]),
            Why::GpuMemory { resume_above_bytes } => {
                let enough = self.numeral(&memory_size(*resume_above_bytes));
                ("gpu_memory", vec![("enough", enough)])
            }
            Why::GpuHot { resume_celsius } => {
                ("gpu_hot", vec![("celsius", resume_celsius.to_string())])
            }
            Why::InUse { remote: true, .. } if !is_over => ("in_use_remote", vec![]),
            Why::InUse { minutes, .. } => ("in_use", vec![("minutes", minutes.to_string())]),
            Why::Hours {
                opens_ms: Some(opens_ms),
            } => ("hours", vec![("time", self.moment(*opens_ms, now))]),
            Why::Hours { opens_ms: None } if !is_over => ("hours_never", vec![]),
            Why::Hours { opens_ms: None } => ("hours", vec![]),
        };
        let values: Vec<_> = values
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        if is_over {
            let over = self.say(&format!("summary.rule.over.{key}"), &values);
            return self.say("summary.rule.goes_on_soon", &[("over", &over)]);
        }
        self.say(&format!("summary.rule.{key}"), &values)
    }

    pub(crate) fn download_fault(self, fault: DownloadFault) -> String {
        self.say(&format!("models.fault.title.{}", word(fault)), &[])
    }

    /// A text of the window's with what stands in its braces.
    pub(crate) fn say(self, key: &str, parameters: &[(&str, &str)]) -> String {
        self.fill(key, false, parameters)
    }

    /// A text of the window's for one or for many.
    fn count(self, key: &str, count: u32) -> String {
        self.fill(key, count == 1, &[("count", &self.whole(count.into()))])
    }

    fn fill(self, key: &str, is_one: bool, parameters: &[(&str, &str)]) -> String {
        let tag = self.pick("en", "de");
        let text = match WORDS.get(tag).and_then(|words| words.get(key)) {
            Some(Text::Plain(text) | Text::Plural { other: text, .. }) if !is_one => text,
            Some(Text::Plain(text) | Text::Plural { one: text, .. }) => text,
            None => return key.to_owned(),
        };
        parameters.iter().fold(text.clone(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }

    fn shortfall(self, requirement: &Requirement) -> String {
        let key = match requirement.id {
            RequirementId::Ram => "summary.ram",
            RequirementId::FreeDisk => "summary.free_disk",
            RequirementId::Network => "summary.network",
            RequirementId::Gpu if requirement.found.is_none() => "summary.no_gpu",
            RequirementId::Gpu => "summary.gpu",
        };
        let (found, need) = (
            self.amount(&requirement.found),
            self.amount(&requirement.need),
        );
        self.say(key, &[("found", &found), ("need", &need)])
    }

    fn amount(self, amount: &Amount) -> String {
        match amount {
            Amount::Unknown => self.say("amount.unknown", &[]),
            Amount::Vram {
                bytes,
                or_apple_silicon,
            } => {
                let key = if *or_apple_silicon {
                    "amount.vram_or_apple"
                } else {
                    "amount.vram"
                };
                self.say(key, &[("size", &self.numeral(&memory_size(*bytes)))])
            }
            Amount::Gpus { gpus } if gpus.is_empty() => self.say("amount.none", &[]),
            Amount::Gpus { gpus } => {
                let names: Vec<_> = gpus.iter().map(|gpu| self.gpu(gpu)).collect();
                names.join(", ")
            }
            Amount::Memory { .. } | Amount::Disk { .. } | Amount::Rate { .. } => {
                self.numeral(&amount.to_string())
            }
        }
    }

    fn gpu(self, gpu: &Gpu) -> String {
        let named = |key| self.say(key, &[("name", &gpu.name)]);
        match (gpu.kind, gpu.vram_bytes) {
            (GpuKind::Software, _) => named("amount.gpu.software"),
            (GpuKind::Integrated, _) => named("amount.gpu.integrated"),
            (_, Some(bytes)) => {
                let size = self.numeral(&memory_size(bytes));
                self.say("amount.gpu.vram", &[("name", &gpu.name), ("size", &size)])
            }
            (GpuKind::AppleSilicon, None) => gpu.name.clone(),
            (_, None) => named("amount.gpu.unknown"),
        }
    }

    /// An English number as this language writes it.
    fn numeral(self, english: &str) -> String {
        english.replace('.', self.pick(".", ","))
    }

    /// `18:00`, `tomorrow 08:00`, or with the day of the week: as the window writes it.
    fn moment(self, unix_ms: i64, now: &Zoned) -> String {
        let moment = Timestamp::from_millisecond(unix_ms)
            .unwrap_or_default()
            .to_zoned(now.time_zone().clone());
        let time = moment.strftime("%H:%M").to_string();
        if moment.date() == now.date() {
            time
        } else if now.date().tomorrow().is_ok_and(|day| day == moment.date()) {
            format!("{} {time}", self.pick("tomorrow", "morgen"))
        } else {
            let days = self.pick(
                ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
                ["Mo", "Di", "Mi", "Do", "Fr", "Sa", "So"],
            );
            let day = days[moment.weekday().to_monday_zero_offset() as usize];
            match self {
                Self::English => format!("{day} {time}"),
                Self::German => format!("{day}, {time}"),
            }
        }
    }
}

/// A kind of fault as the window's keys have it: as it stands in JSON.
fn word(kind: impl Serialize) -> String {
    let word = serde_json::to_value(kind).unwrap_or_default();
    word.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn points_have_no_more_digits_than_help() {
        let cases = [
            (0, "0", "0"),
            (200, "0.0002", "0,0002"),
            (9_600, "0.01", "0,01"),
            (40_000, "0.04", "0,04"),
            (100_000, "0.1", "0,1"),
            (4_200_000, "4.2", "4,2"),
            (9_960_000, "10.0", "10,0"),
            (5_000_000, "5", "5"),
            (12_900_000, "12.9", "12,9"),
            (128_600_000, "129", "129"),
            (1_284_000_000, "1,284", "1.284"),
            (1_234_567_000_000, "1,234,567", "1.234.567"),
            (-1_500_000, "-1.5", "-1,5"),
        ];
        for (micro_points, english, german) in cases {
            assert_eq!(Language::English.points(micro_points), english);
            assert_eq!(Language::German.points(micro_points), german);
        }
        assert_eq!(Language::English.points_today(1_000_000), "1 point today");
        assert_eq!(Language::German.points_today(1_000_000), "Heute 1 Punkt");
    }

    #[test]
    fn languages_by_their_tags() {
        for (tag, language) in [
            ("de", Language::German),
            ("de-DE", Language::German),
            ("de_AT.UTF-8", Language::German),
            ("den", Language::English),
            ("fr-FR", Language::English),
            ("en", Language::English),
        ] {
            assert_eq!(Language::named(tag), language, "{tag}");
        }
        let mut state = fixtures::state(Summary::WaitingForJobs);
        state.settings.language = Some("de".to_owned());
        assert_eq!(Language::of(&state), Language::German);
    }

    fn sentence(language: Language, summary: Summary) -> String {
        language.sentence(&fixtures::state(summary), &fixtures::now())
    }

    #[test]
    fn a_pause_says_when_it_ends_as_the_window_does() {
        let now = fixtures::now().timestamp().as_millisecond();
        for (hours, english, german) in [
            (None, "Paused by you", "Von Ihnen pausiert"),
            (
                Some(1),
                "Paused by you until 13:00",
                "Von Ihnen pausiert bis 13:00",
            ),
            (
                Some(20),
                "Paused by you until tomorrow 08:00",
                "Von Ihnen pausiert bis morgen 08:00",
            ),
            (
                Some(72),
                "Paused by you until Wed 12:00",
                "Von Ihnen pausiert bis Mi, 12:00",
            ),
        ] {
            let paused = Summary::Paused {
                until_ms: hours.map(|hours: i64| now + hours * 3_600_000),
                finishing: false,
            };
            assert_eq!(sentence(Language::English, paused.clone()), english);
            assert_eq!(sentence(Language::German, paused), german);
        }
    }

    #[test]
    fn every_state_has_a_whole_sentence_in_every_language() {
        for language in [Language::English, Language::German] {
            for summary in fixtures::every_summary() {
                let sentence = sentence(language, summary.clone());
                assert!(
                    !sentence.contains(['{', '_']) && sentence.contains(' ')
                        || summary == Summary::Closing,
                    "{summary:?}: {sentence}"
                );
            }
        }
    }

    #[test]
    fn every_fault_has_its_words() {
        use DownloadFault::{
            DiskFull, NotAModel, OverQuota, Refused, Storage, Unreachable, WrongHash,
        };
        for fault in [
            DiskFull,
            OverQuota,
            WrongHash,
            Unreachable,
            Refused,
            NotAModel,
            Storage,
        ] {
            for language in [Language::English, Language::German] {
                let words = language.download_fault(fault);
                assert!(words.contains(' '), "{words}");
            }
        }
    }

    #[test]
    fn no_countdown_stands_still_in_the_tray() {
        let unreachable = Summary::Unreachable {
            balancer: "https://net.example".to_owned(),
            retry_at_ms: 9_000,
        };
        assert_eq!(
            sentence(Language::English, unreachable),
            "Cannot reach https://net.example; trying again"
        );
    }
}
