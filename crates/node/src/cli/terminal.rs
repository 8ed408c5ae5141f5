//! What the commands print: tables, errors in three parts, progress. Text of files and of other
//! machines is in all of it, so all of it is [`shown`].

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use infera_protocol::shown;
use infera_terminal::has_colour;

/// Something went wrong: what happened, what it means, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    what: String,
    means: String,
    advice: Option<String>,
    code: u8,
}

impl Fault {
    /// `sentence` says what happened and, after its last colon or full stop, what to do.
    pub(super) fn new(sentence: &str, means: &str) -> Self {
        let split = [": ", ". "]
            .iter()
            .filter_map(|mark| sentence.rfind(mark))
            .max();
        let (what, advice) = match split {
            Some(at) => (&sentence[..at], Some(sentence[at + 2..].to_owned())),
            None => (sentence, None),
        };
        Self {
            what: what.to_owned(),
            means: means.to_owned(),
            advice,
            code: 1,
        }
    }

    /// A sentence that may hold colons and full stops of its own.
    pub(super) fn with_advice(what: &str, means: &str, advice: &str) -> Self {
        Self {
            what: what.to_owned(),
            means: means.to_owned(),
            advice: Some(advice.to_owned()),
            code: 1,
        }
    }

    pub(super) fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// Writes it to standard error.
    pub(super) fn show(&self) -> ExitCode {
        let advice = self.advice.as_ref().map_or_else(String::new, |advice| {
            format!("to do:  {}\n", shown::line(advice))
        });
        let (what, means) = (shown::line(&self.what), shown::line(&self.means));
        let text = format!("error:  {what}\nmeans:  {means}\n{advice}");
        // There is nowhere left to complain.
        let _ = io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.code)
    }
}

/// Writes one result to standard output.
pub(super) fn print(text: &str) -> Result<ExitCode, Fault> {
    print_as_it_is(&shown::text(text))
}

pub(super) fn print_json(json: &str) -> Result<ExitCode, Fault> {
    print_as_it_is(&shown::json(json))
}

/// For text with colours, whose foreign parts are shown already.
pub(super) fn print_as_it_is(text: &str) -> Result<ExitCode, Fault> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // Whoever read it has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Fault::with_advice(
            &format!("the output cannot be written: {error}"),
            "what was asked for was done, but cannot be shown",
            "free some space where the output goes",
        )),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Columns as wide as their widest cell; numbers stand to the right.
pub(super) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let rows: Vec<Vec<_>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| shown::line(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let lines: Vec<_> = rows
        .iter()
        .map(|row| {
            let cells: Vec<_> = row
                .iter()
                .enumerate()
                .map(|(column, cell)| {
                    let pad = " ".repeat(widths[column] - cell.chars().count());
                    if right.contains(&column) {
                        pad + cell
                    } else {
                        format!("{cell}{pad}")
                    }
                })
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

/// Micro-points as points, without digits that say nothing.
pub(super) fn points(micro: i64) -> String {
    let sign = if micro < 0 { "-" } else { "" };
    let micro = micro.unsigned_abs();
    let (whole, rest) = (micro / 1_000_000, micro % 1_000_000);
    let decimals = format!("{rest:06}");
    let decimals = decimals.trim_end_matches('0');
    let mut digits = whole.to_string();
    let mut at = digits.len();
    while at > 3 {
        at -= 3;
        digits.insert(at, ',');
    }
    if decimals.is_empty() {
        format!("{sign}{digits}")
    } else {
        format!("{sign}{digits}.{decimals}")
    }
}

/// A word in a colour, where there are colours.
pub(super) fn coloured(word: &str, colour: u8) -> String {
    if has_colour(&io::stdout()) {
        format!("\x1b[{colour}m{word}\x1b[0m")
    } else {
        word.to_owned()
    }
}

/// A line on standard error that is written over, for work that takes long. Silent where standard
/// error is no terminal.
pub(super) struct Progress {
    shown: bool,
    visible: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            shown: false,
            visible: io::stderr().is_terminal(),
        }
    }

    pub(super) fn show_bytes(&mut self, what: &str, done: u64, total: u64) {
        let of = match total {
            0 => format!("{} MB", done / 1_000_000),
            _ => format!("of {} MB", total / 1_000_000),
        };
        self.show(what, done, total, &of);
    }

    /// `of` says what the whole is.
    pub(super) fn show(&mut self, what: &str, done: u64, total: u64, of: &str) {
        if !self.visible {
            return;
        }
        let percent = (done.min(total) * 100).checked_div(total).unwrap_or(0);
        let filled = (percent / 4) as usize;
        let _ = write!(
            io::stderr(),
            "\r\x1b[K{what}  {}{}  {percent} % {of}",
            "#".repeat(filled),
            ".".repeat(25 - filled),
        );
        let _ = io::stderr().flush();
        self.shown = true;
    }

    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_three_parts() {
        let fault = Fault::new(
            "the data folder /a: b cannot be used: denied. Make it writable",
            "the node did not start",
        );
        assert_eq!(fault.what, "the data folder /a: b cannot be used: denied");
        assert_eq!(fault.advice.as_deref(), Some("Make it writable"));
        let fault = Fault::new("another node runs: end it", "x").code(3);
        assert_eq!((&*fault.what, fault.code), ("another node runs", 3));
        assert_eq!(Fault::new("odd", "x").advice, None);
    }

    #[test]
    fn points_have_no_needless_digits() {
        let cases = [
            (0, "0"),
            (4_200_000, "4.2"),
            (1_284_000_000, "1,284"),
            (1, "0.000001"),
            (-1_500_000, "-1.5"),
            (1_234_567_000_000, "1,234,567"),
        ];
        for (micro, text) in cases {
            assert_eq!(points(micro), text);
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "1"], ["long", "20"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows, &[1]), "a      1\nlong  20");
        let rows = [vec!["a\nb".to_owned(), "\x1b[31m".to_owned()]];
        assert_eq!(table(&rows, &[]), "a\\u{a}b  \\u{1b}[31m");
    }
}
