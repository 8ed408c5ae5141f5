//! `infera join` and `infera network`: which networks there are for this node, and which it works
//! for.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use infera_node::app::api::{AccountState, AppState, ByAddress, ByCode, LookedUp};
use infera_node::app::settings::{Preferences, Settings};
use infera_node::clock::{Clock, SystemClock};
use infera_node::data_dir::{DataDirError, LockedDataDir};
use infera_node::look_up::{InvitationTerms, NotFound, look_up};
use infera_node::networks::{NetworkSetting, NetworksError};
use infera_protocol::node_api::{AdmissionRule, Checking, ModelOffer, Standing};
use infera_protocol::requirements::{Mark, Requirement};
use infera_protocol::{AccountId, LinkCode, shown};
use serde::Serialize;

use super::remote::{Control, output, probe};
use super::run::identity;
use super::terminal::{Fault, points, print, print_as_it_is, table};
use super::{Key, Show};

/// The node's key is made if there is none. A running node joins at once
#[derive(Args)]
pub(super) struct Join {
    /// The invitation's link, or the network's address
    #[arg(value_name = "LINK|ADDRESS")]
    network: String,
    /// Join without being asked
    #[arg(long)]
    yes: bool,
    /// Make this machine the account's that made this linking code
    #[arg(long, value_name = "CODE")]
    account: Option<LinkCode>,
    #[command(flatten)]
    show: Show,
    #[command(flatten)]
    key: Key,
}

#[derive(Subcommand)]
pub(super) enum NetworkCommand {
    /// List the networks that this node has joined
    List(Show),
    /// Work for another one of them; jobs in progress are handed back
    Use {
        /// As `infera network list` shows it
        address: String,
        #[command(flatten)]
        show: Show,
    },
    /// Save the certificate that the active network made for itself, for clients that ask it
    Certificate {
        /// Where to; it is printed without one
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        show: Show,
    },
    /// Forget one; what was done for it stays in the history
    Leave {
        /// As `infera network list` shows it
        address: String,
        #[command(flatten)]
        show: Show,
    },
}

const NOT_JOINED: &str = "this node has not joined the network; nothing was changed";
const UNCHANGED: &str = "nothing was changed";

pub(super) async fn join(arguments: Join) -> Result<ExitCode, Fault> {
    let Join {
        network,
        yes,
        account,
        show,
        key,
    } = arguments;
    if !yes && (show.json || !io::stdin().is_terminal()) {
        return Err(Fault::with_advice(
            "nobody can be asked whether to join",
            NOT_JOINED,
            "say `--yes` to join without being asked",
        )
        .code(2));
    }
    let agreed = async |found: &LookedUp| {
        if !show.json {
            print_as_it_is(&describe(found))?;
        }
        Ok::<_, Fault>(yes || ask().await)
    };
    let not_joined = |error: &dyn std::error::Error| Fault::new(&error.to_string(), NOT_JOINED);
    match Node::of(&show)? {
        Node::Running(control) => {
            let asked = ByAddress { address: network };
            let found: LookedUp = control.call_slowly("look_up_network", &asked).await?;
            if let Some(fault) = no_network(&found) {
                return Err(fault);
            }
            if !agreed(&found).await? {
                return print("Not joined");
            }
            let mut state: AppState = control.call_slowly("join_network", &asked).await?;
            if let Some(code) = account {
                let code = code.to_string();
                state = control
                    .call_slowly("link_machine", &ByCode { code })
                    .await?;
            }
            let account = Belongs::told(state.account.as_ref(), state.link.is_some());
            joined(&show, found, &state.settings, account, true)
        }
        Node::Resting(data, mut preferences) => {
            let folder = data.folder();
            let roots = folder.certificates(None).map_err(|it| not_joined(&it))?;
            let known = &preferences.settings.networks;
            let found = look_up(&network, roots.as_deref(), known).await;
            let looked_up = LookedUp::new(found.clone(), None);
            if let Some(fault) = no_network(&looked_up) {
                return Err(fault);
            }
            let found = found.map_err(|it| not_joined(&it))?;
            let hardware = probe(folder).await?;
            let looked_up = LookedUp::new(Ok(found.clone()), Some(&hardware));
            if !agreed(&looked_up).await? {
                return print("Not joined");
            }
            let key = identity(folder, &key).await?;
            let standing = found.join(&key).await.map_err(|it| not_let_in(&it))?;
            let network = found.setting(standing, SystemClock.now_ms());
            let settings = &mut preferences.settings;
            settings.join(network).map_err(|it| not_joined(&it))?;
            let waits = account.is_some();
            // The node uses it as soon as it is connected.
            preferences.accounts.code = account.or(preferences.accounts.code.take());
            let written = preferences.write(&folder.settings());
            written.map_err(|it| not_joined(&it))?;
            let account = waits.then_some(Belongs::Waiting);
            joined(&show, looked_up, &preferences.settings, account, false)
        }
    }
}

