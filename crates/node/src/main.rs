//! The node's command line: the headless node, and what talks to it.

use infera_model::rendering::LimitedMemory;

mod cli;

#[global_allocator]
static MEMORY: LimitedMemory = LimitedMemory;

fn main() -> std::process::ExitCode {
    cli::main()
}
