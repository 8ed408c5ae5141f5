//! Shows what is seen around the program as it changes, for the seconds given or a minute, and what
//! it cost to see it.

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
    });
    let end = tokio::time::sleep(Duration::from_secs(seconds.unwrap_or(60)));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            changed = observers.seen.changed() => {
                if changed.is_err() {
                    break;
                }
                println!("{:?}", *observers.seen.borrow_and_update());
            }
        }
    }
    // User and system time of all threads, in ticks of ten milliseconds.
    let spent = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = spent.split_whitespace().collect();
    if let [user, system] = fields[13..15] {
        println!("user {user}0 ms, system {system}0 ms");
    }
}
