//! The commands of `infera-balancer`.

mod invite;
mod next_steps;
mod up;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use infera_model::rendering::{self, Limits, RenderError, Renderer};
use infera_model::{ChatMessage, Gguf, Head, Kind, ModelError};
use infera_protocol::node_api::{Checking, ModelOffer, Price};
use infera_protocol::requirements::Policy;
use infera_protocol::{MICRO_POINTS, NodeId, Profile, Route, shown};
use infera_terminal::{end_asked, has_colour};
use serde::Serialize;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::catalog::{self, Catalog, CatalogError, UnusableModel};
use crate::certificate::{self, CertificateError};
use crate::config::{self, Config, ConfigError};
use crate::db::{Database, DbError};
use crate::dispatch::Balancer;
use crate::edges::Edges;
use crate::invitations::InvitationError;
use crate::keys::{self, Client, KeyError};
use crate::ledger::{self, points};
use crate::operator::keys::OperatorKeyError;
use crate::operator::log::Act;
use crate::operator::{self, NodeAct};
use crate::private;
use crate::server::{self, ServeError, Server, Tls};
use crate::store::{self, NodeRow};
use next_steps::{Standpoint, next_steps};

/// The load balancer of an Infera network
#[derive(Parser)]
#[command(name = "infera-balancer", version)]
struct Arguments {
    /// Folder of the database [default: the user's data folder]
    #[arg(long, global = true, env = "INFERA_BALANCER_DATA")]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Begin a network and run it; later, run it as its folder says
    Up(Box<up::Up>),
    /// Run the balancer, for those who set everything themselves
    Serve(Serve),
    /// Make, list and take back invitations to join
    #[command(subcommand)]
    Invite(invite::InviteCommand),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Add, list and remove models
    #[command(subcommand)]
    Model(ModelCommand),
    /// List nodes, and say which are reference nodes
    #[command(subcommand)]
    Node(NodeCommand),
    /// Make, list and revoke the keys of those who run the network, for its page at `/operator`
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Show every account's balance, and the sum, which is zero
    Ledger {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a script that lets a shell complete these commands
    Completions { shell: clap_complete::Shell },
    #[command(hide = true)]
    Render,
}

#[derive(clap::Args)]
struct Serve {
    /// Address and port; port 0 takes a free one [default: the settings', or 127.0.0.1:8431]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// What nodes must have: `public`, `practice`, or a JSON file [default: the settings', or public]
    #[arg(long)]
    policy: Option<String>,
    /// Certificate chain as a PEM file
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key as a PEM file
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// How long a node may go without sending output before its job goes to another
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    lease_ms: Option<u64>,
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a key and print it, this one time
    Create {
        name: String,
        /// How many points it may spend in all, or `unlimited`
        #[arg(long, default_value = "1000", value_name = "POINTS")]
        limit: Limit,
        /// Where its requests may go: `any` node, or only those that you trust (`trusted`)
        #[arg(long, default_value = "any")]
        route: Route,
    },
    /// Show all keys: names, limits, and whether they are in use
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a key back; its requests are refused from now on
    Revoke { name: String },
}

/// How many points a key may spend. Only who says so gives an unlimited one away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Points(u32),
    Unlimited,
}

impl FromStr for Limit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        text.parse()
            .map(Self::Points)
            .map_err(|_| "a number of whole points, or `unlimited`")
    }
}

#[derive(Subcommand)]
enum ModelCommand {
    /// Serve a model, or change its prices; prints the model's id
    Add {
        file: PathBuf,
        /// How nodes compute it: P32, or P16 with the KV cache in half the memory
        #[arg(long, default_value_t)]
        profile: Profile,
        /// What clients call it
        #[arg(long)]
        name: String,
        /// Micro-points per prompt token
        #[arg(long)]
        input_price: i64,
        /// Micro-points per output token
        #[arg(long)]
        output_price: i64,
    },
    /// Show the models that are served, with their prices
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve a model no longer; jobs that run go on
    Remove { name: String },
}

