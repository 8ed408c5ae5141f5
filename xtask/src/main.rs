//! The project's commands: `cargo xtask demo`, `test`, `lint`, `macos`, `fuzz`, `bench`, `chaos`,
//! `bindings`, `package`.
#![expect(clippy::print_stdout, reason = "this program talks to a developer")]

mod bench;
mod cargo;
mod chaos;
mod demo;
#[cfg(unix)]
mod desktop;
mod fuzz;
mod installer;
mod licences;
mod lint;
mod macos;
mod models;
mod package;
mod packages;
mod peers;
mod report;
mod test;
mod ui;
#[cfg(target_os = "linux")]
mod windows;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the whole system on this machine: a balancer, a worker, two reference nodes
    Demo(DemoOptions),
    /// Lints, then runs every test
    Test(TestOptions),
    /// Checks format, clippy's lints, licences and sources of dependencies
    Lint,
    /// Checks that everything type-checks for macOS, with what this system lacks for it installed
    Macos,
    /// Looks for inputs that break a rule, with coverage as the guide
    Fuzz(FuzzOptions),
    /// Fetches the demo's model if it is not in the cache, and prints where it is
    Model,
    /// Writes what Rust and TypeScript share: `ui/src/platform/bindings.ts` and `src-tauri/words.json`
    Bindings,
    /// Measures one thing
    Bench(BenchOptions),
    /// Lets a storm of faults and attacks pass over a small network, and says what became of it
    Chaos(ChaosOptions),
    /// Makes the packages that people install on this system
    Package(PackageOptions),
    /// Builds for Windows on Linux, and tries what it built under Wine
    #[cfg(target_os = "linux")]
    #[command(subcommand)]
    Windows(WindowsCommand),
}

#[derive(clap::Args)]
struct DemoOptions {
    /// End after the first answer; exit code 0 only if it was verified and paid
    #[arg(long)]
    once: bool,
    /// Open no window, though there is a display
    #[arg(long)]
    headless: bool,
    /// Do not delete the data folders at the end
    #[arg(long)]
    keep_data: bool,
    /// Another GGUF file than SmolLM2-135M-Instruct
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// What to ask
    #[arg(long, default_value = "Tell me a story about a fox.")]
    prompt: String,
    /// Where the nodes compute: auto, cpu, or part of a GPU's name
    #[arg(long, default_value = "auto")]
    device: String,
}

#[derive(clap::Args)]
struct TestOptions {
    /// Only the crates' own tests: no lint, no whole-system tests
    #[arg(long)]
    fast: bool,
    /// Only tests whose name contains one of these; no lint
    filters: Vec<String>,
}

#[derive(clap::Args)]
struct FuzzOptions {
    /// One target instead of all: the name of a folder in `fuzz/corpus`
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// How many targets run at once
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// Stop at memory that is not the program's own, too; slower
    #[arg(long)]
    address: bool,
    /// Run the target once with this input
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
    /// Then renew the kept corpus: the inputs that cover most of what any run has covered
    #[arg(long)]
    keep: bool,
}

#[derive(clap::Args)]
struct BenchOptions {
    #[arg(value_enum)]
    name: bench::Name,
    /// Another GGUF file than SmolLM2-135M-Instruct
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Where to compute: auto, cpu, or part of a GPU's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Measure Mesa's software Vulkan too; it takes minutes
    #[arg(long)]
    software_vulkan: bool,
    /// Measure the build without optimisations
    #[arg(long)]
    dev: bool,
    /// Measure the programs in this folder instead of building them (engine, desktop)
    #[arg(long, value_name = "FOLDER", conflicts_with = "dev")]
    programs: Option<PathBuf>,
}

#[derive(clap::Args)]
struct ChaosOptions {
    /// From the clients' first question to the end of the storm
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Whence every disturbance and question follows; drawn and printed without it
    #[arg(long)]
    seed: Option<u64>,
    /// Tell every disturbance
    #[arg(long)]
    verbose: bool,
    /// Keep the data folders even when all is well
    #[arg(long)]
    keep_data: bool,
}

#[derive(clap::Args)]
struct PackageOptions {
    /// Package the dev build's programs as they are, to look at the packages without a long build
    #[arg(long)]
    dev: bool,
    /// Only the node without a window
    #[arg(long)]
    headless: bool,
    /// One file for any Linux too; the tools for it are downloaded from GitHub
    #[arg(long)]
    appimage: bool,
    /// Package the programs in this folder instead of building them
    #[arg(long, value_name = "FOLDER", conflicts_with = "dev")]
    programs: Option<PathBuf>,
}

#[cfg(target_os = "linux")]
#[derive(Subcommand)]
enum WindowsCommand {
    /// Builds the three programs
    Build {
        /// With optimisations, as they are installed
        #[arg(long)]
        release: bool,
    },
    /// Makes the installer and the archive of the node without a window
    Package {
        /// Package the dev build's programs, to look at the packages without a long build
        #[arg(long)]
        dev: bool,
    },
    /// Runs the crates' tests and the whole system's tests with Windows programs
    Test {
        /// Only tests whose name contains one of these
        filters: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Lint => lint::run(),
        Command::Macos => macos::run(),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Model => models::smollm2().map(|file| println!("{}", file.display())),
        Command::Bindings => ui::write_bindings(),
        Command::Bench(options) => bench::run(&options),
        Command::Chaos(options) => chaos::run(&options),
        Command::Package(options) => package::run(&options),
        #[cfg(target_os = "linux")]
        Command::Windows(command) => windows::run(&command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::error(&error);
            ExitCode::FAILURE
        }
    }
}
