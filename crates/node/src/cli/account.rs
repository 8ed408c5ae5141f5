//! `infera account`: whose this machine is, and how others become the same person's.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use infera_node::app::api::{
    AccountBackup, AccountWords, AppState, ByCode, LinkCodeRequest, LinkState, NewLinkCode,
};
use infera_node::clock::{Clock, SystemClock};
use infera_protocol::AccountId;
use infera_protocol::account::Overview;
use serde::Serialize;

use super::Show;
use super::duration::parse_duration;
use super::join::ask_for;
use super::remote::{Control, output};
use super::terminal::{Fault, points, print, table};

#[derive(Subcommand)]
pub(super) enum AccountCommand {
    /// Make an account; its key is kept on this machine
    Create(Show),
    /// Show the account's 24 words, or keep them in a file. Whoever has them owns the account
    Backup {
        /// Where to keep them; only you can read the file
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        show: Show,
    },
    /// Bring an account to this machine, from its words or a backup file
    Restore {
        /// The backup file [default: the words, from standard input]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        show: Show,
    },
    /// Make a code by which another machine becomes the account's
    LinkCode {
        /// How many machines may be linked by it
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        uses: u32,
        /// For how long: 15m, 1d
        #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = parse_duration)]
        expires: Duration,
        #[command(flatten)]
        show: Show,
    },
    /// Make this machine the account's that made a code
    Link {
        code: String,
        #[command(flatten)]
        show: Show,
    },
    /// Take this machine from its account
    Unlink(Show),
    /// Take the account and its key off this machine
    Remove {
        /// Without being asked
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        show: Show,
    },
}

pub(super) async fn show(show: &Show) -> Result<ExitCode, Fault> {
    let control = Control::of(show)?;
    let state: AppState = control.call("state", &()).await?;
    let holds_key = state.account.as_ref().is_some_and(|it| it.holds_key);
    let overview = match (holds_key, &state.settings.balancer) {
        (true, Some(_)) => Some(control.call("account_overview", &()).await?),
        _ => None,
    };
    output(show, &Shown::of(&state, overview), describe)
}

pub(super) async fn run(command: AccountCommand) -> Result<ExitCode, Fault> {
    match command {
        AccountCommand::Create(show) => {
            let state: AppState = Control::of(&show)?.call("create_account", &()).await?;
            changed(&show, &state)
        }
        AccountCommand::Backup { file, show } => backup(&show, file).await,
        AccountCommand::Restore { file, show } => {
            let words = read(file).await?;
            let request = AccountWords { words };
            let state: AppState = Control::of(&show)?
                .call("restore_account", &request)
                .await?;
            changed(&show, &state)
        }
        AccountCommand::LinkCode {
            uses,
            expires,
            show,
        } => {
            let seconds = u32::try_from(expires.as_secs()).unwrap_or(u32::MAX);
            let request = LinkCodeRequest { uses, seconds };
            let code: NewLinkCode = Control::of(&show)?.call("make_link_code", &request).await?;
            output(&show, &code, code_shown)
        }
        AccountCommand::Link { code, show } => {
            let state: AppState = Control::of(&show)?
                .call("link_machine", &ByCode { code })
                .await?;
            changed(&show, &state)
        }
        AccountCommand::Unlink(show) => {
            let state: AppState = Control::of(&show)?.call("unlink_machine", &()).await?;
            changed(&show, &state)
        }
        AccountCommand::Remove { yes, show } => remove(&show, yes).await,
    }
}

async fn backup(show: &Show, file: Option<PathBuf>) -> Result<ExitCode, Fault> {
    let backup: AccountBackup = Control::of(show)?.call("account_backup", &()).await?;
    let Some(file) = file else {
        return output(show, &backup, words_shown);
    };
    let written = infera_private_files::create(&file)
        .and_then(|mut out| io::Write::write_all(&mut out, backup.text.as_bytes()));
    written.map_err(|error| {
        Fault::with_advice(
            &format!("{} cannot be written: {error}", file.display()),
            "there is no backup yet",
            "name a file that is not there yet, in a folder that you may write",
        )
    })?;
    print(&format!(
        "The account's words are in {}. Whoever reads it owns the account",
        file.display()
    ))
}

/// A file, or all that comes on standard input.
async fn read(file: Option<PathBuf>) -> Result<String, Fault> {
    let fault = |error: &dyn std::error::Error| {
        Fault::with_advice(
            &format!("the words cannot be read: {error}"),
            "nothing was changed",
            "name the backup file, or type the words and end with Ctrl+D",
        )
    };
    if let Some(file) = file {
        return fs::read_to_string(file).map_err(|error| fault(&error));
    }
    let work = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).map(|_| text)
    });
    match work.await {
        Ok(read) => read.map_err(|error| fault(&error)),
        Err(error) => Err(fault(&error)),
    }
}

async fn remove(show: &Show, yes: bool) -> Result<ExitCode, Fault> {
    const NOT_REMOVED: &str = "the account stays on this machine";
    let control = Control::of(show)?;
    let state: AppState = control.call("state", &()).await?;
    if state.account.as_ref().is_some_and(|it| it.holds_key) && !yes {
        if show.json || !io::stdin().is_terminal() {
            return Err(Fault::with_advice(
                "nobody can be asked whether to remove the account's key",
                NOT_REMOVED,
                "say `--yes` to remove it without being asked",
            )
            .code(2));
        }
        let question = "Without its 24 words the account is lost: its points, its keys, and the \
                        command of its machines. Remove it from this machine?";
        if !ask_for(question).await {
            return print("Not removed");
        }
    }
    let state: AppState = control.call("remove_account", &()).await?;
    changed(show, &state)
}

