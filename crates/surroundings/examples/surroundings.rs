//! Shows what is seen around the program as it changes, for the seconds given or a minute, and what
//! it cost to see it. Names of programs to look for may follow.

#![expect(clippy::print_stdout, reason = "it is what this is for")]

use std::time::Duration;

use infera_surroundings::{Observers, Wanted};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok());
    let mut observers = Observers::start(Wanted {
        programs: arguments.collect(),
        keep_awake: false,
        hurry: true,
    });
    let show = async {
        while observers.seen.changed().await.is_ok() {
            println!("{:?}", *observers.seen.borrow_and_update());
        }
    };
    let limit = Duration::from_secs(seconds.unwrap_or(60));
    let _ = tokio::time::timeout(limit, show).await;
    #[cfg(target_os = "linux")]
    {
        let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        println!(
            "{}.{:06} seconds of a core",
            spent.tv_sec,
            spent.tv_nsec / 1000
        );
    }
}