pub(super) async fn network(command: NetworkCommand) -> Result<ExitCode, Fault> {
    match command {
        NetworkCommand::List(show) => {
            let settings = Node::of(&show)?.settings().await?;
            output(&show, &Networks::of(&settings), list)
        }
        NetworkCommand::Use { address, show } => {
            let node = Node::of(&show)?;
            let settings = node.change("choose_network", address, Settings::choose);
            output(&show, &Networks::of(&settings.await?), list)
        }
        NetworkCommand::Certificate { file, show } => {
            let text: String = Control::of(&show)?.call("network_certificate", &()).await?;
            let Some(file) = file else {
                return print(text.trim_end());
            };
            fs::write(&file, text).map_err(|error| {
                Fault::with_advice(
                    &format!("{} cannot be written: {error}", file.display()),
                    "the certificate was not saved",
                    "name a file in a folder that you may write",
                )
            })?;
            print(&format!(
                "Saved: `curl --cacert {}` knows the network by it",
                file.display()
            ))
        }
        NetworkCommand::Leave { address, show } => {
            let node = Node::of(&show)?;
            let settings = node.change("leave_network", address, Settings::leave);
            output(&show, &Networks::of(&settings.await?), list)
        }
    }
}

/// The node of a data folder.
enum Node {
    Running(Control),
    /// None runs, and none can while this is held.
    Resting(LockedDataDir, Box<Preferences>),
}

impl Node {
    fn of(show: &Show) -> Result<Self, Fault> {
        let folder = show.data.folder()?;
        let fault = |error: &dyn std::error::Error| Fault::new(&error.to_string(), UNCHANGED);
        match folder.lock() {
            Ok(data) => {
                let read = Preferences::read(&folder.settings());
                Ok(Self::Resting(
                    data,
                    Box::new(read.map_err(|it| fault(&it))?),
                ))
            }
            Err(DataDirError::InUse(_)) => Ok(Self::Running(Control::of(show)?)),
            Err(error) => Err(fault(&error)),
        }
    }

    async fn settings(self) -> Result<Settings, Fault> {
        match self {
            Self::Running(control) => Ok(control.call::<AppState>("state", &()).await?.settings),
            Self::Resting(_, preferences) => Ok(preferences.settings),
        }
    }

    async fn change(
        self,
        command: &str,
        address: String,
        change: impl FnOnce(&mut Settings, &str) -> Result<(), NetworksError>,
    ) -> Result<Settings, Fault> {
        match self {
            Self::Running(control) => {
                let state: AppState = control.call(command, &ByAddress { address }).await?;
                Ok(state.settings)
            }
            Self::Resting(data, mut preferences) => {
                let fault =
                    |error: &dyn std::error::Error| Fault::new(&error.to_string(), UNCHANGED);
                change(&mut preferences.settings, &address).map_err(|it| fault(&it))?;
                let written = preferences.write(&data.folder().settings());
                written.map_err(|it| fault(&it))?;
                Ok(preferences.settings)
            }
        }
    }
}

