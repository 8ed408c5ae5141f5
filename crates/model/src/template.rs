//! A model's chat template: messages become the text of a prompt.

mod percent;
mod python;

use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, State, Value, context};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::gguf::Gguf;

const KEY: &str = "tokenizer.chat_template";
const NAME: &str = "chat";
/// Several times the longest template in use.
const MAX_SOURCE_BYTES: usize = 256 << 10;
const MAX_TOKEN_BYTES: usize = 1 << 10;
const MAX_OUTPUT_BYTES: usize = 8 << 20;
const MAX_DEPTH: usize = 64;
/// Steps a rendering may take: to begin with, for each message, for each two of them (templates look
/// through all messages at each), and for each byte. What a step makes counts too, 64 bytes as one.
/// Time has a limit of its own.
const BASE_FUEL: u64 = 500_000;
const MESSAGE_FUEL: u64 = 5_000;
const PAIR_FUEL: u64 = 50;
const BYTE_FUEL: u64 = 50;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// The text of the turn.
    pub content: String,
    /// Who of several in the same role says it. Few templates show it.
    pub name: Option<String>,
}

impl ChatMessage {
    /// A turn without a name.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            name: None,
        }
    }
}

/// A template as it stands in a model file. It is a program by whoever made the file: a
/// [`Renderer`](crate::rendering::Renderer) runs it where its memory and time have limits.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChatTemplate {
    file: String,
    source: String,
    bos: String,
    eos: String,
}

/// A template that can be run. It has limits on steps, depth and output, and none on the memory
/// and time of a step: one can double a text again and again.
///
/// The environment is that of Hugging Face's transformers, for which the templates are written.
pub(crate) struct Compiled {
    template: ChatTemplate,
    environment: Environment<'static>,
    /// It reads the content of a message as a list of parts, and would drop a text.
    reads_parts: bool,
}

impl ChatTemplate {
    /// Reads `tokenizer.chat_template`, and runs nothing of it. A file without one is an error: no
    /// format is assumed.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let source = gguf
            .get_str(KEY)?
            .ok_or_else(|| ModelError::NoChatTemplate {
                file: gguf.file().to_owned(),
            })?;
        if source.len() > MAX_SOURCE_BYTES {
            return Err(ModelError::metadata(
                gguf.file(),
                KEY,
                format!("is longer than {MAX_SOURCE_BYTES} bytes"),
            ));
        }
        let tokens = gguf
            .get_strings("tokenizer.ggml.tokens")?
            .unwrap_or_default();
        let text = |key: &str| -> Result<String, ModelError> {
            let id = gguf.get_u32(key)?;
            let text = id
                .and_then(|id| tokens.get(id as usize))
                .copied()
                .unwrap_or_default();
            if text.len() > MAX_TOKEN_BYTES {
                return Err(ModelError::metadata(
                    gguf.file(),
                    key,
                    format!("names a token of more than {MAX_TOKEN_BYTES} bytes"),
                ));
            }
            Ok(text.to_owned())
        };
        Ok(Self {
            file: gguf.file().to_owned(),
            source: source.to_owned(),
            bos: text("tokenizer.ggml.bos_token_id")?,
            eos: text("tokenizer.ggml.eos_token_id")?,
        })
    }

    /// Whether the file has a template at all.
    pub(crate) fn is_in(gguf: &Gguf) -> bool {
        gguf.contains(KEY)
    }

    /// Whether the template's own text holds these bytes.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        std::str::from_utf8(bytes).is_ok_and(|text| self.source.contains(text))
    }

    /// The prompt's text, special tokens included: encode it with `parse_special`. With
    /// `add_generation_prompt` it ends where the assistant's answer begins. `now` is what a
    /// template that writes the date takes for today, in UTC.
    ///
    /// Runs in this thread, whatever time and memory the template takes: for templates that are
    /// trusted, and for processes that can be ended.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, ModelError> {
        Compiled::new(self)?.render(messages, add_generation_prompt, now)
    }

    /// It does something that it must not.
    pub(crate) fn fault(&self, fault: impl Into<String>) -> ModelError {
        ModelError::BadTemplate {
            file: self.file.clone(),
            fault: fault.into(),
        }
    }

    /// A fault of the template's when the evaluator panics at it.
    fn caught<T>(&self, work: impl FnOnce() -> Result<T, ModelError>) -> Result<T, ModelError> {
        // Unwind safe: what `work` changes is its own and dropped.
        catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| Err(self.fault("it makes the evaluator of templates fail")))
    }

    fn broken(&self, error: &Error) -> ModelError {
        self.fault(match error.kind() {
            ErrorKind::OutOfFuel => "it takes too many steps or too much memory".to_owned(),
            ErrorKind::WriteFailure => format!("it writes more than {MAX_OUTPUT_BYTES} bytes"),
            _ => {
                let line = error
                    .line()
                    .map_or_else(String::new, |line| format!(" in line {line}"));
                let text = error.detail().map_or_else(
                    || error.kind().to_string(),
                    |detail| format!("{}: {detail}", error.kind()),
                );
                format!("{}{line}", text.chars().take(300).collect::<String>())
            }
        })
    }
}