#[derive(Subcommand)]
enum OperatorCommand {
    /// Make a key and print it, this one time
    Create { name: String },
    /// Show all keys: names, whether they are in use, and when they were last used
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a key back; who is signed in with it is signed out at once
    Revoke { name: String },
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Trust a node: its answers may go out unchecked
    Trust {
        node: NodeId,
        /// Let it check other nodes' outputs, as a reference node, instead
        #[arg(long)]
        reference: bool,
    },
    /// Make it an ordinary node again, neither trusted nor a reference
    Untrust { node: NodeId },
    /// Keep a node out, whatever it is; its owner is told why
    Ban {
        node: NodeId,
        /// Why, in a few words
        #[arg(long)]
        reason: String,
        /// For how long, as `30m`, `12h`, `7d`, or `never` for no end
        #[arg(long = "for", default_value = "never", value_name = "TIME")]
        life: invite::Lifetime,
    },
    /// Let a node in again
    Unban { node: NodeId },
    /// Show all nodes that have joined, with their records
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "A key of yours belongs to no account, so no nodes are its own. `infera key create` makes a key of an account's"
    )]
    NoOwnNodes,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    OperatorKey(#[from] OperatorKeyError),
    #[error("{0}")]
    BadReason(String),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Renderer(#[from] RenderError),
    #[error("The model is not served. {0} Get another file of this model")]
    Template(#[source] RenderError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    #[error("No invitation can be made before it is known how others reach the balancer. Add a line like address = \"https://HOST:PORT\" to {}", .0.display())]
    NoAddress(PathBuf),
    #[error("This network checks no answers, so nobody joins it to check them. Invite with --trusted, or set checking = \"always\" in {}", .0.display())]
    NothingToCheck(PathBuf),
    #[error(
        "This machine has no address on a network. Name one that others reach it by with --address, or keep to this machine with --listen 127.0.0.1:8431"
    )]
    NoNetworkAddress,
    #[error(
        "`up` encrypts all connections, and {0} is without. Name an address that begins with https://"
    )]
    PlainAddress(String),
    #[error("--{option} `{given}` is not what this network has: {} sets {set}. Change it there, or leave the option out", file.display())]
    Contradicts {
        option: &'static str,
        given: String,
        set: String,
        file: PathBuf,
    },
    #[error("No data folder is known for this user. Name one with --data")]
    NoDataFolder,
    #[error("There is no network in {} yet. `up` begins one; or name another folder with --data", .0.display())]
    NoNetwork(PathBuf),
    #[error("Another balancer runs on the data folder {}. End it, or choose another with --data", .0.display())]
    AlreadyRunning(PathBuf),
    #[error("The data folder {} cannot be locked: {source}", folder.display())]
    Lock {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("The output could not be written: {0}")]
    Output(#[from] io::Error),
    #[error(
        "The ledger sums to {0} micro-points instead of zero. Stop the balancer and keep a copy of the database: this is a fault in the program"
    )]
    Unbalanced(i64),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Render = arguments.command {
        return rendering::child::run(io::stdin(), io::stdout());
    }
    let outcome = tokio::runtime::Runtime::new()
        .map_err(CliError::Output)
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when even this cannot be written.
            let _ = writeln!(io::stderr(), "error: {}", shown::text(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), CliError> {
    let data_option = arguments.data.as_ref().map_or_else(String::new, |folder| {
        format!(" --data {}", quoted(&folder.to_string_lossy()))
    });
    let folder = match arguments.data {
        // Shown and kept as a whole path, whatever folder this was started in.
        Some(folder) => std::path::absolute(folder)?,
        None => directories::ProjectDirs::from("", "", "infera-balancer")
            .ok_or(CliError::NoDataFolder)?
            .data_dir()
            .to_owned(),
    };
    match arguments.command {
        Command::Up(up) => up::run(&folder, *up, &data_option).await,
        Command::Serve(serve) => run_server(&folder, serve, &data_option).await,
        Command::Invite(command) => invite::run(&folder, command).await,
        Command::Key(command) => run_key(&folder, command).await,
        Command::Model(command) => run_model(&folder, command).await,
        Command::Node(command) => run_node(&folder, command).await,
        Command::Operator(command) => run_operator(&folder, command).await,
        Command::Ledger { json } => show_ledger(&folder, json).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let mut program = Arguments::command();
            clap_complete::generate(shell, &mut program, "infera-balancer", &mut script);
            write(&String::from_utf8_lossy(&script))
        }
        // Handled before: it must not have these threads around it.
        Command::Render => Ok(()),
    }
}

