//! The commands that make, list and take back invitations, and how one is shown.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::str::FromStr;

use clap::Subcommand;
use infera_protocol::Invitation;
use infera_protocol::node_api::{Checking, Standing};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use super::{CliError, note, open, print, print_list, warn};
use crate::config::{Config, FILE_NAME};
use crate::edges::Edges;
use crate::invitations::{self, InvitationRow, LONGEST_LIFE_MS, MOST_USES, Place, Terms, Unusable};
use crate::operator::log::Act;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

#[derive(Subcommand)]
pub(super) enum InviteCommand {
    /// Make an invitation and print its links, this one time
    Create {
        /// How many nodes may join by it, or `unlimited`
        #[arg(long, default_value = "1")]
        uses: Uses,
        /// Whom or what it is for
        #[arg(long = "for", value_name = "LABEL", default_value = "")]
        label: String,
        /// Those who join are trusted: their answers may go out unchecked
        #[arg(long)]
        trusted: bool,
        /// Those who join check other nodes' outputs in place of taking jobs
        #[arg(long)]
        reference: bool,
        /// How long it can be used, as `30m`, `12h`, `7d`, or `never` for no end
        #[arg(long, default_value = "7d")]
        expires: Lifetime,
        /// Print it as a QR code too, also where no terminal is
        #[arg(long)]
        qr: bool,
    },
    /// Show all invitations: what they are for, and how often they were used
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take an invitation back; those who have joined stay
    Revoke {
        /// Its number in `invite list`
        id: i64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uses(Option<u32>);

impl FromStr for Uses {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unlimited" {
            return Ok(Self(None));
        }
        let uses = text.parse().ok();
        uses.filter(|uses| (1..=MOST_USES).contains(uses))
            .map(|uses| Self(Some(uses)))
            .ok_or("a number from 1 to 1000000, or `unlimited`")
    }
}

/// In milliseconds; none for no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime(Option<i64>);

impl FromStr for Lifetime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "never" {
            return Ok(Self(None));
        }
        let wrong = "a time like `30m`, `12h` or `7d`, of ten years at most, or `never`";
        let unit = match text.chars().last() {
            Some('m') => MINUTE_MS,
            Some('h') => HOUR_MS,
            Some('d') => DAY_MS,
            _ => return Err(wrong),
        };
        let count: u32 = text[..text.len() - 1].parse().map_err(|_| wrong)?;
        let life = i64::from(count) * unit;
        if (1..=LONGEST_LIFE_MS).contains(&life) {
            Ok(Self(Some(life)))
        } else {
            Err(wrong)
        }
    }
}

impl Lifetime {
    /// When it ends that begins now, if it does.
    pub(super) fn until(self, now_ms: i64) -> Option<i64> {
        self.0.map(|life| now_ms + life)
    }
}

pub(super) async fn run(folder: &Path, command: InviteCommand) -> Result<(), CliError> {
    let begins = matches!(command, InviteCommand::Create { .. });
    let edges = Edges::system();
    match command {
        InviteCommand::Create {
            uses,
            label,
            trusted,
            reference,
            expires,
            qr,
        } => {
            let config = Config::load(folder)?;
            // Without an address nothing is written.
            let place = place(&config, folder)?;
            if config.checking == Checking::None {
                if reference {
                    return Err(CliError::NothingToCheck(folder.join(FILE_NAME)));
                }
                if !trusted {
                    warn(
                        "This network checks no answers and gives jobs only to nodes that you trust. Those who join by this invitation get none before `node trust`; `--trusted` makes one for nodes that do",
                    );
                }
            }
            let database = open(folder, begins).await?;
            let terms = Terms {
                label,
                standing: Standing { trusted, reference },
                max_uses: uses.0,
                expires_ms: expires.until(edges.now_ms()),
            };
            let (id, token) = invitations::create(&database, &edges, &terms).await?;
            note(&database, Act::Invite, &id.to_string(), &terms.label).await?;
            print(&shown(
                &place.invitation(token),
                qr || io::stdout().is_terminal(),
            ))
        }
        InviteCommand::Revoke { id } => {
            let database = open(folder, begins).await?;
            invitations::revoke(&database, id, edges.now_ms()).await?;
            note(&database, Act::RevokeInvitation, &id.to_string(), "").await
        }
        InviteCommand::List { json } => {
            let database = open(folder, begins).await?;
            let rows = invitations::list(&database).await?;
            let now_ms = edges.now_ms();
            print_list(json, &rows, |row| line(row, now_ms))
        }
    }
}

