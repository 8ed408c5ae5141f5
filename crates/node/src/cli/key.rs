//! `infera key` and `infera spending`: keys that spend the account's points, and what they spent.

use std::process::ExitCode;

use clap::Subcommand;
use infera_node::app::api::{AppState, ByName, SpendingQuery};
use infera_node::clock::{Clock, SystemClock};
use infera_protocol::Route;
use infera_protocol::account::{AccountKeyRow, KeyRequest, NewKey, Statement};
use serde::Serialize;

use super::Show;
use super::remote::{Control, output};
use super::terminal::{Fault, points, table};

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key, and print it: it is shown this one time
    Create {
        /// 1 to 64 letters, digits, `-`, `_`, `.` or `@`
        name: String,
        /// The most that it may spend on one day, in points [default: all there is]
        #[arg(long, value_name = "POINTS", value_parser = parse_points)]
        daily_limit: Option<i64>,
        /// Where its requests may go: own, trusted or any
        #[arg(long, default_value = "any")]
        route: Route,
        #[command(flatten)]
        show: Show,
    },
    /// List the keys
    List {
        /// With those that were revoked
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        show: Show,
    },
    /// End a key: nobody can ask with it any more
    Revoke {
        name: String,
        #[command(flatten)]
        show: Show,
    },
}

/// What is printed of a new key.
#[derive(Serialize)]
struct Made {
    name: String,
    key: String,
    /// Where clients ask.
    address: String,
}

pub(super) async fn run(command: KeyCommand) -> Result<ExitCode, Fault> {
    match command {
        KeyCommand::Create {
            name,
            daily_limit,
            route,
            show,
        } => {
            let control = Control::of(&show)?;
            let request = KeyRequest {
                name: name.clone(),
                daily_limit,
                route,
            };
            let NewKey { key } = control.call("create_key", &request).await?;
            let state: AppState = control.call("state", &()).await?;
            let address = state.settings.balancer.unwrap_or_default();
            let made = Made {
                name,
                key,
                address: format!("{address}/v1"),
            };
            output(&show, &made, |made| {
                format!(
                    "{}\n\nIt is shown this one time. The address for clients: {}",
                    made.key, made.address
                )
            })
        }
        KeyCommand::List { all, show } => {
            let keys: Vec<_> = Control::of(&show)?.call("account_keys", &()).await?;
            output(&show, &keys, |keys| list(keys, all))
        }
        KeyCommand::Revoke { name, show } => {
            let asked = ByName { name };
            let keys: Vec<_> = Control::of(&show)?.call("revoke_key", &asked).await?;
            output(&show, &keys, |keys| list(keys, false))
        }
    }
}

pub(super) async fn spending(show: &Show, days: u32) -> Result<ExitCode, Fault> {
    let query = SpendingQuery { days };
    let statement: Statement = Control::of(show)?.call("spending", &query).await?;
    output(show, &statement, describe)
}

fn list(keys: &[AccountKeyRow], all: bool) -> String {
    let keys: Vec<_> = keys
        .iter()
        .filter(|key| all || key.revoked_ms.is_none())
        .collect();
    if keys.is_empty() {
        return "No keys yet: `infera key create NAME` makes one".to_owned();
    }
    let titles = ["Name", "Goes to", "Today", "A day at most", "In all", ""];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    rows.extend(keys.iter().map(|key| {
        let revoked = key.revoked_ms;
        vec![
            key.name.clone(),
            key.route.word().to_owned(),
            points(key.spent_today),
            key.daily_limit.map_or_else(|| "-".to_owned(), points),
            points(key.spent),
            revoked.map_or_else(String::new, |at| {
                format!("revoked {}", SystemClock.describe(at))
            }),
        ]
    }));
    table(&rows, &[2, 3, 4])
}

fn describe(statement: &Statement) -> String {
    let overview = statement.overview;
    let sums = format!(
        "{} points to spend: {} earned, {} spent",
        points(overview.balance),
        points(overview.earned),
        points(overview.spent)
    );
    if statement.spent.is_empty() {
        return format!("{sums}\n\nNothing was spent in these days");
    }
    let titles = ["Day", "Key", "Model", "Requests", "Points"];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    rows.extend(statement.spent.iter().map(|line| {
        vec![
            day(line.day_ms),
            line.key.clone(),
            line.model.clone(),
            line.requests.to_string(),
            points(line.micro),
        ]
    }));
    let sum = statement.spent.iter().map(|line| line.micro).sum();
    format!(
        "{sums}\n\n{}\n\n{} points in these days, which are in UTC",
        table(&rows, &[3, 4]),
        points(sum)
    )
}

/// The balancer counts days in UTC.
fn day(day_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(day_ms)
        .unwrap_or_default()
        .strftime("%Y-%m-%d")
        .to_string()
}

/// Points with up to six decimals, as micro-points.
fn parse_points(text: &str) -> Result<i64, String> {
    let refuse = || format!("`{text}` is no number of points: write it like 50 or 0.25");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > 6 {
        return Err(refuse());
    }
    format!("{whole}{decimals:0<6}")
        .parse()
        .map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use infera_protocol::account::{Overview, Spending};

    use super::*;

    #[test]
    fn points_are_read_to_the_micro_point() {
        for (text, micro) in [
            ("0", 0),
            ("50", 50_000_000),
            ("0.25", 250_000),
            ("1.000001", 1_000_001),
        ] {
            assert_eq!(parse_points(text), Ok(micro));
        }
        for text in ["", "-1", ".5", "1.0000001", "1,5", "ten", "99999999999999"] {
            assert!(parse_points(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_stand_with_their_limits_and_revoked_ones_when_asked_for() {
        let key = |name: &str, revoked_ms| AccountKeyRow {
            name: name.to_owned(),
            daily_limit: Some(50_000_000),
            route: Route::Own,
            spent: 12_500_000,
            spent_today: 250_000,
            created_ms: 0,
            revoked_ms,
        };
        let keys = [key("laptop", None), key("old", Some(0))];
        assert_eq!(
            list(&keys, false),
            "\
Name    Goes to  Today  A day at most  In all
laptop  own       0.25             50    12.5"
        );
        assert!(list(&keys, true).contains("revoked 1970-01-01"));
        assert!(list(&[], true).starts_with("No keys yet"));
    }

    #[test]
    fn spending_adds_up() {
        let line = |key: &str, micro| Spending {
            day_ms: 1_780_012_800_000,
            key: key.to_owned(),
            model: "llama".to_owned(),
            requests: 3,
            micro,
        };
        let mut statement = Statement {
            overview: Overview {
                balance: 7_000_000,
                earned: 10_000_000,
                spent: 3_000_000,
                nodes: 1,
            },
            spent: vec![line("laptop", 2_000_000), line("phone", 1_000_000)],
        };
        assert_eq!(
            describe(&statement),
            "\
7 points to spend: 10 earned, 3 spent

Day         Key     Model  Requests  Points
2026-05-29  laptop  llama         3       2
2026-05-29  phone   llama         3       1

3 points in these days, which are in UTC"
        );
        statement.spent.clear();
        assert!(describe(&statement).ends_with("Nothing was spent in these days"));
    }
}