async fn run_server(folder: &Path, options: Serve, data_option: &str) -> Result<(), CliError> {
    start_logs(options.log_format);
    let mut config = Config::load(folder)?;
    if let Some(lease_ms) = options.lease_ms {
        config.lease = Duration::from_millis(lease_ms);
    }
    let policy = config::policy(options.policy.as_deref().unwrap_or(&config.requirements))?;
    let tls = options.tls_cert.zip(options.tls_key);
    let tls = tls.map(|(certificate, key)| Tls { certificate, key });
    let database = Database::open(folder).await?;
    let lock = lock(folder)?;
    if let Some(Tls { certificate, key }) = tls {
        (config.tls_cert, config.tls_key) = (Some(certificate), Some(key));
    }
    let listening = Listening {
        listener: server::listen(options.listen.unwrap_or(config.listen))?,
        tls: config.tls(),
        config,
        policy,
        intro: String::new(),
        key: None,
    };
    serve(folder, database, lock, listening, data_option).await
}

/// A network that is ready to be run.
struct Listening {
    config: Config,
    policy: Policy,
    listener: TcpListener,
    tls: Option<Tls>,
    /// What a network that has just begun was given, said before what to do next.
    intro: String,
    /// A key that was just made, to be shown this one time.
    key: Option<String>,
}

/// Runs a network until its process is asked to end.
async fn serve(
    folder: &Path,
    database: Database,
    _lock: File,
    listening: Listening,
    data_option: &str,
) -> Result<(), CliError> {
    let Listening {
        config,
        policy,
        listener,
        tls,
        intro,
        key,
    } = listening;
    let is_new = !intro.is_empty();
    let own_certificate = tls
        .as_ref()
        .filter(|tls| certificate::is_own(folder, tls))
        .map(|tls| tls.certificate.clone());
    let renderer = Renderer::of_this_program(config.templates())?;
    let edges = Edges::system().with_renderer(renderer);
    let balancer = Balancer::start(database.clone(), config.clone(), policy, edges).await?;
    let server = Server::on(balancer, listener, tls).await?;
    let end = end_asked();
    let address = server.address()?;
    let here = Standpoint {
        config: &config,
        address,
        data_option,
        key: key.as_deref(),
        is_new,
        own_certificate: own_certificate.as_deref(),
    };
    let next = next_steps(&database, &here).await?;
    let operators = server.operators_address()?;
    let operators = operators.map_or_else(String::new, |own| format!("Operators' page on {own}\n"));
    print(&format!("Listening on {address}\n{operators}{intro}{next}"))?;
    if !address.tls && !address.socket.ip().is_loopback() {
        tracing::warn!(
            "prompts, answers and keys cross the network unencrypted: give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a reverse proxy with TLS"
        );
    }
    server.run(end).await?;
    database.close().await;
    tracing::info!("ended");
    Ok(())
}

/// As one word of a shell's command line.
fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