/// Where this network's invitations lead.
pub(super) fn place(config: &Config, folder: &Path) -> Result<Place, CliError> {
    Place::of(config)?.ok_or_else(|| CliError::NoAddress(folder.join(FILE_NAME)))
}

/// Both links, and the code that a camera reads.
pub(super) fn shown(invitation: &Invitation, with_code: bool) -> String {
    let mut text = format!("{}\n{}\n", invitation.link(), invitation.page());
    if with_code && let Some(code) = code(&invitation.page()) {
        let _ = write!(text, "\n{code}\n");
    }
    text
}

/// Two modules a letter. Light ones are drawn, for terminals with a dark ground.
fn code(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let mut drawing = code.render::<Dense1x2>();
    let drawing = drawing
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark);
    Some(drawing.build())
}

fn line(row: &InvitationRow, now_ms: i64) -> String {
    let state = match row.fault(now_ms) {
        None => "in use",
        Some(Unusable::Revoked) => "revoked",
        Some(Unusable::Expired) => "expired",
        Some(Unusable::UsedUp(_)) => "used up",
        Some(Unusable::Unknown) => "unknown",
    };
    let uses = match row.max_uses {
        Some(most) => format!("{} of {most} uses", row.uses),
        None => format!("{} uses", row.uses),
    };
    let mut line = format!("{:>4}  {state:<8} {uses}", row.id);
    if row.standing.trusted {
        line.push_str(", trusted");
    }
    if row.standing.reference {
        line.push_str(", reference");
    }
    if let Some(end) = row.expires_ms.filter(|end| *end > now_ms) {
        let _ = write!(line, ", {} left", span(end - now_ms));
    }
    if !row.label.is_empty() {
        let _ = write!(line, "; for {}", row.label);
    }
    line
}

/// In the largest unit that is full.
pub(super) fn span(ms: i64) -> String {
    let (count, unit) = match ms {
        DAY_MS.. => (ms / DAY_MS, "day"),
        HOUR_MS.. => (ms / HOUR_MS, "hour"),
        _ => ((ms / MINUTE_MS).max(1), "minute"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_and_times_as_a_table() {
        for (text, expected) in [
            ("1", Some(Some(1))),
            ("1000000", Some(Some(1_000_000))),
            ("unlimited", Some(None)),
            ("0", None),
            ("1000001", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected.map(Uses), "{text}");
        }
        for (text, expected) in [
            ("1m", Some(Some(MINUTE_MS))),
            ("12h", Some(Some(12 * HOUR_MS))),
            ("3650d", Some(Some(LONGEST_LIFE_MS))),
            ("never", Some(None)),
            ("3651d", None),
            ("4294967295d", None),
            ("0d", None),
            ("7", None),
            ("d", None),
            ("7ü", None),
            ("-1d", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected.map(Lifetime), "{text}");
        }
        for (ms, words) in [
            (1, "1 minute"),
            (2 * HOUR_MS - 1, "1 hour"),
            (7 * DAY_MS, "7 days"),
        ] {
            assert_eq!(span(ms), words);
        }
    }

    #[test]
    fn the_code_is_square_and_light_around() {
        let invitation = Invitation {
            address: "https://192.168.1.5:8431".to_owned(),
            fingerprint: Some(infera_protocol::Fingerprint::from_bytes([7; 32])),
            token: infera_protocol::InvitationToken::from_bytes([9; 16]),
        };
        let with = shown(&invitation, true);
        let code: Vec<_> = with
            .lines()
            .skip(3)
            .filter(|line| !line.is_empty())
            .collect();
        let width = code[0].chars().count();
        assert!(width < 80, "it fits a terminal: {width}");
        assert!(code.iter().all(|line| line.chars().count() == width));
        assert_eq!(code.len(), width.div_ceil(2));
        assert!(code[0].chars().all(|letter| letter == '█'), "{with}");
        assert_eq!(shown(&invitation, false).lines().count(), 2);
    }
}
