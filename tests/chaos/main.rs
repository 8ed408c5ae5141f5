//! `cargo xtask chaos`: the network in a storm, and a table of what became of it.
#![expect(clippy::print_stdout, reason = "it prints what it found")]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use clap::Parser;
    use infera_system_tests::chaos;

    let arguments = storm::Arguments::parse();
    match chaos::run(&arguments.options()) {
        Ok(table) => {
            println!("\n{table}");
            if table.is_good() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("error: only Linux has all that the storm is made of. Run it there");
    ExitCode::FAILURE
}

#[cfg(target_os = "linux")]
mod storm {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use infera_system_tests::chaos::Options;

    #[derive(clap::Parser)]
    #[command(name = "chaos", about = "The network in a storm")]
    pub(crate) struct Arguments {
        /// From the clients' first question to the end of the storm
        #[arg(long, default_value_t = 3.0)]
        minutes: f64,
        /// Whence every disturbance, question and answer follows [default: drawn]
        #[arg(long)]
        seed: Option<u64>,
        /// Tell every disturbance
        #[arg(long)]
        verbose: bool,
        /// Keep the data folders even when all is well
        #[arg(long)]
        keep_data: bool,
    }

    impl Arguments {
        pub(crate) fn options(&self) -> Options {
            let drawn = || {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                now.unwrap_or_default().as_secs()
            };
            Options {
                length: Duration::from_secs_f64(self.minutes.clamp(0.2, 24.0 * 60.0) * 60.0),
                seed: self.seed.unwrap_or_else(drawn),
                tell: if self.verbose { tell } else { |_| {} },
                keep_data: self.keep_data,
            }
        }
    }

    fn tell(line: &str) {
        println!("{line}");
    }
}
