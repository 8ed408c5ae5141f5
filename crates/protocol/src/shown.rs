//! Text from files and other machines as it may be shown: a terminal obeys none of it, and nothing
//! in it hides or changes places.
//!
//! Control characters, those that reorder a line, and those that nobody sees are shown by their
//! number, as in `\u{1b}`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Text of several lines: line feeds and tabs stay.
pub fn text(text: &str) -> Cow<'_, str> {
    shown(text, '\0', Kept::LinesAndTabs, braced)
}

/// A name or a sentence within a line.
pub fn line(text: &str) -> Cow<'_, str> {
    shown(text, '\0', Kept::Nothing, braced)
}

/// JSON as JSON: within its strings the characters are escaped, so that it means the same.
pub fn json(text: &str) -> Cow<'_, str> {
    shown(text, '\0', Kept::LinesAndTabs, |character, out| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// Text that comes in pieces, as [`text`].
#[derive(Debug, Default)]
pub struct Pieces {
    last: char,
}

impl Pieces {
    /// Shows the next piece; a character at its start is judged by the end of the one before.
    pub fn push<'a>(&mut self, piece: &'a str) -> Cow<'a, str> {
        let shown = shown(piece, self.last, Kept::LinesAndTabs, braced);
        self.last = shown.chars().next_back().unwrap_or(self.last);
        shown
    }
}

/// Passes on what is written as [`text`], with the colours of the program itself where it has any.
/// Who reads it may be gone: that is no fault of the writer's.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    form: Form,
}

/// What is written to a [`Writer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text without colours: every escape character is shown by its number.
    Text,
    /// The writing side escapes escape characters in what is not its own.
    Coloured,
    /// JSON, escaped as by [`json`].
    Json,
}

impl<W: Write> Writer<W> {
    /// Passes on to `out` what is shown.
    pub fn new(out: W, form: Form) -> Self {
        Self { out, form }
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = String::from_utf8_lossy(bytes);
        let shown = match self.form {
            Form::Text => text(&written),
            Form::Coloured => shown(&written, '\0', Kept::Colours, braced),
            Form::Json => json(&written),
        };
        let _ = self.out.write_all(shown.as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.out.flush();
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Nothing,
    LinesAndTabs,
    /// Beside lines and tabs.
    Colours,
}

fn braced(character: char, out: &mut String) {
    out.extend(character.escape_unicode());
}

fn shown(
    text: &str,
    mut before: char,
    kept: Kept,
    escape: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    let mut shown = String::new();
    // Up to where the text is in `shown`.
    let mut copied = 0;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let at = text.len() - rest.len();
        let stays = match character {
            '\n' | '\t' if kept != Kept::Nothing => character.len_utf8(),
            '\x1b' if kept == Kept::Colours => colour_length(rest),
            _ if deceives(character, before) => 0,
            _ => character.len_utf8(),
        };
        if stays == 0 {
            shown.push_str(&text[copied..at]);
            escape(character, &mut shown);
            copied = at + character.len_utf8();
        }
        rest = &rest[stays.max(character.len_utf8())..];
        // What stands for a character ends in ASCII.
        before = if stays == 0 { '}' } else { character };
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    shown.push_str(&text[copied..]);
    Cow::Owned(shown)
}

/// The length in bytes of a sequence that only sets colour and weight; 0 for any other.
fn colour_length(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\x1b[") else {
        return 0;
    };
    let end = parameters.find(|character: char| !character.is_ascii_digit() && character != ';');
    match end {
        Some(end) if parameters[end..].starts_with('m') => "\x1b[".len() + end + 1,
        _ => 0,
    }
}

fn deceives(character: char, before: char) -> bool {
    match character {
        // Joiners are part of emoji and of many scripts; beside ASCII they only hide.
        '\u{200c}' | '\u{200d}' => before.is_ascii(),
        // Characters without width.
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
        | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        // Order of writing.
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{206f}'
        // Lines and annotations.
        | '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' => true,
        _ => character.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_shown_as_a_table() {
        let cases = [
            ("llama-3.2 1B", "llama-3.2 1B"),
            ("Größe 日本語 עברית العربية", "Größe 日本語 עברית العربية"),
            ("👩‍👩‍👧 👍🏽 ❤️", "👩‍👩‍👧 👍🏽 ❤️"),
            ("می‌خواهم", "می‌خواهم"),
            ("\x1b]52;c;AA\x07", "\\u{1b}]52;c;AA\\u{7}"),
            ("\u{9b}2J\u{7f}\r", "\\u{9b}2J\\u{7f}\\u{d}"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("pay\u{200d}pal\u{200b}", "pay\\u{200d}pal\\u{200b}"),
            ("a\u{e0041}\u{2028}", "a\\u{e0041}\\u{2028}"),
        ];
        for (given, seen) in cases {
            assert_eq!(line(given), seen);
            assert_eq!(text(given), seen);
        }
        assert_eq!(line("one\n\ttwo"), "one\\u{a}\\u{9}two");
        assert_eq!(text("one\n\ttwo"), "one\n\ttwo");
    }

    #[test]
    fn only_colours_pass_where_the_program_has_some() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Form::Coloured);
        writeln!(writer, "\x1b[1;31mred\x1b[0m\x1b[2J\x1b]0;x\x07").unwrap();
        let seen = "\x1b[1;31mred\x1b[0m\\u{1b}[2J\\u{1b}]0;x\\u{7}\n";
        assert_eq!(String::from_utf8(out).unwrap(), seen);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_fault() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut writer = Writer::new(Gone, Form::Text);
        writer.write_all(b"line\n").unwrap();
        writer.flush().unwrap();
    }

    fn obeys_nothing(text: &str) -> bool {
        let mut before = '\0';
        text.chars().all(|character| {
            let obeys = !matches!(character, '\n' | '\t') && deceives(character, before);
            before = character;
            !obeys
        })
    }

    proptest! {
        #[test]
        fn nothing_shown_is_obeyed_by_a_terminal_and_nothing_else_changes(given in "(\\PC|[\u{0}-\u{a0}]|[\u{200b}-\u{2070}]|[\u{e0000}-\u{e0fff}]|\u{1b}\\[[0-9;]*[mHJ]){0,40}") {
            prop_assert!(obeys_nothing(&text(&given)));
            let controls = line(&given).chars().filter(|c| c.is_control()).count();
            prop_assert_eq!(controls, 0);
            if obeys_nothing(&given) {
                prop_assert_eq!(text(&given), given.as_str());
            }
        }

        #[test]
        fn pieces_are_shown_as_the_whole_is(pieces in prop::collection::vec("(a|é|\u{200d}|\u{200c}|\u{1b}|\n){0,4}", 0..8)) {
            let mut shown = Pieces::default();
            let joined: String = pieces.iter().map(|piece| shown.push(piece).into_owned()).collect();
            prop_assert_eq!(joined, text(&pieces.concat()).into_owned());
        }

        #[test]
        fn json_means_the_same(given in "(\\PC|[\u{0}-\u{a0}]|[\u{200b}-\u{2070}]|[\u{e0000}-\u{e0fff}]){0,40}") {
            let written = serde_json::to_string_pretty(&[&given]).unwrap();
            let shown = json(&written);
            prop_assert!(obeys_nothing(&shown));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), vec![given]);
        }
    }
}