impl Compiled {
    /// Constants are computed here, so this too may take any time and memory.
    pub(crate) fn new(template: &ChatTemplate) -> Result<Self, ModelError> {
        template.caught(|| Self::compile(template))
    }

    fn compile(template: &ChatTemplate) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| template.broken(&error))?;
        environment.set_syntax(syntax);
        environment.set_recursion_limit(MAX_DEPTH);
        python::prepare(&mut environment);
        percent::prepare(&mut environment);
        environment.add_function("raise_exception", |message: String| -> Result<(), Error> {
            Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message)))
        });
        let source = python::without_generation_tags(&template.source);
        environment
            .add_template_owned(NAME, percent::with_calls(&source).into_owned())
            // What is wrong is to be told of the template as it was written.
            .or_else(|_| environment.add_template_owned(NAME, source.into_owned()))
            .map_err(|error| template.broken(&error))?;
        let mut compiled = Self {
            template: template.clone(),
            environment,
            reads_parts: false,
        };
        if !compiled.shows_text() {
            compiled.reads_parts = true;
            compiled.reads_parts = compiled.shows_text();
        }
        Ok(compiled)
    }

    /// Whether what a person says is in the prompt.
    fn shows_text(&self) -> bool {
        const SAMPLE: &str = "A sample that no template holds.";
        let message = ChatMessage::new("user", SAMPLE);
        self.apply(&[message], true, UNIX_EPOCH)
            .is_ok_and(|text| text.contains(SAMPLE))
    }

    pub(crate) fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, ModelError> {
        self.template
            .caught(|| self.apply(messages, add_generation_prompt, now))
    }

    fn apply(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, ModelError> {
        let mut environment = self.environment.clone();
        let (turns, bytes) = (
            messages.len() as u64,
            messages.iter().map(bytes_of).sum::<u64>(),
        );
        environment.set_fuel(Some(
            BASE_FUEL + turns * (MESSAGE_FUEL + PAIR_FUEL * turns) + BYTE_FUEL * bytes,
        ));
        environment.add_function(
            "strftime_now",
            move |state: &State<'_, '_>, format: String| {
                // Its result is counted by the evaluator, its work is not.
                state.consume_fuel(format.len() as u64)?;
                Ok::<_, Error>(python::strftime(&format, now))
            },
        );
        let content = |text: &str| {
            if self.reads_parts {
                Value::from(vec![context! { type => "text", text }])
            } else {
                Value::from(text)
            }
        };
        let turns: Vec<Value> = messages
            .iter()
            .map(|turn| {
                let (role, content) = (turn.role.as_str(), content(&turn.content));
                match &turn.name {
                    // Undefined where there is none, which templates ask for.
                    None => context! { role, content },
                    Some(name) => context! { role, content, name },
                }
            })
            .collect();
        let mut output = Limited(Vec::new());
        environment
            .get_template(NAME)
            .and_then(|template| {
                template.render_captured_to(
                    context! {
                        messages => turns,
                        add_generation_prompt,
                        // Defined, and none, as where templates are written for.
                        tools => (),
                        documents => (),
                        bos_token => self.template.bos.as_str(),
                        eos_token => self.template.eos.as_str(),
                    },
                    &mut output,
                )
            })
            .map_err(|error| match raised(&error) {
                Some(message) => ModelError::MessagesRefused {
                    message: message.chars().take(500).collect(),
                },
                None => self.template.broken(&error),
            })?;
        String::from_utf8(output.0).map_err(|_| self.template.fault("its output is not UTF-8"))
    }
}

