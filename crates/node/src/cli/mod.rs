//! The commands of `infera`.

mod account;
mod bench;
mod chat;
mod config;
mod duration;
mod earnings;
mod fleet;
mod join;
mod key;
mod local_engine;
mod log;
mod model;
mod remote;
mod rules;
mod run;
mod terminal;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use infera_engine::child::{self, Confine};
use infera_engine::message::DeviceChoice;
use infera_model::rendering;
use infera_node::data_dir::DataDir;
use infera_node::logging;

use self::duration::parse_duration;
use self::terminal::Fault;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it failed; standard error says what happened and what to do
  2  the command line is wrong
  3  no node is running in the data folder
  4  a hardware requirement is not met (check)
  5  the balancer speaks another version (run)
  6  no model could be loaded (run)";

/// Answer AI requests with this machine's idle GPU, and earn points
#[derive(Parser)]
#[command(name = "infera", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node
    Run(Run),
    /// Look at a network, and join it by its invitation or its address
    Join(join::Join),
    /// List the networks that this node has joined, choose another one, or leave one
    #[command(subcommand)]
    Network(join::NetworkCommand),
    /// Show the account that this machine belongs to, make, restore or remove one, and link machines
    #[command(args_conflicts_with_subcommands = true)]
    Account {
        #[command(flatten)]
        show: Show,
        #[command(subcommand)]
        command: Option<account::AccountCommand>,
    },
    /// Make, list and revoke keys that spend the account's points
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Show what the account's keys spent, by day, key and model
    Spending {
        /// How many days, today included
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=92))]
        days: u32,
        #[command(flatten)]
        show: Show,
    },
    /// Show the account's machines, and pause or resume them
    #[command(args_conflicts_with_subcommands = true)]
    Fleet {
        #[command(flatten)]
        show: Show,
        #[command(subcommand)]
        command: Option<fleet::FleetCommand>,
    },
    /// Print the node's id; makes the identity if there is none
    Id {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        key: Key,
    },
    /// Show what the node does, and why
    Status(Show),
    /// Take no more jobs, until `resume` or for a while
    Pause {
        /// For how long: 15m, 4h, 1h30m
        #[arg(value_parser = parse_duration)]
        duration: Option<Duration>,
        /// Finish the jobs in progress first
        #[arg(long)]
        finish: bool,
        /// Only this device, until it is resumed: its id or number in `infera status`
        #[arg(long, conflicts_with_all = ["duration", "finish"])]
        device: Option<String>,
        #[command(flatten)]
        show: Show,
    },
    /// Take jobs again
    Resume {
        /// Whatever the rules say, for so long: 15m, 4h [default: 1h]
        #[arg(long, value_name = "DURATION", value_parser = parse_duration,
              num_args = 0..=1, default_missing_value = "1h")]
        anyway: Option<Duration>,
        /// Only this device: its id or number in `infera status`
        #[arg(long, conflicts_with = "anyway")]
        device: Option<String>,
        #[command(flatten)]
        show: Show,
    },
    /// Show when the node leaves the machine to you, and what it sees, or choose a preset
    #[command(args_conflicts_with_subcommands = true)]
    Rules {
        preset: Option<rules::PresetName>,
        #[command(flatten)]
        show: Show,
        #[command(subcommand)]
        command: Option<rules::RulesCommand>,
    },
    /// Compare this machine with what the network asks for
    Check {
        /// Ask this network [default: that of the running node, or the one used last]
        #[arg(long, value_name = "URL", env = "INFERA_BALANCER")]
        balancer: Option<String>,
        /// Trust the certificates in this PEM file too, for a balancer of your own
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        #[command(flatten)]
        show: Show,
    },
    /// List the work done, newest first
    History {
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        show: Show,
    },
    /// Show the points earned
    Points(Show),
    /// Show the points earned, and what the electricity for them cost
    Earnings(Show),
    /// List, get and remove models
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Show all settings or one, or change one
    Config {
        name: Option<String>,
        /// As JSON, or a text
        value: Option<String>,
        #[command(flatten)]
        show: Show,
    },
    /// Show the newest lines of the log
    Log {
        /// How many
        #[arg(long, short = 'n', default_value_t = 100)]
        lines: usize,
        #[command(flatten)]
        data: Data,
    },
    /// Print a script that lets a shell complete these commands
    Completions { shell: clap_complete::Shell },
    /// Write manual pages into a folder
    #[command(hide = true)]
    Man { folder: PathBuf },
    /// Chat with a model on this machine; nothing leaves it
    Chat(chat::Chat),
    /// Measure a model on this machine
    Bench(bench::Bench),
    #[command(hide = true)]
    Engine {
        #[arg(long)]
        quiet: bool,
    },
    #[command(hide = true)]
    Render,
}