fn changed(show: &Show, state: &AppState) -> Result<ExitCode, Fault> {
    output(show, &Shown::of(state, None), describe)
}

/// What is shown of an account.
#[derive(Serialize)]
struct Shown {
    /// None for a machine of no account.
    id: Option<AccountId>,
    holds_key: bool,
    /// In the active network.
    linked: bool,
    /// A linking code waits for the network, or was of no use.
    link: Option<LinkState>,
    overview: Option<Overview>,
    machine: String,
    takes_commands: bool,
}

impl Shown {
    fn of(state: &AppState, overview: Option<Overview>) -> Self {
        let account = state.account.as_ref();
        Self {
            id: account.map(|account| account.id),
            holds_key: account.is_some_and(|account| account.holds_key),
            linked: account.is_some_and(|account| account.linked),
            link: state.link.clone(),
            overview,
            machine: (state.settings.machine_name.clone())
                .unwrap_or_else(|| state.host.name.clone()),
            takes_commands: state.settings.takes_commands,
        }
    }
}

fn describe(shown: &Shown) -> String {
    let link = match &shown.link {
        Some(LinkState::Waiting) => {
            Some("A linking code waits: it is used when this machine next connects".to_owned())
        }
        Some(LinkState::Failed { message, .. }) => Some(message.clone()),
        None => None,
    };
    let Some(id) = shown.id else {
        let none = "This machine has no account. `infera account create` makes one; `infera account link CODE` makes this machine one of yours";
        return [link.as_deref(), Some(none)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("\n");
    };
    let mut rows = vec![vec!["Account".to_owned(), id.to_string()]];
    let key = if shown.holds_key {
        "on this machine. `infera account backup` shows its 24 words"
    } else {
        "on another machine: spend and command from there"
    };
    rows.push(vec!["Key".to_owned(), key.to_owned()]);
    if let Some(overview) = &shown.overview {
        for (title, micro) in [
            ("Balance", overview.balance),
            ("Earned", overview.earned),
            ("Spent", overview.spent),
        ] {
            rows.push(vec![title.to_owned(), format!("{} points", points(micro))]);
        }
        rows.push(vec!["Machines".to_owned(), overview.nodes.to_string()]);
    }
    let linked = if shown.linked {
        "the account's in this network"
    } else {
        "becomes the account's when it connects to the network"
    };
    rows.push(vec![
        "This one".to_owned(),
        format!("{}, {linked}", shown.machine),
    ]);
    let commands = if shown.takes_commands {
        "the account may pause and resume it from afar"
    } else {
        "none are taken: `infera config takes_commands true` allows them"
    };
    rows.push(vec!["Commands".to_owned(), commands.to_owned()]);
    let mut text = table(&rows, &[]);
    if let Some(link) = link {
        text = format!("{text}\n\n{link}");
    }
    text
}

fn words_shown(backup: &AccountBackup) -> String {
    let rows: Vec<_> = (0..6)
        .map(|row| {
            (0..4)
                .filter_map(|column| {
                    let place = row + column * 6;
                    let word = backup.words.get(place)?;
                    Some(format!("{:>2}. {word}", place + 1))
                })
                .collect()
        })
        .collect();
    format!(
        "{}\n\nWrite them down in their order. Whoever has them owns the account, and nobody can bring it back without them",
        table(&rows, &[])
    )
}

fn code_shown(code: &NewLinkCode) -> String {
    let machines = match code.uses {
        1 => "one machine".to_owned(),
        uses => format!("{uses} machines"),
    };
    format!(
        "{}\n\nFor {machines}, until {}. On the other one: `infera account link {}`, or with the invitation: `infera join LINK --account {}`",
        code.code,
        SystemClock.describe(code.expires_ms),
        code.code,
        code.code
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Shown {
        Shown {
            id: Some(AccountId::from_bytes([0xab; 32])),
            holds_key: true,
            linked: true,
            link: None,
            overview: Some(Overview {
                balance: 1_284_500_000,
                earned: 2_000_000_000,
                spent: 715_500_000,
                nodes: 3,
            }),
            machine: "attic".to_owned(),
            takes_commands: false,
        }
    }

    #[test]
    fn an_account_is_shown_with_what_it_has() {
        assert_eq!(
            describe(&shown()),
            "\
Account   abababababababababababababababababababababababababababababababab
Key       on this machine. `infera account backup` shows its 24 words
Balance   1,284.5 points
Earned    2,000 points
Spent     715.5 points
Machines  3
This one  attic, the account's in this network
Commands  none are taken: `infera config takes_commands true` allows them"
        );
    }

    #[test]
    fn a_machine_without_an_account_is_told_how_to_get_one() {
        let none = Shown {
            id: None,
            link: Some(LinkState::Waiting),
            ..shown()
        };
        let text = describe(&none);
        assert!(text.starts_with("A linking code waits") && text.contains("account create"));
    }

    #[test]
    fn words_stand_in_columns_to_be_written_down() {
        let backup = AccountBackup {
            words: (1..=24).map(|number| format!("word{number}")).collect(),
            file_name: String::new(),
            text: String::new(),
        };
        let text = words_shown(&backup);
        let first = text.lines().next().unwrap();
        assert_eq!(first, " 1. word1   7. word7   13. word13  19. word19");
    }
}