/// What is printed of a join as JSON.
#[derive(Serialize)]
struct Outcome<'a> {
    network: LookedUp,
    joined: Option<&'a NetworkSetting>,
    account: Option<Belongs>,
}

/// Whose this machine is after it was given a linking code.
#[derive(Clone, Copy, Serialize)]
#[serde(tag = "belongs", rename_all = "snake_case")]
enum Belongs {
    Linked { id: AccountId },
    Waiting,
}

impl Belongs {
    fn told(account: Option<&AccountState>, waits: bool) -> Option<Self> {
        if waits {
            return Some(Self::Waiting);
        }
        account.map(|account| Self::Linked { id: account.id })
    }
}

fn joined(
    show: &Show,
    network: LookedUp,
    settings: &Settings,
    account: Option<Belongs>,
    runs: bool,
) -> Result<ExitCode, Fault> {
    let joined = settings.active_network();
    let shown = Outcome {
        network,
        joined,
        account,
    };
    output(show, &shown, |_| {
        let name = joined.map_or("the network", |network| &network.name);
        let next = if runs {
            "this node works for it now"
        } else if settings.models.is_empty() {
            "`infera run --model FILE` begins to work for it"
        } else {
            "`infera run` begins to work for it"
        };
        let account = match account {
            None => String::new(),
            Some(Belongs::Linked { id }) => {
                format!("\nThis machine is one of account {} now", id.short())
            }
            Some(Belongs::Waiting) => {
                "\nThis machine becomes the account's when it first connects".to_owned()
            }
        };
        format!("Joined {name}: {next}{account}")
    })
}

fn not_let_in(error: &NotFound) -> Fault {
    match error {
        NotFound::NoAnswer { .. } => Fault::with_advice(
            &error.to_string(),
            NOT_JOINED,
            "check the address and your network",
        ),
        error => Fault::new(&error.to_string(), NOT_JOINED),
    }
}

/// None where there is one.
fn no_network(found: &LookedUp) -> Option<Fault> {
    match found {
        LookedUp::Network { .. } => None,
        LookedUp::BadAddress { message, .. } | LookedUp::BadInvitation { message, .. } => {
            Some(Fault::new(message, NOT_JOINED))
        }
        LookedUp::Unreachable { url, reason } => Some(Fault::with_advice(
            &format!("the network at {url} cannot be asked: {reason}"),
            NOT_JOINED,
            "check the address and your network",
        )),
    }
}

async fn ask() -> bool {
    ask_for("Join?").await
}

/// On a terminal. What cannot be read is no yes.
pub(super) async fn ask_for(question: &str) -> bool {
    let question = format!("{question} [y/N] ");
    let read = tokio::task::spawn_blocking(move || {
        let mut error = io::stderr();
        let _ = error.write_all(question.as_bytes());
        let _ = error.flush();
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        read.is_ok() && is_yes(&line)
    });
    read.await.unwrap_or(false)
}

fn is_yes(line: &str) -> bool {
    ["y", "yes"].contains(&&*line.trim().to_ascii_lowercase())
}

/// Everything that a person should know before.
fn describe(found: &LookedUp) -> String {
    let LookedUp::Network {
        url,
        name,
        operator,
        rules,
        checking,
        admission,
        nodes,
        references,
        references_needed,
        fingerprint,
        invitation,
        requirements,
        models,
    } = found
    else {
        return String::new();
    };
    let mut rows = vec![("Network", name.clone()), ("Address", url.clone())];
    if fingerprint.is_some() {
        let known = "its certificate is known by the invitation's fingerprint";
        rows.push(("", known.to_owned()));
    }
    let operator = operator.as_deref().unwrap_or("its operator does not say");
    rows.push(("Run by", operator.to_owned()));
    for (number, line) in rules.iter().flat_map(|rules| rules.lines()).enumerate() {
        rows.push((if number == 0 { "Rules" } else { "" }, line.to_owned()));
    }
    rows.push(("Nodes", format!("{nodes} now")));
    rows.push((
        "Checking",
        checks(*checking, *references, *references_needed),
    ));
    rows.push(("You", standing(invitation.as_ref(), *admission)));
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(title, text)| vec![title.to_owned(), text])
        .collect();
    let parts = [table(&rows, &[]), offers(models), machine(requirements)];
    parts.join("\n\n")
}

