//! Python's `%` between a text and values. The evaluator's operator takes remainders only, and cannot
//! be given another meaning: so `a % b` becomes a call before a template is compiled.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::LazyLock;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Expression, State, Value, context};

/// No template has a name like it.
const FUNCTION: &str = "__percent";
const CALL: &str = "__percent(";
/// What a remainder costs more than where the evaluator takes it itself.
const REMAINDER_FUEL: u64 = 10;

pub(super) fn prepare(environment: &mut Environment<'_>) {
    environment.add_function(
        FUNCTION,
        |state: &mut State<'_, '_>, left: Value, right: Value| match left.as_str() {
            Some(format) if left.kind() == ValueKind::String => write_into(state, format, &right),
            _ => remainder(state, &left, &right),
        },
    );
}

/// The source with calls for the operator, in the same lines. Unchanged where it is not understood:
/// then a text on the operator's left is an error when it is met.
pub(super) fn with_calls(source: &str) -> Cow<'_, str> {
    match Scanner::new(source).edits() {
        Some(edits) if !edits.is_empty() => edited(source, edits).into(),
        _ => source.into(),
    }
}

/// The values' texts in the places of `format`, as Python does it: a tuple is several values, and a
/// place with a name takes it from a mapping.
fn write_into(state: &mut State<'_, '_>, format: &str, right: &Value) -> Result<Value, Error> {
    state.consume_fuel(format.len() as u64)?;
    let wrong = |fault: &str| Error::new(ErrorKind::InvalidOperation, fault.to_owned());
    let mut given: Vec<Value> = if right.is_tuple() {
        right.try_iter()?.collect()
    } else {
        vec![right.clone()]
    };
    given.reverse();
    let mut next = || {
        given
            .pop()
            .ok_or_else(|| wrong("not enough arguments for format string"))
    };
    let whole = |value: Value| {
        i64::try_from(value).map_err(|_| wrong("a width or precision of `*` wants an integer"))
    };
    let (mut places, mut values) = (String::new(), vec![Value::UNDEFINED]);
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        places.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            places.push_str("%%");
            rest = after;
            continue;
        }
        let mut named = None;
        if let Some(after) = rest.strip_prefix('(') {
            let (name, after) = after
                .split_once(')')
                .ok_or_else(|| wrong("incomplete format key"))?;
            if right.kind() != ValueKind::Map {
                return Err(wrong("format requires a mapping"));
            }
            let value = right.get_item(&Value::from(name))?;
            if value.is_undefined() {
                return Err(wrong("a place of the format is in no mapping"));
            }
            (named, rest) = (Some(value), after);
        }
        places.push('%');
        let spec = rest
            .find(|letter: char| !matches!(letter, '#' | '0'..='9' | '-' | ' ' | '+' | '*' | '.'))
            .ok_or_else(|| wrong("incomplete format"))?;
        for letter in rest[..spec].chars() {
            if letter == '*' {
                let _ = write!(places, "{}", whole(next()?)?);
            } else {
                places.push(letter);
            }
        }
        rest = rest[spec..].trim_start_matches(['h', 'l', 'L']);
        let mut letters = rest.chars();
        let letter = letters.next().ok_or_else(|| wrong("incomplete format"))?;
        rest = letters.as_str();
        let value = match named {
            Some(value) => value,
            None => next()?,
        };
        let (letter, value) = match letter {
            'r' => {
                let text = format!("{value:?}");
                state.consume_fuel(text.len() as u64)?;
                ('s', text.into())
            }
            'd' | 'i' | 'u' => ('d', without_fraction(value)),
            _ => (letter, value),
        };
        places.push(letter);
        values.push(value);
    }
    if !given.is_empty() && (right.is_tuple() || right.as_object().is_none()) {
        return Err(wrong(
            "not all arguments converted during string formatting",
        ));
    }
    values[0] = (places + rest).into();
    state.apply_filter("format", &values)
}

fn without_fraction(value: Value) -> Value {
    match f64::try_from(value.clone()) {
        Ok(number) if value.is_number() && !value.is_integer() && number.is_finite() => {
            Value::from(number as i128)
        }
        _ => value,
    }
}

fn remainder(state: &mut State<'_, '_>, left: &Value, right: &Value) -> Result<Value, Error> {
    static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(Environment::empty);
    static REMAINDER: LazyLock<Option<Expression<'static, 'static>>> =
        LazyLock::new(|| ENVIRONMENT.compile_expression("left % right").ok());
    state.consume_fuel(REMAINDER_FUEL)?;
    let expression = REMAINDER
        .as_ref()
        .ok_or_else(|| Error::from(ErrorKind::InvalidOperation))?;
    // Without the line, which is not the template's.
    expression.eval(context! { left, right }).map_err(|error| {
        let detail = error.detail().unwrap_or_default().to_owned();
        Error::new(error.kind(), detail)
    })
}

/// Put in at a byte in place of so many.
struct Edit {
    at: usize,
    replaces: usize,
    text: &'static str,
}

fn edited(source: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| edit.at);
    let (mut text, mut from) = (String::with_capacity(source.len() * 2), 0);
    for edit in edits {
        text.push_str(&source[from..edit.at]);
        text.push_str(edit.text);
        from = edit.at + edit.replaces;
    }
    text + &source[from..]
}

/// One pair of brackets, or the whole of an expression.
#[derive(Default)]
struct Level {
    /// Where the factors begin that the next operator of their rank takes as its left side.
    factors: Option<usize>,
    /// The last word or bracket ended something that has a value.
    is_value: bool,
    /// The right side of an operator is not at its end yet.
    is_open: bool,
    /// The last word was `is` or its `not`.
    is_test: bool,
}

