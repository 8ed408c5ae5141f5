//! The load balancer's command line.

use std::process::ExitCode;

use infera_model::rendering::LimitedMemory;

#[global_allocator]
static MEMORY: LimitedMemory = LimitedMemory;

fn main() -> ExitCode {
    infera_balancer::cli::main()
}
