//! The network in a storm of three minutes: `cargo xtask chaos`, with one seed.
#![cfg(target_os = "linux")]

use std::time::Duration;

use infera_system_tests::chaos::{self, Options};
use xtask::Result;

#[test]
fn a_storm_of_three_minutes_loses_nothing_mints_nothing_and_blocks_nobody() -> Result<()> {
    let table = chaos::run(&Options {
        length: Duration::from_mins(3),
        seed: 12,
        tell: |line| println!("{line}"),
        keep_data: false,
    })?;
    println!("{table}");
    assert!(table.is_good());
    Ok(())
}