async fn run_key(folder: &Path, command: KeyCommand) -> Result<(), CliError> {
    let begins = matches!(command, KeyCommand::Create { .. });
    let database = open(folder, begins).await?;
    match command {
        KeyCommand::Create { name, limit, route } => {
            if route == Route::Own {
                return Err(CliError::NoOwnNodes);
            }
            let limit = match limit {
                Limit::Points(points) => Some(i64::from(points) * MICRO_POINTS),
                Limit::Unlimited => None,
            };
            let client = Client {
                route,
                ..Client::of_operator(&name, limit)
            };
            let key = keys::create(&database, &Edges::system(), &client).await?;
            let detail = limit.map_or_else(|| "unlimited".to_owned(), points);
            print(&format!("{key}\n"))?;
            note(&database, Act::CreateKey, &name, &detail).await
        }
        KeyCommand::Revoke { name } => {
            keys::revoke(&database, &name, Edges::system().now_ms()).await?;
            note(&database, Act::RevokeKey, &name, "").await
        }
        KeyCommand::List { json } => {
            let rows = keys::list(&database).await?;
            print_list(json, &rows, |row| {
                let limit = row
                    .limit_micro
                    .map_or_else(|| "unlimited".to_owned(), points);
                let state = if row.revoked_ms.is_some() {
                    "revoked"
                } else {
                    "in use"
                };
                format!("{:<24} {limit:>16}  {state}", row.name)
            })
        }
    }
}

async fn run_model(folder: &Path, command: ModelCommand) -> Result<(), CliError> {
    let begins = matches!(command, ModelCommand::Add { .. });
    let database = open(folder, begins).await?;
    match command {
        ModelCommand::Add {
            file,
            profile,
            name,
            input_price,
            output_price,
        } => {
            let head = Head::from_gguf(&Gguf::open(&file)?)?;
            let price = Price {
                input: input_price,
                output: output_price,
            };
            let now_ms = Edges::system().now_ms();
            try_template(&head, Config::load(folder)?.templates(), now_ms)?;
            let id = catalog::add(&database, &head, profile, &name, price, now_ms).await?;
            print(&format!("{id}\n"))?;
            let detail = format!("{input_price} / {output_price}");
            note(&database, Act::AddModel, &name, &detail).await
        }
        ModelCommand::Remove { name } => {
            catalog::remove(&database, &name, Edges::system().now_ms()).await?;
            note(&database, Act::RemoveModel, &name, "").await
        }
        ModelCommand::List { json } => {
            let catalog = Catalog::default();
            catalog.refresh(&database).await?;
            let served = catalog.list();
            let served = served.iter().map(|model| ModelRow::Served {
                offer: model.offer(),
                profile: model.profile,
            });
            let unusable = catalog.unusable().into_iter().map(ModelRow::Unusable);
            let rows: Vec<_> = served.chain(unusable).collect();
            print_list(json, &rows, |row| match row {
                ModelRow::Served { offer, profile } => format!(
                    "{:<32} {} {profile}  {} / {} micro-points per input / output token, context {}",
                    offer.name,
                    offer.model,
                    offer.price.input,
                    offer.price.output,
                    offer.context_tokens
                ),
                ModelRow::Unusable(UnusableModel { model, name, fault }) => {
                    format!("{name:<32} {model} not served  {fault}")
                }
            })
        }
    }
}