fn bytes_of(message: &ChatMessage) -> u64 {
    message.content.len() as u64
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ChatTemplate")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// What a template said with `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raised(error: &Error) -> Option<&str> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(Raised(message)) = error.downcast_ref() {
            return Some(message);
        }
        source = error.source();
    }
    None
}

/// Collects output up to the limit.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gguf::write::GgufBuilder;
    use crate::testing::{PIECES, llama_metadata, llama_tensors, model_file, sentence_pieces};

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate {
            file: "x.gguf".to_owned(),
            source: source.to_owned(),
            bos: "<s>".to_owned(),
            eos: "</s>".to_owned(),
        }
    }

    /// 2024-02-29 13:05:09 UTC, a Thursday.
    fn leap_day() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_709_211_909)
    }

    fn render(source: &str, messages: &[ChatMessage]) -> Result<String, ModelError> {
        template(source).render(messages, true, leap_day())
    }

    #[test]
    fn a_template_gets_messages_tokens_and_python_methods() {
        let source = "{{ bos_token }}{% for message in messages %}\n\
             {{- message['role'].upper() + ':' + message.content.strip() + eos_token }}\n\
             {%- endfor %}\n\
             {% if add_generation_prompt %}\nASSISTANT:{% endif %}";
        let text = render(
            source,
            &[
                ChatMessage::new("user", " hi "),
                ChatMessage::new("tool", "x"),
            ],
        )
        .unwrap();
        assert_eq!(text, "<s>USER:hi</s>TOOL:x</s>ASSISTANT:");
        let text = template(source).render(&[], false, leap_day());
        assert_eq!(text.unwrap(), "<s>");
    }

    #[test]
    fn nobody_s_words_vanish_where_a_template_reads_parts() {
        let parts = "{% for m in messages %}{% for part in m.content %}\
             {% if part.type == 'text' %}[{{ part.text }}]{% endif %}{% endfor %}{% endfor %}";
        let hello = [ChatMessage::new("user", "hello")];
        assert_eq!(render(parts, &hello).unwrap(), "[hello]");
        let either = "{% for m in messages %}{% if m.content is string %}{{ m.content }}\
             {% else %}{{ m.content[0].text }}{% endif %}{% endfor %}";
        assert_eq!(render(either, &hello).unwrap(), "hello");
        assert_eq!(render("{{ messages | length }}", &hello).unwrap(), "1");
    }

    #[test]
    fn tools_and_documents_are_none() {
        let source = "{{ tools is defined and tools is none and documents is none }} \
             {{ tools is iterable }} {{ 'x' is iterable }} {{ 'y' if tools else 'n' }}";
        assert_eq!(render(source, &[]).unwrap(), "True False True n");
    }

    #[test]
    fn a_template_that_refuses_is_quoted() {
        let source = "{{ raise_exception('Roles must alternate.') }}";
        let error = render(source, &[]).unwrap_err();
        assert!(matches!(error, ModelError::MessagesRefused { .. }));
        assert!(error.to_string().ends_with(": Roles must alternate."));
    }

    #[test]
    fn a_template_without_end_is_stopped() {
        let loops =
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        let grows = "{% for a in range(99999) %}{{ 'x' * 99999 }}{% endfor %}";
        let calls = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}";
        let repeats = "{{ 'x' * 99999999999 }}";
        for (source, fault) in [
            (loops, "it takes too many steps or too much memory"),
            (grows, "it writes more than"),
            (calls, "recursion limit"),
            (repeats, "it takes too many steps or too much memory"),
        ] {
            let text = render(source, &[]).unwrap_err().to_string();
            assert!(text.contains("`x.gguf`") && text.contains(fault), "{text}");
        }
    }

    #[test]
    fn a_template_at_which_the_evaluator_panics_is_refused() {
        let mut compiled = Compiled::new(&template("{{ panic() }}")).unwrap();
        let panic = || -> Value { panic!("a fault of the evaluator") };
        compiled.environment.add_function("panic", panic);
        let error = compiled.render(&[], true, leap_day()).unwrap_err();
        assert!(matches!(error, ModelError::BadTemplate { .. }), "{error}");
    }

    #[test]
    fn slices_are_pythons() {
        let source = "{{ [1,2,3][2:0:-1] }} {{ [][::-1] | list }} [{{ ''[::-1] }}] {{ 'abc'[::-1] }} {{ 'abc'[-2:] }} \
             {% for message in messages[::-1] %}x{% endfor %}";
        assert_eq!(render(source, &[]).unwrap(), "[3, 2] [] [] cba bc ");
    }

    #[test]
    fn a_message_shows_its_name_where_it_has_one() {
        let source = "{% for m in messages %}{{ m.role }}{% if m.name is defined %} {{ m.name }}{% endif %}: {{ m.content }}\n{% endfor %}";
        let named = ChatMessage {
            name: Some("Ann".to_owned()),
            ..ChatMessage::new("user", "a")
        };
        let text = render(source, &[named, ChatMessage::new("user", "b")]);
        assert_eq!(text.unwrap(), "user Ann: a\nuser: b\n");
    }

    #[test]
    fn long_conversations_have_steps_enough() {
        let pairs = "{% for m in messages %}{% for other in messages %}{% if other.role == 'tool' %}x{% endif %}{% endfor %}{% endfor %}";
        let many = vec![ChatMessage::new("user", "a"); 1000];
        assert_eq!(render(pairs, &many).unwrap(), "");
        let letters = "{% for m in messages %}{% for letter in m.content %}{% if letter == '<' %}x{% endif %}{% endfor %}{% endfor %}";
        let long = [ChatMessage::new("user", "a".repeat(240_000))];
        assert_eq!(render(letters, &long).unwrap(), "");
    }

    #[derive(Deserialize)]
    struct Recorded {
        now: u64,
        bos: String,
        eos: String,
        conversations: Vec<Vec<RecordedMessage>>,
        templates: Vec<RecordedTemplate>,
    }

    #[derive(Deserialize)]
    struct RecordedMessage {
        role: String,
        content: String,
    }

    #[derive(Deserialize)]
    struct RecordedTemplate {
        name: String,
        source: String,
        /// For each conversation, with and without the beginning of an answer.
        outputs: Vec<RecordedOutput>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum RecordedOutput {
        Text(String),
        Raised(String),
        Fails,
    }

    /// What differs from the recorded outputs, and how many are the same.
    fn compared(recorded: &str) -> (Vec<String>, usize) {
        let recorded: Recorded = serde_json::from_str(recorded).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(recorded.now);
        let (mut differences, mut same) = (Vec::new(), 0);
        for case in &recorded.templates {
            let template = ChatTemplate {
                bos: recorded.bos.clone(),
                eos: recorded.eos.clone(),
                ..template(&case.source)
            };
            let compiled = Compiled::new(&template).unwrap();
            let asked = recorded.conversations.iter().flat_map(|conversation| {
                [true, false].map(|begins_answer| (conversation, begins_answer))
            });
            for ((conversation, begins_answer), expected) in asked.zip(&case.outputs) {
                let messages: Vec<_> = conversation
                    .iter()
                    .map(|message| ChatMessage::new(&message.role, &message.content))
                    .collect();
                let ours = compiled.render(&messages, begins_answer, now);
                match (expected, &ours) {
                    (RecordedOutput::Text(text), Ok(ours)) if text == ours => same += 1,
                    (
                        RecordedOutput::Raised(text),
                        Err(ModelError::MessagesRefused { message }),
                    ) if text == message => same += 1,
                    (RecordedOutput::Fails, _) => {}
                    (RecordedOutput::Text(text) | RecordedOutput::Raised(text), _) => {
                        let name = &case.name;
                        differences.push(format!("{name}: {messages:?}\n{text:?}\n{ours:?}"));
                    }
                }
            }
        }
        (differences, same)
    }

    /// `tests/data/make_templates_golden.py` records them; with all of llama.cpp's templates in the
    /// models folder as `templates/recorded.json`, those are compared too.
    #[test]
    fn real_templates_give_what_transformers_gives() {
        let kept = include_str!("../tests/data/templates_golden.json");
        let (differences, same) = compared(kept);
        assert!(differences.is_empty(), "{}", differences.join("\n\n"));
        assert_eq!(same, 368);
        let Some(more) = model_file("templates/recorded.json") else {
            return;
        };
        let (differences, same) = compared(&std::fs::read_to_string(more).unwrap());
        assert!(differences.is_empty(), "{}", differences.join("\n\n"));
        assert!(same > 1000, "{same}");
    }

    /// `tests/data/make_expressions_golden.py` records them. Each is none where Jinja2 raises.
    #[test]
    fn expressions_give_what_jinja2_gives() {
        let kept = include_str!("../tests/data/expressions_golden.json");
        let recorded: Vec<(String, Option<String>)> = serde_json::from_str(kept).unwrap();
        let differences: Vec<String> = recorded
            .iter()
            .filter_map(|(expression, expected)| {
                let source = format!("{{% set text = ' a b ' %}}{{{{ {expression} }}}}");
                let ours = render(&source, &[]);
                (ours.as_ref().ok() != expected.as_ref())
                    .then(|| format!("{expression}\n  {expected:?}\n  {ours:?}"))
            })
            .collect();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }

    #[test]
    fn a_percent_sign_outside_of_expressions_is_text() {
        let source = "5 % 2{# % #}{% raw %}{{ 1 % 0 }}{% endraw %}\n{%- if '%d' % 7 == '7' -%} \
             {% for x in [1, 2] if x % 2 %}{{ '%s%%' % x }}{% endfor %} {%- endif %} % {";
        let text = render(source, &[]).unwrap();
        assert_eq!(text, "5 % 2{{ 1 % 0 }}1% % {");
        let text = render("\n\n{{ '%s%s' % 1 }}", &[]).unwrap_err().to_string();
        assert!(
            text.contains("not enough arguments for format string in line 3"),
            "{text}"
        );
        let text = render("\n{{ '%s' % 1 }}{{ 1 + }}", &[]).unwrap_err();
        assert!(text.to_string().contains("line 2"), "{text}");
    }

    #[test]
    fn an_operator_without_its_right_side_is_a_fault_of_the_template() {
        for end in [
            "", ",", "+ 1", "* 2", "// 2", "| upper", ")", "]", "and 1", "% 3", ".a",
        ] {
            for source in [
                format!("\n{{{{ 7 % {end} }}}}"),
                format!("\n{{{{ 7 %{end}}}}}"),
            ] {
                let text = render(&source, &[]).unwrap_err().to_string();
                assert!(text.contains("line 2"), "{source}: {text}");
            }
        }
    }

    #[test]
    fn formatting_takes_steps_too() {
        for source in [
            "{{ '%999999999d' % 1 }}",
            "{{ '%*d' % (999999999, 1) }}",
            "{% set x = 'x' * 99999 %}{% for i in range(9999) %}{% set y = '%r' % x %}{% endfor %}",
            "{% set x = '%%' * 99999 %}{% for i in range(9999) %}{% set y = x % () %}{% endfor %}",
            "{% set x = 'x' * 99999 %}{% for i in range(9999) %}{% set y = x | wordcount %}{% endfor %}",
        ] {
            let text = render(source, &[]).unwrap_err().to_string();
            assert!(text.contains("too many steps"), "{source}: {text}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_when_the_file_is_read() {
        let read = |file: GgufBuilder| {
            let bytes = llama_tensors(sentence_pieces(llama_metadata(file))).build();
            ChatTemplate::from_gguf(&Gguf::from_bytes(bytes, "x.gguf").unwrap())
        };
        let source = |bytes| "x".repeat(bytes);
        let with = |bytes| read(GgufBuilder::new().str(KEY, &source(bytes)));
        assert_eq!(with(MAX_SOURCE_BYTES).unwrap().source, source(256 << 10));
        let text = with(MAX_SOURCE_BYTES + 1).unwrap_err().to_string();
        assert!(text.contains(KEY) && text.contains("longer"), "{text}");
        let mut tokens = vec![String::new(); PIECES as usize];
        tokens[1] = source(MAX_TOKEN_BYTES + 1);
        let text = read(GgufBuilder::new().strings("tokenizer.ggml.tokens", &tokens))
            .unwrap_err()
            .to_string();
        assert!(text.contains("bos_token_id"), "{text}");
    }

    #[test]
    fn a_template_that_does_not_compile_is_refused_with_the_line() {
        let text = render("fine\n{% for %}", &[]).unwrap_err().to_string();
        assert!(
            text.contains("`x.gguf`") && text.contains("line 2"),
            "{text}"
        );
    }
}