/// Walks through the expressions of a template. It knows of their grammar only what tells where the
/// two sides of a `%` begin and end.
struct Scanner<'a> {
    source: &'a str,
    at: usize,
    /// Where the last word or bracket ended.
    end: usize,
    /// The innermost brackets last.
    levels: Vec<Level>,
    edits: Vec<Edit>,
}

impl<'a> Scanner<'a> {
    fn new(source: &'a str) -> Self {
        Self {
            source,
            at: 0,
            end: 0,
            levels: Vec::new(),
            edits: Vec::new(),
        }
    }

    /// None where the template is not understood.
    fn edits(mut self) -> Option<Vec<Edit>> {
        while let Some(brace) = self.rest().find('{') {
            self.at += brace;
            let rest = self.rest();
            if rest.starts_with("{#") {
                self.at += rest.find("#}")? + 2;
            } else if rest.starts_with("{{") {
                self.at += 2;
                self.expression("}}")?;
            } else if rest.starts_with("{%") {
                self.at += 2;
                self.skip(|letter| matches!(letter, '-' | '+'));
                self.skip(char::is_whitespace);
                let tag = self.word();
                self.expression("%}")?;
                if tag == "raw" {
                    self.at += self.rest().find("endraw")?;
                }
            } else {
                self.at += 1;
            }
        }
        Some(self.edits)
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Passes what there is of such letters.
    fn skip(&mut self, is: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|letter| !is(letter)).unwrap_or(rest.len());
    }

    /// Passes a name or number; empty where there is none.
    fn word(&mut self) -> &'a str {
        let begin = self.at;
        self.skip(|letter| letter.is_alphanumeric() || letter == '_');
        &self.source[begin..self.at]
    }

    /// Passes a text in quotes.
    fn quoted(&mut self, quote: char) -> Option<()> {
        let mut is_escaped = false;
        let length = self.rest()[1..].find(|letter| {
            let ends = letter == quote && !is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            ends
        })?;
        self.at += length + 2;
        Some(())
    }

    fn edit(&mut self, at: usize, replaces: usize, text: &'static str) {
        self.edits.push(Edit { at, replaces, text });
    }

    /// The right side of an operator ends, if there is one. One without a value is not understood.
    fn close(&mut self) -> Option<()> {
        let level = self.levels.last_mut()?;
        if std::mem::take(&mut level.is_open) {
            if !level.is_value {
                return None;
            }
            self.edit(self.end, 0, ")");
        }
        Some(())
    }

    /// Passes an operator of lower rank, a separator or such a word.
    fn part(&mut self) -> Option<()> {
        self.close()?;
        *self.levels.last_mut()? = Level::default();
        Some(())
    }

    /// Passes what begins at `begin` and has a value.
    fn value(&mut self, begin: usize) -> Option<()> {
        let level = self.levels.last_mut()?;
        level.factors.get_or_insert(begin);
        (level.is_value, level.is_test) = (true, false);
        self.end = self.at;
        Some(())
    }

    /// Passes an expression up to and with the delimiter.
    fn expression(&mut self, delimiter: &str) -> Option<()> {
        self.levels = vec![Level::default()];
        loop {
            self.skip(char::is_whitespace);
            let (begin, rest) = (self.at, self.rest());
            if self.levels.len() == 1 {
                let end = rest.strip_prefix(['-', '+']).unwrap_or(rest);
                if end.starts_with(delimiter) {
                    self.close()?;
                    self.at += rest.len() - end.len() + delimiter.len();
                    return Some(());
                }
            }
            let level = self.levels.last_mut()?;
            let letter = rest.chars().next()?;
            match letter {
                '\'' | '"' => {
                    self.quoted(letter)?;
                    self.value(begin)?;
                }
                '(' | '[' | '{' => {
                    level.factors.get_or_insert(begin);
                    self.levels.push(Level::default());
                    self.at += 1;
                }
                ')' | ']' | '}' => {
                    self.close()?;
                    self.levels.pop();
                    self.at += 1;
                    self.value(begin)?;
                }
                '%' => {
                    let factors = level.factors.filter(|_| level.is_value)?;
                    self.close()?;
                    let level = self.levels.last_mut()?;
                    (level.is_open, level.is_value) = (true, false);
                    self.edit(factors, 0, CALL);
                    self.edit(begin, 1, ",");
                    self.at += 1;
                }
                // These bind tighter, or continue a value.
                '.' | '|' => {
                    level.is_value = false;
                    self.at += 1;
                }
                '*' | '/' => {
                    let is_power = rest.starts_with("**");
                    if !is_power {
                        self.close()?;
                    }
                    self.levels.last_mut()?.is_value = false;
                    self.at += 1 + usize::from(is_power || rest.starts_with("//"));
                }
                '-' | '+' if !level.is_value => {
                    level.factors.get_or_insert(begin);
                    self.at += 1;
                }
                '-' | '+' | '~' | '=' | '!' | '<' | '>' | ',' | ':' => {
                    self.part()?;
                    self.at += 1;
                }
                _ => {
                    let is_test = level.is_test;
                    match self.word() {
                        "" => return None,
                        "is" => {
                            let level = self.levels.last_mut()?;
                            (level.is_value, level.is_test) = (false, true);
                        }
                        "not" if is_test => {}
                        "and" | "or" | "not" | "if" | "else" | "in" if !is_test => self.part()?,
                        _ => self.value(begin)?,
                    }
                }
            }
        }
    }
}