/// Has the model's template applied to a sample, so that one that fails is known before clients meet
/// it. What clients will not be able to say is warned of.
fn try_template(head: &Head, limits: Limits, now_ms: i64) -> Result<(), CliError> {
    let template = match head.chat_template() {
        Ok(template) => template,
        // Embedders hold no conversations.
        Err(_) if matches!(head.kind(), Kind::Embedder(_)) => return Ok(()),
        Err(_) => {
            warn(
                "The file has no chat template: the model is served for plain completions only, and chats with it are refused",
            );
            return Ok(());
        }
    };
    let renderer = Renderer::of_this_program(limits)?;
    let now = UNIX_EPOCH + Duration::from_millis(now_ms.max(0) as u64);
    let asked = "Hello";
    let said = |role: &str| ChatMessage::new(role, asked);
    let samples: [(&str, &[ChatMessage]); 3] = [
        ("a question", &[said("user")]),
        ("a conversation", &["user", "assistant", "user"].map(said)),
        ("a system message", &["system", "user"].map(said)),
    ];
    for (what, messages) in samples {
        match renderer.render(template, messages, true, now) {
            Ok(text) if text.contains(asked) => {}
            Ok(_) => warn(&format!(
                "The model's chat template leaves out what is said in {what}: the model will not see it"
            )),
            Err(RenderError::Model(error @ ModelError::MessagesRefused { .. })) => {
                warn(&format!(
                    "The model's chat template refuses {what}: {error}"
                ));
            }
            Err(error @ RenderError::Model(_)) => return Err(CliError::Template(error)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Beside a command's result.
fn warn(text: &str) {
    // Nothing is left to do when even this cannot be written.
    let _ = writeln!(io::stderr(), "warning: {}", shown::text(text));
}

/// A line of `model list`.
#[derive(Serialize)]
#[serde(untagged)]
enum ModelRow {
    Served {
        #[serde(flatten)]
        offer: ModelOffer,
        profile: Profile,
    },
    Unusable(UnusableModel),
}

async fn run_node(folder: &Path, command: NodeCommand) -> Result<(), CliError> {
    let begins = matches!(command, NodeCommand::Trust { .. });
    let database = open(folder, begins).await?;
    let now_ms = Edges::system().now_ms();
    let (node, act) = match command {
        NodeCommand::Trust { node, reference } if reference => (node, NodeAct::Appoint),
        NodeCommand::Trust { node, .. } => (node, NodeAct::Trust),
        NodeCommand::Untrust { node } => (node, NodeAct::Demote),
        NodeCommand::Unban { node } => (node, NodeAct::Unban),
        NodeCommand::Ban { node, reason, life } => {
            let reason = operator::read_reason(&reason).map_err(CliError::BadReason)?;
            let until_ms = life.until(now_ms);
            (node, NodeAct::Ban { until_ms, reason })
        }
        NodeCommand::List { json } => {
            let checking = Config::load(folder)?.checking;
            let rows = store::nodes(&database).await?;
            return print_list(json, &rows, |row| node_line(row, checking));
        }
    };
    Ok(operator::act(&database, node, &act, None, now_ms).await?)
}

async fn run_operator(folder: &Path, command: OperatorCommand) -> Result<(), CliError> {
    let begins = matches!(command, OperatorCommand::Create { .. });
    let database = open(folder, begins).await?;
    let edges = Edges::system();
    match command {
        OperatorCommand::Create { name } => {
            let key = operator::keys::create(&database, &edges, &name).await?;
            print(&format!("{key}\n"))
        }
        OperatorCommand::Revoke { name } => {
            Ok(operator::keys::revoke(&database, &name, edges.now_ms()).await?)
        }
        OperatorCommand::List { json } => {
            let rows = operator::keys::list(&database).await?;
            let now_ms = edges.now_ms();
            print_list(json, &rows, |row| {
                let state = if row.revoked_ms.is_some() {
                    "revoked"
                } else {
                    "in use"
                };
                let used = row.last_used_ms.map_or_else(
                    || "never used".to_owned(),
                    |used| format!("used {} ago", invite::span(now_ms - used)),
                );
                format!("{:<24} {state:<8} {used}", row.name)
            })
        }
    }
}

/// Writes into the operators' log what was done here.
async fn note(database: &Database, act: Act, whom: &str, detail: &str) -> Result<(), CliError> {
    let now_ms = Edges::system().now_ms();
    Ok(operator::log::add(database, None, act, whom, detail, now_ms).await?)
}

fn node_line(row: &NodeRow, checking: Checking) -> String {
    let role = match (row.reference, row.trusted) {
        (true, false) => "reference",
        (true, true) => "reference, trusted",
        (false, true) => "trusted",
        (false, false) => "worker",
    };
    let mut line = format!(
        "{} {role:<10} {} verified, {} failed",
        row.node, row.verified, row.failures
    );
    if row.audits > 0 {
        let (all, met) = (row.canaries_met + row.canaries_missed, row.canaries_met);
        let _ = write!(
            line,
            "; {} audits, {} contradicted, {met} of {all} canaries met",
            row.audits, row.outvoted
        );
    }
    if let Some(why) = &row.role_lost {
        let _ = write!(line, "; no reference any more: {why}");
    }
    if checking == Checking::None && !row.trusted {
        line.push_str(
            "; gets no jobs, because this network checks none and it is not trusted (`node trust`)",
        );
    }
    line
}

async fn show_ledger(folder: &Path, json: bool) -> Result<(), CliError> {
    let database = open(folder, false).await?;
    let trial = ledger::trial_balance(&database).await?;
    if json {
        print_json(&json!(trial))?;
    } else {
        for account in &trial.accounts {
            print(&format!(
                "{:<80} {:>20}\n",
                account.account,
                points(account.balance)
            ))?;
        }
        print(&format!("{:<80} {:>20}\n", "sum", points(trial.sum)))?;
    }
    if trial.sum == 0 {
        Ok(())
    } else {
        Err(CliError::Unbalanced(trial.sum))
    }
}

/// The database. What only looks makes none: it would be looking in the wrong folder.
async fn open(folder: &Path, begins: bool) -> Result<Database, CliError> {
    if !begins && !Database::is_in(folder) {
        return Err(CliError::NoNetwork(folder.to_owned()));
    }
    Ok(Database::open(folder).await?)
}

/// Two balancers on one folder would both hand out the same jobs.
fn lock(folder: &Path) -> Result<File, CliError> {
    let fault = |source| CliError::Lock {
        folder: folder.to_owned(),
        source,
    };
    let path = folder.join("serve.lock");
    private::file(&path).map_err(fault)?;
    let file = File::create(path).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(CliError::AlreadyRunning(folder.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(fault(source)),
    }
}

fn start_logs(format: LogFormat) {
    let filter = EnvFilter::try_from_env("INFERA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let has_colour = has_colour(&io::stderr());
    let form = match format {
        LogFormat::Text if has_colour => shown::Form::Coloured,
        LogFormat::Text => shown::Form::Text,
        LogFormat::Json => shown::Form::Json,
    };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || shown::Writer::new(io::stderr(), form))
        .with_ansi(has_colour);
    match format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
}

fn print_list<T: Serialize>(
    json: bool,
    rows: &[T],
    line: impl Fn(&T) -> String,
) -> Result<(), CliError> {
    if json {
        return print_json(&json!(rows));
    }
    rows.iter()
        .try_for_each(|row| print(&format!("{}\n", shown::line(&line(row)))))
}

fn print_json(value: &serde_json::Value) -> Result<(), CliError> {
    write(&format!("{}\n", shown::json(&value.to_string())))
}

fn print(text: &str) -> Result<(), CliError> {
    write(&shown::text(text))
}

fn write(text: &str) -> Result<(), CliError> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_key_has_a_limit_unless_its_maker_says_unlimited() {
        let limit = |arguments: &[&str]| {
            let words = ["infera-balancer", "key", "create", "ann"];
            let parsed = Arguments::try_parse_from(words.iter().chain(arguments)).ok()?;
            match parsed.command {
                Command::Key(KeyCommand::Create { limit, .. }) => Some(limit),
                _ => None,
            }
        };
        assert_eq!(limit(&[]), Some(Limit::Points(1000)));
        assert_eq!(limit(&["--limit", "5"]), Some(Limit::Points(5)));
        assert_eq!(limit(&["--limit", "unlimited"]), Some(Limit::Unlimited));
        for wrong in ["", "-1", "none", "1.5"] {
            assert_eq!(limit(&["--limit", wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_to_be_copied_is_one_word_for_a_shell() {
        assert_eq!(quoted("/srv/b-1"), "/srv/b-1");
        assert_eq!(quoted("my data"), "'my data'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn why_a_node_gets_no_jobs_is_in_its_line() {
        let mut row = NodeRow::unknown(NodeId::from_bytes([1; 32]));
        assert!(!node_line(&row, Checking::Always).contains("no jobs"));
        assert!(node_line(&row, Checking::None).contains("no jobs"));
        row.trusted = true;
        let line = node_line(&row, Checking::None);
        assert!(
            line.contains(" trusted ") && !line.contains("no jobs"),
            "{line}"
        );
    }
}
