//! What templates use of Python, of Jinja2 and of Hugging Face's transformers beyond what the
//! evaluator has.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};
use minijinja_contrib::pycompat;
use regex::{Captures, Regex};

pub(super) fn prepare(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", to_json);
    environment.add_filter("wordcount", words);
    environment.add_filter("forceescape", |value: Value| escaped(&value.to_string()));
    for name in ["e", "escape"] {
        environment.add_filter(name, |value: Value| {
            if value.is_safe() {
                value
            } else {
                escaped(&value.to_string())
            }
        });
    }
    environment.add_test("iterable", |value: &Value| {
        !value.is_none() && value.try_iter().is_ok()
    });
}

/// The tag says which text an assistant wrote, for training; what is in it is written all the same.
pub(super) fn without_generation_tags(source: &str) -> Cow<'_, str> {
    static TAG: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").ok());
    let Some(tag) = &*TAG else {
        return source.into();
    };
    tag.replace_all(source, |found: &Captures<'_>| {
        let instead = found.get(2).map_or("if true", |_| "endif");
        format!("{{%{} {instead} {}%}}", &found[1], &found[3])
    })
}

/// Python's methods of texts that the evaluator's companion lacks.
fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str().filter(|_| value.kind() == ValueKind::String) else {
        return pycompat::unknown_method_callback(state, value, method, arguments);
    };
    let three = |parts: [&str; 3]| Value::from_iter(parts);
    match method {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "partition" => {
            let separator = separator(arguments)?;
            Ok(text.split_once(separator).map_or_else(
                || three([text, "", ""]),
                |(before, after)| three([before, separator, after]),
            ))
        }
        "rpartition" => {
            let separator = separator(arguments)?;
            Ok(text.rsplit_once(separator).map_or_else(
                || three(["", "", text]),
                |(before, after)| three([before, separator, after]),
            ))
        }
        "rsplit" => rsplit(text, arguments),
        _ => pycompat::unknown_method_callback(state, value, method, arguments),
    }
}

fn separator(arguments: &[Value]) -> Result<&str, Error> {
    let (separator,): (&str,) = from_args(arguments)?;
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    Ok(separator)
}

fn rsplit(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (separator, most, named): (Option<&str>, Option<i64>, Kwargs) = from_args(arguments)?;
    let most = match most {
        Some(most) => Some(most),
        None => named.get("maxsplit")?,
    };
    let separator = match separator {
        Some(separator) => Some(separator),
        None => named.get("sep")?,
    };
    named.assert_all_used()?;
    // Below 0 there is no limit.
    let pieces = most
        .and_then(|most| usize::try_from(most).ok())
        .map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => text.rsplitn(pieces, separator).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim_end();
            while let Some(at) = rest.rfind(char::is_whitespace)
                && parts.len() + 1 < pieces
            {
                let after = at + rest[at..].chars().next().map_or(0, char::len_utf8);
                parts.push(&rest[after..]);
                rest = rest[..at].trim_end();
            }
            let rest = if parts.len() + 1 < pieces {
                rest.trim_start()
            } else {
                rest
            };
            if !rest.is_empty() {
                parts.push(rest);
            }
            parts
        }
    };
    parts.reverse();
    Ok(Value::from_iter(parts))
}

/// How many words a text has, of what Python counts as letters and digits.
fn words(state: &State<'_, '_>, value: &Value) -> Result<usize, Error> {
    static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+").ok());
    let text = value.to_string();
    state.consume_fuel(text.len() as u64)?;
    Ok(WORD
        .as_ref()
        .map_or(0, |word| word.find_iter(&text).count()))
}

/// A text within HTML as Jinja2 writes it; the evaluator's own writes other references.
fn escaped(text: &str) -> Value {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            _ => escaped.push(letter),
        }
    }
    Value::from_safe_string(escaped)
}

/// JSON as Python's `json.dumps` writes it. The evaluator's own is safe within HTML, and writes
/// `\u003c` for `<`.
fn to_json(value: &Value, indent: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let ascii: Option<bool> = named.get("ensure_ascii")?;
    let json = filters::tojson(value, indent, named)?;
    let json = json.as_str().unwrap_or_default();
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = &rest[at..];
        let (plain, length) = match escape.get(..6) {
            Some("\\u003c") => ("<", 6),
            Some("\\u003e") => (">", 6),
            Some("\\u0026") => ("&", 6),
            Some("\\u0027") => ("'", 6),
            // The second half of an escaped backslash begins nothing.
            _ => (escape.get(..2).unwrap_or(escape), 2),
        };
        text.push_str(plain);
        rest = escape.get(length..).unwrap_or_default();
    }
    text.push_str(rest);
    if ascii == Some(true) {
        let mut escaped = String::with_capacity(text.len());
        for letter in text.chars() {
            if letter.is_ascii() {
                escaped.push(letter);
                continue;
            }
            for unit in letter.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
        text = escaped;
    }
    Ok(Value::from_safe_string(text))
}

