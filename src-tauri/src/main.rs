//! `infera-node`: the desktop program, and the children that it starts: its window, the engine, and
//! what applies chat templates.
#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use infera_desktop::{WindowOptions, WindowTheme};
use infera_engine::child::{self, Confine};
use infera_model::rendering::{self, LimitedMemory};
use infera_node::data_dir::DataDir;

#[global_allocator]
static MEMORY: LimitedMemory = LimitedMemory;

/// Answer AI requests with this machine's idle GPU, and earn points
#[derive(Parser)]
#[command(name = "infera-node", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// An invitation to a network: `infera://join?…`
    link: Option<String>,
    /// Start in the tray, with the window closed
    #[arg(long)]
    hidden: bool,
    /// End the program that is running, as Quit in its tray does, but without a question
    #[arg(long)]
    quit: bool,
    /// The data folder [default: the user's]
    #[arg(long = "data", value_name = "DIR", env = "INFERA_DATA")]
    data: Option<PathBuf>,
    /// Keep the identity in this file instead of the keychain; only its owner may read it
    #[arg(long, value_name = "FILE", env = "INFERA_KEY_FILE")]
    key_file: Option<PathBuf>,
    /// Trust the certificates in this PEM file too, for a network of your own
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// How long a closed window stays in memory
    #[arg(long, value_name = "SECONDS", default_value_t = 60, hide = true)]
    release_window_after: u64,
}

#[derive(Subcommand)]
enum Command {
    #[command(hide = true)]
    Engine {
        #[arg(long)]
        quiet: bool,
    },
    #[command(hide = true)]
    Render,
    #[command(hide = true)]
    Window {
        #[arg(long)]
        folder: PathBuf,
        #[arg(long)]
        theme: Option<WindowTheme>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Engine { quiet }) => {
            infera_desktop::log_to_parent(quiet);
            return child::run(std::io::stdin(), std::io::stdout(), Confine::Process);
        }
        Some(Command::Render) => {
            return rendering::child::run(std::io::stdin(), std::io::stdout());
        }
        Some(Command::Window { folder, theme }) => {
            return infera_desktop::run_window(WindowOptions { folder, theme });
        }
        None => {}
    }
    let data = match arguments.data {
        Some(folder) => Ok(DataDir::new(folder)),
        None => DataDir::default_for_user(),
    };
    match data {
        Ok(data) => infera_desktop::run(infera_desktop::Options {
            data,
            key_file: arguments.key_file,
            ca_file: arguments.ca_file,
            hidden: arguments.hidden,
            link: arguments.link,
            quit: arguments.quit,
            release_window_after: Duration::from_secs(arguments.release_window_after),
        }),
        Err(error) => {
            infera_desktop::log_to_parent(false);
            tracing::error!(%error, "the program cannot start");
            ExitCode::FAILURE
        }
    }
}