fn checks(checking: Checking, references: u32, needed: u32) -> String {
    match checking {
        Checking::None => {
            "none: the operator trusts every node, and answers say \"not checked\"".to_owned()
        }
        Checking::Always if references < needed => format!(
            "by reference nodes, of which there are {references} of {needed}: answers wait for the others' checks"
        ),
        Checking::Always => format!("by reference nodes, of which there are {references}"),
    }
}

fn standing(invitation: Option<&InvitationTerms>, admission: AdmissionRule) -> String {
    let Some(terms) = invitation else {
        return match admission {
            AdmissionRule::Open => "an ordinary node; everybody may join",
            AdmissionRule::Work => {
                "an ordinary node; everybody may join, after some seconds of work for it"
            }
            AdmissionRule::Invitation => {
                "new nodes need an invitation here: without one no jobs come"
            }
        }
        .to_owned();
    };
    let mut parts = vec![called(terms.standing).to_owned()];
    if let Some(uses) = terms.uses_left {
        parts.push(format!("the invitation is good for {uses} more"));
    }
    if let Some(end) = terms.expires_ms {
        parts.push(format!("it ends {}", SystemClock.describe(end)));
    }
    parts.join("; ")
}

fn called(standing: Standing) -> &'static str {
    match (standing.trusted, standing.reference) {
        (false, false) => "an ordinary node",
        (true, false) => "a trusted node",
        (false, true) => "a reference node: it checks others' answers in place of taking jobs",
        (true, true) => {
            "a trusted reference node: it checks others' answers in place of taking jobs"
        }
    }
}

fn offers(models: &[ModelOffer]) -> String {
    if models.is_empty() {
        return "It serves no model now".to_owned();
    }
    let titles = ["Model", "Context", "1,000 tokens in", "1,000 tokens out"];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    rows.extend(models.iter().map(|offer| {
        let price = |micro: i64| format!("{} points", points(micro.saturating_mul(1000)));
        vec![
            offer.name.clone(),
            offer.context_tokens.to_string(),
            price(offer.price.input),
            price(offer.price.output),
        ]
    }));
    table(&rows, &[1, 2, 3])
}

/// What this machine lacks.
fn machine(requirements: &[Requirement]) -> String {
    if requirements.is_empty() {
        return "This machine has not been looked at yet: see `infera check`".to_owned();
    }
    let failed: Vec<_> = requirements
        .iter()
        .filter(|row| row.mark == Mark::Fail)
        .collect();
    if failed.is_empty() {
        return "This machine has what the network asks for".to_owned();
    }
    let mut lines = vec!["This machine does not have what the network asks for:".to_owned()];
    for row in failed {
        lines.push(format!(
            "  {}: needs {}, found {}",
            row.title(),
            shown::line(&row.need.to_string()),
            shown::line(&row.found.to_string())
        ));
        lines.extend(row.remedy().map(|remedy| format!("    {remedy}")));
    }
    lines.join("\n")
}

/// What is shown of the networks.
#[derive(Serialize)]
struct Networks {
    active: Option<String>,
    networks: Vec<NetworkSetting>,
}

impl Networks {
    fn of(settings: &Settings) -> Self {
        Self {
            active: settings.balancer.clone(),
            networks: settings.networks.clone(),
        }
    }
}

fn list(shown: &Networks) -> String {
    if shown.networks.is_empty() {
        return "No network yet: `infera join LINK` joins one by its invitation".to_owned();
    }
    let rows: Vec<_> = shown
        .networks
        .iter()
        .map(|network| {
            let active = shown.active.as_ref() == Some(&network.address);
            let what = match (network.standing.trusted, network.standing.reference) {
                (false, false) => "",
                (true, false) => "trusted",
                (false, true) => "reference",
                (true, true) => "trusted, reference",
            };
            vec![
                if active { "active" } else { "" }.to_owned(),
                network.name.clone(),
                network.address.clone(),
                what.to_owned(),
            ]
        })
        .collect();
    let mut text = table(&rows, &[]);
    if shown.active.is_none() {
        text +=
            "\n\nNone is active, and no jobs come: choose one with `infera network use ADDRESS`";
    }
    text
}

