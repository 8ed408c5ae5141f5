//! The load balancer's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    infera_balancer::cli::main()
}
