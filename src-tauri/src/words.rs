//! What the tray, dialogs and notifications say, in the languages of the window.

use infera_node::app::api::AppState;
use infera_node::state::{StartFault, Summary, TurnedAway};
use infera_protocol::requirements::{
    Amount, Gpu, GpuKind, Requirement, RequirementId, memory_size,
};
use jiff::{Timestamp, Zoned};

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

    /// With one decimal below ten, and digits in groups above a thousand. Something earned is never
    /// nothing.
    pub(crate) fn points(self, micro_points: i64) -> String {
        let tenths = micro_points / 100_000;
        if tenths == 0 && micro_points != 0 {
            let digits = 6 - micro_points.unsigned_abs().ilog10() as usize;
            let text = format!("{:.digits$}", micro_points as f64 / 1e6);
            return text.replace('.', self.pick(".", ","));
        }
        if tenths.abs() < 100 && tenths % 10 != 0 {
            let sign = if tenths < 0 { "-" } else { "" };
            let (whole, part) = (tenths.abs() / 10, tenths.abs() % 10);
            return format!("{sign}{whole}{}{part}", self.pick('.', ','));
        }
        self.whole(tenths / 10)
    }

    fn whole(self, number: i64) -> String {
        let digits = number.unsigned_abs().to_string();
        let mut text = String::from(if number < 0 { "-" } else { "" });
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(self.pick(',', '.'));
            }
            text.push(digit);
        }
        text
    }

    /// State and reason. English is the node's own sentence but for a countdown, which would be
    /// wrong a second later.
    pub(crate) fn sentence(self, state: &AppState, now: &Zoned) -> String {
        let state = &state.state;
        match (&state.summary, self) {
            (Summary::Unreachable { balancer, .. }, Self::English) => {
                format!("Cannot reach the network at {balancer}")
            }
            (Summary::Restarting { message, .. }, _) => message.clone(),
            (_, Self::English) => state.sentence.clone(),
            (summary, Self::German) => german(summary, now),
        }
    }
}

fn german(summary: &Summary, now: &Zoned) -> String {
    match summary {
        Summary::ReadingHardware => "Die Hardware wird gelesen".to_owned(),
        Summary::CannotStart { fault } => german_fault(fault),
        Summary::Outdated { message } | Summary::Restarting { message, .. } => message.clone(),
        Summary::NotAgreed => "Noch wird nichts geteilt: Sie haben nicht zugestimmt".to_owned(),
        Summary::NoBalancer => "Keine Aufträge: Es ist kein Netzwerk gewählt".to_owned(),
        Summary::Closing => "Wird beendet".to_owned(),
        Summary::Paused {
            until_ms,
            finishing,
        } => {
            let until = until_ms.map_or(String::new(), |until_ms| {
                format!(" bis {}", german_moment(until_ms, now))
            });
            if *finishing {
                format!("Aktueller Auftrag läuft aus, dann Pause{until}")
            } else {
                format!("Von Ihnen pausiert{until}")
            }
        }
        Summary::OwnUse => "Pausiert, solange Sie das Modell selbst nutzen".to_owned(),
        Summary::StorageFault { message } | Summary::ModelsBroken { message } => {
            format!("Keine Aufträge: {message}")
        }
        Summary::LowDisk { free_bytes, .. } => format!(
            "Keine Aufträge: Auf dem Datenträger sind nur {} MB frei",
            free_bytes / 1_000_000
        ),
        Summary::RequirementFailed {
            requirement,
            finishing,
        } => format!(
            "Keine Aufträge: {}, das Netzwerk verlangt {}{}",
            german_shortfall(requirement),
            german_amount(&requirement.need),
            if *finishing {
                " (der aktuelle Auftrag wird noch beendet)"
            } else {
                ""
            }
        ),
        Summary::NoModel => "Keine Aufträge: Es ist kein Modell gewählt".to_owned(),
        Summary::Unreachable { balancer, .. } => {
            format!("Das Netzwerk {balancer} ist nicht erreichbar")
        }
        Summary::TurnedAway { why } => match why {
            TurnedAway::IdentityInUse => {
                "Keine Aufträge: Ein anderes Programm arbeitet unter der Identität dieses Knotens"
            }
            TurnedAway::TooMuch => {
                "Keine Aufträge: Das Netzwerk nimmt von Ihrer Internetadresse gerade nichts mehr an"
            }
        }
        .to_owned(),
        Summary::Loading { model, percent } => format!("{model} wird geladen: {percent} %"),
        Summary::Tuning { model, done, total } => {
            format!("{model} wird einmalig auf diese GPU abgestimmt: {done} von {total}")
        }
        Summary::NotServed { models } => format!(
            "Keine Aufträge: Dieses Netzwerk bietet {} nicht an",
            models.join(" oder ")
        ),
        Summary::Connecting => "Verbindung zum Netzwerk wird aufgebaut".to_owned(),
        Summary::WaitingForJobs => "Wartet auf Aufträge".to_owned(),
        Summary::WaitingForAudits => "Wartet auf Antworten zum Prüfen".to_owned(),
        Summary::Working {
            jobs,
            audits,
            tokens_per_second,
        } => {
            let what = match (jobs, audits) {
                (0, 1) => return "Prüft die Antwort eines anderen Knotens".to_owned(),
                (0, audits) => return format!("Prüft {audits} Antworten anderer Knoten"),
                (1, _) => "Arbeitet an einem Auftrag".to_owned(),
                (jobs, _) => format!("Arbeitet an {jobs} Aufträgen"),
            };
            match tokens_per_second {
                Some(rate) if *rate < 10.0 => {
                    format!("{what}: {} Token/s", format!("{rate:.1}").replace('.', ","))
                }
                Some(rate) => format!("{what}: {rate:.0} Token/s"),
                None => what,
            }
        }
    }
}