#[cfg(test)]
mod tests {
    use infera_protocol::requirements::{Amount, RequirementId};
    use infera_protocol::{Fingerprint, ModelId};

    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        for (line, yes) in [
            ("y\n", true),
            (" YES \r\n", true),
            ("\n", false),
            ("n\n", false),
            ("yess", false),
            ("", false),
        ] {
            assert_eq!(is_yes(line), yes, "{line:?}");
        }
    }

    fn found() -> LookedUp {
        LookedUp::Network {
            url: "https://192.168.1.5:8431".to_owned(),
            name: "Lab".to_owned(),
            operator: Some("Ada".to_owned()),
            rules: Some("Be kind.\nAt night only.".to_owned()),
            checking: Checking::Always,
            admission: AdmissionRule::Invitation,
            nodes: 3,
            references: 1,
            references_needed: 2,
            fingerprint: Some(Fingerprint::from_bytes([7; 32])),
            invitation: Some(InvitationTerms {
                standing: Standing {
                    trusted: true,
                    reference: false,
                },
                uses_left: Some(9),
                expires_ms: None,
            }),
            requirements: vec![Requirement {
                id: RequirementId::Ram,
                need: Amount::Memory { bytes: 8 << 30 },
                found: Amount::Memory { bytes: 6 << 30 },
                mark: Mark::Fail,
            }],
            models: vec![ModelOffer {
                model: ModelId::from_bytes([1; 32]),
                name: "tiny".to_owned(),
                price: infera_protocol::node_api::Price {
                    input: 100,
                    output: 400,
                },
                context_tokens: 4096,
            }],
        }
    }

    #[test]
    fn a_person_sees_all_of_it_before() {
        let expected = "\
Network   Lab
Address   https://192.168.1.5:8431
          its certificate is known by the invitation's fingerprint
Run by    Ada
Rules     Be kind.
          At night only.
Nodes     3 now
Checking  by reference nodes, of which there are 1 of 2: answers wait for the others' checks
You       a trusted node; the invitation is good for 9 more

Model  Context  1,000 tokens in  1,000 tokens out
tiny      4096       0.1 points        0.4 points

This machine does not have what the network asks for:
  Memory (RAM): needs 8 GB, found 6 GB
    Add memory, or join a network that asks for less";
        assert_eq!(describe(&found()), expected);
    }

    #[test]
    fn what_becomes_of_a_node_as_a_table() {
        for (admission, words) in [
            (AdmissionRule::Open, "everybody may join"),
            (AdmissionRule::Work, "seconds of work"),
            (AdmissionRule::Invitation, "need an invitation"),
        ] {
            let text = standing(None, admission);
            assert!(text.contains(words), "{text}");
        }
        assert!(checks(Checking::None, 0, 0).contains("not checked"));
        assert!(checks(Checking::Always, 2, 2).ends_with("there are 2"));
        assert!(machine(&[]).contains("infera check"));
    }

    #[test]
    fn networks_of_one_name_are_told_apart_by_their_addresses() {
        let network = |address: &str| NetworkSetting {
            name: "Lab".to_owned(),
            ..NetworkSetting::at(address, 0)
        };
        let mut shown = Networks {
            active: Some("https://b.example".to_owned()),
            networks: vec![network("https://a.example"), network("https://b.example")],
        };
        shown.networks[0].standing.reference = true;
        assert_eq!(
            list(&shown),
            "        Lab  https://a.example  reference\nactive  Lab  https://b.example"
        );
        shown.active = None;
        assert!(list(&shown).contains("None is active"));
        shown.networks.clear();
        assert!(list(&shown).starts_with("No network yet"));
    }
}
