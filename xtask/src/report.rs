//! How the commands look: aligned facts, and points as people write them.
#![expect(clippy::print_stderr, reason = "errors go to stderr")]

use std::fs;
use std::io::{IsTerminal, Write, stdout};
use std::path::Path;

use xtask::Result;

/// A name and what is known about it, in two columns.
pub(crate) fn fact(name: &str, text: &str) {
    println!("  {}", aligned(name, text));
}

/// A file that was made: its size and where it lies.
pub(crate) fn file(path: &Path) -> Result<()> {
    let megabytes = fs::metadata(path)?.len() as f64 / 1e6;
    fact(&format!("{megabytes:.1} MB"), &path.display().to_string());
    Ok(())
}

pub(crate) fn headline(text: &str) {
    if stdout().is_terminal() {
        println!("\n\x1b[1m{text}\x1b[0m");
    } else {
        println!("\n{text}");
    }
}

/// Text as it comes, without a line end.
pub(crate) fn stream(text: &str) {
    print!("{text}");
    // A closed stdout shows at the next println.
    let _ = stdout().flush();
}

pub(crate) fn error(error: &xtask::Error) {
    eprintln!("\nerror: {error}");
}

/// Micro-points as points: `-1_234_500` is `-1.2345`.
pub(crate) fn points(micro: i64) -> String {
    let sign = if micro < 0 { "-" } else { "+" };
    let micro = micro.unsigned_abs();
    let fraction = format!("{:06}", micro % 1_000_000);
    let fraction = fraction.trim_end_matches('0');
    match fraction {
        "" => format!("{sign}{}", micro / 1_000_000),
        _ => format!("{sign}{}.{fraction}", micro / 1_000_000),
    }
}

fn aligned(name: &str, text: &str) -> String {
    format!("{name:<12} {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_written_as_people_do() {
        for (micro, text) in [
            (0, "+0"),
            (1, "+0.000001"),
            (-1_234_500, "-1.2345"),
            (3_000_000, "+3"),
        ] {
            assert_eq!(points(micro), text);
        }
    }
}