fn german_fault(fault: &StartFault) -> String {
    match fault {
        StartFault::KeychainLocked => {
            "Der Schlüsselbund mit dem Schlüssel des Knotens ist gesperrt"
        }
        StartFault::KeychainMissing => "Auf diesem Rechner gibt es keinen Schlüsselbund",
        StartFault::KeychainSilent => "Der Schlüsselbund antwortet nicht",
        StartFault::Other { message } => message,
    }
    .to_owned()
}

fn german_shortfall(requirement: &Requirement) -> String {
    let found = german_amount(&requirement.found);
    match requirement.id {
        RequirementId::Ram => format!("dieser Rechner hat {found} Speicher"),
        RequirementId::FreeDisk => format!("auf dem Datenträger sind {found} frei"),
        RequirementId::Network => format!("Ihr Netz schafft {found}"),
        RequirementId::Gpu if requirement.found.is_none() => {
            "es wurde keine GPU gefunden".to_owned()
        }
        RequirementId::Gpu => format!("Ihre GPU ist {found}"),
    }
}

fn german_amount(amount: &Amount) -> String {
    match amount {
        Amount::Unknown => "unbekannt".to_owned(),
        Amount::Vram {
            bytes,
            or_apple_silicon,
        } => {
            let size = memory_size(*bytes).replace('.', ",");
            let apple = if *or_apple_silicon {
                " oder eine Apple-GPU der M-Reihe"
            } else {
                ""
            };
            format!("{size} VRAM{apple}")
        }
        Amount::Gpus { gpus } => {
            let names: Vec<_> = gpus.iter().map(german_gpu).collect();
            names.join(", ")
        }
        Amount::Memory { .. } | Amount::Disk { .. } | Amount::Rate { .. } => {
            amount.to_string().replace('.', ",")
        }
    }
}

fn german_gpu(gpu: &Gpu) -> String {
    match (gpu.kind, gpu.vram_bytes) {
        (GpuKind::Software, _) => format!("{} (Software, keine GPU)", gpu.name),
        (GpuKind::Integrated, _) => format!("{} (teilt sich den Arbeitsspeicher)", gpu.name),
        (_, Some(bytes)) => format!("{} mit {}", gpu.name, memory_size(bytes).replace('.', ",")),
        (GpuKind::AppleSilicon, None) => gpu.name.clone(),
        (_, None) => format!("{} mit unbekanntem Speicher", gpu.name),
    }
}

/// `18:00`, `morgen 08:00`, or the date.
fn german_moment(unix_ms: i64, now: &Zoned) -> String {
    let moment = Timestamp::from_millisecond(unix_ms)
        .unwrap_or_default()
        .to_zoned(now.time_zone().clone());
    let time = moment.strftime("%H:%M").to_string();
    if moment.date() == now.date() {
        time
    } else if now.date().tomorrow().is_ok_and(|day| day == moment.date()) {
        format!("morgen {time}")
    } else {
        moment.strftime("%d.%m.%Y %H:%M").to_string()
    }
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
            (40_000, "0.04", "0,04"),
            (100_000, "0.1", "0,1"),
            (4_200_000, "4.2", "4,2"),
            (9_960_000, "9.9", "9,9"),
            (5_000_000, "5", "5"),
            (12_900_000, "12", "12"),
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

    #[test]
    fn german_says_when_a_pause_ends() {
        let now = fixtures::now();
        let paused = |until_ms| Summary::Paused {
            until_ms,
            finishing: false,
        };
        let at = |ms| german(&paused(Some(now.timestamp().as_millisecond() + ms)), &now);
        assert_eq!(german(&paused(None), &now), "Von Ihnen pausiert");
        assert_eq!(at(3_600_000), "Von Ihnen pausiert bis 13:00");
        assert_eq!(at(20 * 3_600_000), "Von Ihnen pausiert bis morgen 08:00");
        assert_eq!(
            at(72 * 3_600_000),
            "Von Ihnen pausiert bis 25.11.2026 12:00"
        );
    }

    #[test]
    fn no_countdown_stands_still_in_the_tray() {
        let state = fixtures::state(Summary::Unreachable {
            balancer: "https://net.example".to_owned(),
            retry_at_ms: 9_000,
        });
        let sentence = Language::English.sentence(&state, &fixtures::now());
        assert_eq!(sentence, "Cannot reach the network at https://net.example");
    }
}