#[derive(Args)]
struct Data {
    /// The node's data folder [default: the user's]
    #[arg(long = "data", value_name = "DIR", env = "INFERA_DATA")]
    folder: Option<PathBuf>,
}

#[derive(Args)]
struct Key {
    /// Keep the identity in this file instead of the keychain; only its owner may read it
    #[arg(long, value_name = "FILE", env = "INFERA_KEY_FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Args)]
struct Show {
    #[command(flatten)]
    data: Data,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is given is kept in the data folder, so that the next run needs it no more
#[derive(Args)]
struct Run {
    /// The balancer's address [default: the active network's]
    #[arg(long, value_name = "URL", env = "INFERA_BALANCER")]
    balancer: Option<String>,
    /// A model file to serve (GGUF); may be given again [default: as before]
    #[arg(long = "model", value_name = "FILE")]
    models: Vec<PathBuf>,
    /// Where to compute: auto, cpu, or a GPU by its name or a part of it, its number in `infera
    /// check`, or its place on the PCI bus; may be given again, and all of them compute [default: as
    /// before, at first auto]
    #[arg(long = "device", value_name = "DEVICE", value_parser = parse_device)]
    devices: Vec<DeviceChoice>,
    /// How many jobs may run at once, for each model [default: as before, at first 4]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    sequences: Option<u32>,
    /// Limit the context to so many tokens [default: the model's own]
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
    /// Show the window in a browser on this machine; it asks before anything is shared
    #[arg(long)]
    web: bool,
    /// With `--web`: agree to lend this machine's GPU without being asked
    #[arg(long, requires = "web")]
    agree: bool,
    /// Where the control API listens, on this machine only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Trust the certificates in this PEM file too, for a network of your own [default: as before]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    key: Key,
}

pub(crate) fn main() -> ExitCode {
    let command = Arguments::parse().command;
    if let Command::Render = command {
        return rendering::child::run(std::io::stdin(), std::io::stdout());
    }
    let level = match command {
        Command::Run(_) | Command::Engine { quiet: false } => "info",
        _ => "error",
    };
    // What `run` does is looked for later, by a support bundle too.
    let folder = match &command {
        Command::Run(run) => run.data.folder().ok(),
        _ => None,
    };
    logging::start(
        folder.map(|folder| folder.logs()).as_deref(),
        &format!("warn,infera={level},infera_node={level},infera_engine={level}"),
        true,
    );
    if let Command::Engine { .. } = command {
        return child::run(std::io::stdin(), std::io::stdout(), Confine::Process);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return Fault::new(
                &format!("the program cannot start its threads: {error}. Close other programs"),
                "nothing was done",
            )
            .show();
        }
    };
    let result = runtime.block_on(async {
        match command {
            Command::Run(arguments) => run::run(arguments).await,
            Command::Join(arguments) => join::join(arguments).await,
            Command::Network(command) => join::network(command).await,
            Command::Account {
                command: Some(command),
                ..
            } => account::run(command).await,
            Command::Account { show, .. } => account::show(&show).await,
            Command::Key(command) => key::run(command).await,
            Command::Spending { days, show } => key::spending(&show, days).await,
            Command::Fleet { show, command } => fleet::run(&show, command).await,
            Command::Id { data, key } => run::print_id(&data, &key).await,
            Command::Status(show) => remote::status(&show).await,
            Command::Pause {
                device: Some(device),
                show,
                ..
            } => remote::pause_device(&show, &device).await,
            Command::Pause {
                duration,
                finish,
                device: None,
                show,
            } => remote::pause(&show, duration, finish).await,
            Command::Resume {
                device: Some(device),
                show,
                ..
            } => remote::resume_device(&show, &device).await,
            Command::Resume {
                anyway,
                device: None,
                show,
            } => remote::resume(&show, anyway).await,
            Command::Rules {
                command: Some(command),
                ..
            } => rules::run(command).await,
            Command::Rules { preset, show, .. } => rules::rules(&show, preset).await,
            Command::Check {
                balancer,
                ca_file,
                show,
            } => remote::check(&show, balancer, ca_file.as_deref()).await,
            Command::History { limit, show } => remote::history(&show, limit).await,
            Command::Points(show) => remote::points(&show).await,
            Command::Earnings(show) => earnings::earnings(&show).await,
            Command::Model(command) => model::run(command).await,
            Command::Config { name, value, show } => {
                config::config(&show, name.as_deref(), value.as_deref()).await
            }
            Command::Log { lines, data } => log::log(&data, lines),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                let mut program = Arguments::command();
                clap_complete::generate(shell, &mut program, "infera", &mut script);
                terminal::print_as_it_is(String::from_utf8_lossy(&script).trim_end())
            }
            Command::Man { folder } => {
                match clap_mangen::generate_to(Arguments::command(), &folder) {
                    Ok(()) => Ok(ExitCode::SUCCESS),
                    Err(error) => Err(Fault::with_advice(
                        &format!("no pages can be written to {}: {error}", folder.display()),
                        "some may be missing",
                        "name a folder that is there and can be written",
                    )),
                }
            }
            Command::Chat(arguments) => chat::chat(arguments).await,
            Command::Bench(arguments) => bench::bench(arguments).await,
            // Handled above: they must not have these threads around them.
            Command::Engine { .. } | Command::Render => Ok(ExitCode::SUCCESS),
        }
    });
    // A thread that waits for a line of input must not keep the program.
    runtime.shutdown_background();
    result.unwrap_or_else(|fault| fault.show())
}

