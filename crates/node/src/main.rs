//! The node's command line: the headless node, and what talks to it.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
