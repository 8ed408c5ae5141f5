//! Conversations to token ids: only what the template itself writes becomes control tokens.
//!
//! A template gives one text, in which the frame and the contents of the messages are joined. So that
//! they can still be told apart, every name of a control token in a content gets a guard behind its
//! first character before the template sees it: a character that nothing else holds. It keeps the
//! name from being found in the rendered text, and is taken out of what is then plain text.

use std::borrow::Cow;
use std::time::SystemTime;

use super::special::first_char;
use super::{Class, Tokenizer};
use crate::rendering::{RenderError, Renderer};
use crate::template::{ChatMessage, ChatTemplate};

/// Unicode's noncharacters, which no text for others holds.
const GUARDS: std::ops::RangeInclusive<char> = '\u{FDD0}'..='\u{FDEF}';

/// The text of a prompt, in which names of control tokens in the messages are told apart from those
/// that the template wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatText {
    text: String,
    guard: Option<char>,
}

impl ChatText {
    /// What the model reads, as text.
    pub fn text(&self) -> Cow<'_, str> {
        without(self.guard, &self.text)
    }
}

impl Renderer {
    /// The prompt of a conversation whose next turn is the assistant's. `now` is as for
    /// [`render`](Self::render).
    pub fn chat(
        &self,
        tokenizer: &Tokenizer,
        template: &ChatTemplate,
        messages: &[ChatMessage],
        now: SystemTime,
    ) -> Result<ChatText, RenderError> {
        let (messages, guard) = tokenizer.guarded(template, messages);
        let text = self.render(template, &messages, true, now)?;
        Ok(ChatText { text, guard })
    }
}

impl Tokenizer {
    /// A conversation's token ids, as [`encode_prompt`](Self::encode_prompt) gives them.
    pub fn encode_chat(&self, chat: &ChatText) -> Vec<u32> {
        self.framed(self.encode_until(&chat.text, true, chat.guard, usize::MAX))
    }

    /// Like [`encode_chat`](Self::encode_chat), or `None` when there are more than `most` ids. A text
    /// that is far too long is not read.
    pub fn encode_chat_within(&self, chat: &ChatText, most: usize) -> Option<Vec<u32>> {
        self.framed_within(&chat.text, true, chat.guard, most)
    }

    /// The messages with guards in them, and the guard when there are any.
    fn guarded<'a>(
        &self,
        template: &ChatTemplate,
        messages: &'a [ChatMessage],
    ) -> (Cow<'a, [ChatMessage]>, Option<char>) {
        let frame = |message: &ChatMessage, text: &str| {
            self.special
                .beginnings(text, |id| self.is_frame(id, template, message))
        };
        let plain = messages
            .iter()
            .all(|message| texts(message).all(|text| frame(message, text).is_empty()));
        if plain {
            return (Cow::Borrowed(messages), None);
        }
        let held = |guard: char| {
            let mut all = messages.iter().flat_map(texts);
            all.any(|text| text.contains(guard))
        };
        let free = GUARDS.into_iter().find(|guard| !held(*guard));
        let guard = free.unwrap_or(*GUARDS.start());
        let guarded = messages
            .iter()
            .map(|message| {
                let guarded = |text: &str| with_guards(guard, text, &frame(message, text));
                ChatMessage {
                    role: message.role.clone(),
                    content: guarded(&message.content),
                    name: message.name.as_deref().map(guarded),
                }
            })
            .collect();
        (Cow::Owned(guarded), Some(guard))
    }

    /// Whether a token in the content of a message would be taken for a part of the frame.
    ///
    /// User-defined tokens are words that a model writes, like `<think>`, unless the template writes
    /// them too; what an assistant has written may hold those, and templates look for them there.
    fn is_frame(&self, id: u32, template: &ChatTemplate, message: &ChatMessage) -> bool {
        let Some(token) = self.tokens.get(id as usize) else {
            return false;
        };
        match token.class {
            Class::Control | Class::Unknown => true,
            Class::UserDefined => message.role != "assistant" && template.holds(&token.bytes),
            Class::Normal | Class::Unused | Class::Byte => false,
        }
    }
}

/// What people wrote of a message.
fn texts(message: &ChatMessage) -> impl Iterator<Item = &str> {
    std::iter::once(message.content.as_str()).chain(message.name.as_deref())
}

/// The text with a guard behind the first character of each name that begins at `beginnings`.
fn with_guards(guard: char, text: &str, beginnings: &[usize]) -> String {
    let mut guarded = String::with_capacity(text.len() + 3 * beginnings.len());
    let mut from = 0;
    for start in beginnings {
        let to = start + first_char(&text[*start..]);
        guarded.push_str(&text[from..to]);
        guarded.push(guard);
        from = to;
    }
    guarded.push_str(&text[from..]);
    guarded
}

/// The text without guards.
pub(super) fn without(guard: Option<char>, text: &str) -> Cow<'_, str> {
    match guard {
        Some(guard) if text.contains(guard) => text.replace(guard, "").into(),
        _ => text.into(),
    }
}