impl Data {
    fn folder(&self) -> Result<DataDir, Fault> {
        match &self.folder {
            Some(folder) => Ok(DataDir::new(folder)),
            None => DataDir::default_for_user()
                .map_err(|error| Fault::new(&error.to_string(), "the node has no place to work")),
        }
    }
}

fn parse_device(text: &str) -> Result<DeviceChoice, String> {
    match text {
        "" => Err("name a device, or write `auto` or `cpu`".to_owned()),
        "auto" => Ok(DeviceChoice::Auto),
        "cpu" => Ok(DeviceChoice::Cpu),
        name => Ok(DeviceChoice::Named(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn rules_have_presets_and_programs() {
        let rules = |words: &[&str]| {
            let words = ["infera", "rules"].iter().chain(words);
            let parsed = Arguments::try_parse_from(words).ok()?;
            match parsed.command {
                Command::Rules {
                    preset,
                    command,
                    show,
                } => Some((preset.is_some(), command.is_some(), show.json)),
                _ => None,
            }
        };
        assert_eq!(rules(&[]), Some((false, false, false)));
        assert_eq!(rules(&["nights", "--json"]), Some((true, false, true)));
        assert_eq!(rules(&["programs"]), Some((false, true, false)));
        assert!(rules(&["programs", "--add", "a", "--remove", "b", "--json"]).is_some());
        assert_eq!(rules(&["films"]), None);
    }

    #[test]
    fn devices() {
        assert_eq!(parse_device("auto"), Ok(DeviceChoice::Auto));
        assert_eq!(parse_device("cpu"), Ok(DeviceChoice::Cpu));
        let named = DeviceChoice::Named("llvmpipe".to_owned());
        assert_eq!(parse_device("llvmpipe"), Ok(named));
        assert!(parse_device("").is_err());
    }
}