/// Those of Python and of the C library under it.
const CODES: &str = "%aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY";

/// `now` in UTC, with Python's codes for dates and times. What is no code stays as it is.
pub(super) fn strftime(format: &str, now: SystemTime) -> String {
    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let now = i64::try_from(seconds).map(Timestamp::from_second);
    let Ok(Ok(now)) = now else {
        return format.to_owned();
    };
    let now = now.to_zoned(TimeZone::UTC);
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let code = &rest[at..];
        let is_flag = |letter: &char| matches!(letter, '-' | '_' | '0' | '^' | '#');
        let flags = code[1..].chars().take_while(is_flag).count();
        let length = 1 + flags + code[1 + flags..].chars().next().map_or(0, char::len_utf8);
        let code = &code[..length];
        match &code[1 + flags..] {
            // What Python's dates without a time zone give.
            "Z" | "z" => {}
            "f" => text.push_str("000000"),
            letter => match jiff::fmt::strtime::format(code, &now) {
                Ok(written) if CODES.contains(letter) => text.push_str(&written),
                _ => text.push_str(code),
            },
        }
        rest = &rest[at + length..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use minijinja::context;

    use super::*;

    fn render(source: &str) -> String {
        let mut environment = Environment::new();
        prepare(&mut environment);
        let text = "<a href='b'>&\\u003c \u{e9}\u{1F642}</a>";
        environment
            .render_str(&without_generation_tags(source), context! { text })
            .unwrap()
    }

    #[test]
    fn json_is_python_s() {
        assert_eq!(
            render("{{ text | tojson }}"),
            "\"<a href='b'>&\\\\u003c \u{e9}\u{1F642}</a>\""
        );
        assert!(render("{{ text | tojson(ensure_ascii=true) }}").contains(r"\u00e9\ud83d\ude42"));
        assert_eq!(
            render("{{ {'a': [1, 'x']} | tojson }}"),
            r#"{"a": [1, "x"]}"#
        );
        assert_eq!(
            render("{{ {'a': 1} | tojson(indent=4) }}"),
            "{\n    \"a\": 1\n}"
        );
    }

    #[test]
    fn methods_of_texts_are_python_s() {
        for (source, expected) in [
            ("'a,b,c'.rsplit(',', 1)", r#"["a,b", "c"]"#),
            ("'a,b,c'.rsplit(',')", r#"["a", "b", "c"]"#),
            ("'a,b,c'.rsplit(',', maxsplit=1)", r#"["a,b", "c"]"#),
            ("' a  b c '.rsplit()", r#"["a", "b", "c"]"#),
            ("' a  b c '.rsplit(none, 1)", r#"[" a  b", "c"]"#),
            ("'  '.rsplit()", "[]"),
            ("'a=b=c'.partition('=')", r#"["a", "=", "b=c"]"#),
            ("'abc'.partition('=')", r#"["abc", "", ""]"#),
            ("'a=b=c'.rpartition('=')", r#"["a=b", "=", "c"]"#),
            ("'abc'.rpartition('=')", r#"["", "", "abc"]"#),
            ("'abc'.removeprefix('ab')", r#""c""#),
            ("'abc'.removesuffix('ab')", r#""abc""#),
            ("' x '.strip()", r#""x""#),
        ] {
            assert_eq!(
                render(&format!("{{{{ {source} | tojson }}}}")),
                expected,
                "{source}"
            );
        }
    }

    #[test]
    fn the_tag_for_training_changes_no_text() {
        assert_eq!(
            render(
                "a {%- generation -%} b {% endgeneration +%} c {%generation%}d{%endgeneration%}"
            ),
            "ab  c d"
        );
    }

    #[test]
    fn dates_are_written_with_python_s_codes() {
        // 2024-02-29 13:05:09 UTC, a Thursday.
        let day = UNIX_EPOCH + Duration::from_secs(1_709_211_909);
        for (format, expected) in [
            (
                "%d %B %Y, %a %b %H:%M:%S",
                "29 February 2024, Thu Feb 13:05:09",
            ),
            ("%y %m %A %% %q %", "24 02 Thursday % %q %"),
            ("%-d %-m %-I %I %p %j", "29 2 1 01 PM 060"),
            ("%F %T%Z%z %e", "2024-02-29 13:05:09 29"),
            ("\u{e9}%\u{e9}", "\u{e9}%\u{e9}"),
        ] {
            assert_eq!(strftime(format, day), expected);
        }
        let at = |seconds| strftime("%Y-%m-%d", UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(951_868_800), "2000-03-01");
        assert_eq!(at(4_107_542_400), "2100-03-01");
        // As far as Windows counts, too.
        assert_eq!(at(300_000_000_000), "%Y-%m-%d", "beyond the year 9999");
    }
}
