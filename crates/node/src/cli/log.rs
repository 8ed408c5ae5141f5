//! `infera log`: the newest lines of what the node has noted.

use std::fs;
use std::io::Read as _;
use std::process::ExitCode;

use infera_node::logging;

use super::Data;
use super::terminal::{Fault, print};

/// The last lines, from the youngest files.
pub(super) fn log(data: &Data, lines: usize) -> Result<ExitCode, Fault> {
    let folder = data.folder()?.logs();
    let mut text = String::new();
    // The oldest first.
    for file in logging::files(&folder).into_iter().rev() {
        let read = fs::File::open(&file).and_then(|mut file| file.read_to_string(&mut text));
        if let Err(error) = read {
            return Err(Fault::with_advice(
                &format!("the log {} cannot be read: {error}", file.display()),
                "nothing is shown",
                "see whether the file is yours",
            ));
        }
    }
    if text.is_empty() {
        return Err(Fault::with_advice(
            &format!("there is no log in {}", folder.display()),
            "no node has run with this data folder",
            "start one with `infera run`",
        ));
    }
    let all: Vec<_> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    print(&all[from..].join("\n"))
}
