//! Texts of requests become token ids: off the threads that serve, one at a time for each key, and
//! no text is read that cannot fit.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, UNIX_EPOCH};

use infera_model::rendering::{RenderError, Renderer};
use infera_model::{ChatMessage, ChatText, ModelError};
use infera_protocol::ModelId;
use tokio::sync::{OwnedMutexGuard, Semaphore};

use crate::catalog::ServedModel;
use crate::openai::{Input, Prompt};
use crate::submit_error::PromptError;

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct Prompts {
    keys: Turns<String>,
    /// One conversation at a time for each template, so that all but one of the children are for
    /// other models while a template is at its limits.
    templates: Turns<ModelId>,
    /// As many texts at once as there are processors.
    tokenizing: Arc<Semaphore>,
}

/// What is to become tokens.
pub(crate) struct Reading {
    pub model: Arc<ServedModel>,
    pub input: Input,
    /// The request's field that holds prompts.
    pub param: &'static str,
    /// The most tokens of all texts together.
    pub most_in_all: usize,
}

enum Text {
    Prompt(Prompt),
    Chat(ChatText),
}

impl Default for Prompts {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            keys: Turns::default(),
            templates: Turns::default(),
            tokenizing: Arc::new(Semaphore::new(processors)),
        }
    }
}

impl Prompts {
    /// The token ids of each text. Its key's turn lasts until the work is done, also when the caller
    /// has gone.
    pub(crate) async fn read(
        &self,
        renderer: &Arc<Renderer>,
        key: &str,
        reading: Reading,
        now_ms: i64,
    ) -> Result<Vec<Vec<u32>>, PromptError> {
        let Reading {
            model,
            input,
            param,
            most_in_all,
        } = reading;
        let mut turn = self.keys.take(key.to_owned()).await;
        let texts = match input {
            Input::Prompts(texts) => texts.into_iter().map(Text::Prompt).collect(),
            Input::Chat(messages) => {
                let template = self.templates.take(model.id).await;
                let (renderer, model) = (Arc::clone(renderer), Arc::clone(&model));
                let text;
                (turn, text) = blocking(param, move || {
                    let _template = template;
                    (turn, render(&renderer, &model, &messages, now_ms))
                })
                .await?;
                vec![Text::Chat(text?)]
            }
        };
        let place = Arc::clone(&self.tokenizing).acquire_owned().await;
        blocking(param, move || {
            let _held = (turn, place);
            let mut left = most_in_all;
            let mut all = Vec::with_capacity(texts.len());
            for (index, text) in texts.into_iter().enumerate() {
                let ids = tokenized(&model, text, param, index)?;
                let most = most_in_all;
                left = left
                    .checked_sub(ids.len())
                    .ok_or(PromptError::TooMuch { param, most })?;
                all.push(ids);
            }
            Ok(all)
        })
        .await?
    }
}

fn render(
    renderer: &Renderer,
    model: &ServedModel,
    messages: &[ChatMessage],
    now_ms: i64,
) -> Result<ChatText, PromptError> {
    let now = UNIX_EPOCH + Duration::from_millis(now_ms.max(0) as u64);
    let template = model
        .head()
        .chat_template()
        .map_err(|error| PromptError::NoTemplate(error.to_string()))?;
    renderer
        .chat(model.tokenizer(), template, messages, now)
        .map_err(|error| {
            match &error {
                RenderError::Model(ModelError::MessagesRefused { .. }) | RenderError::Busy => {}
                RenderError::Model(_) => {
                    tracing::warn!(model = model.name, %error, "a chat template fails");
                }
                RenderError::Start(_) => tracing::error!(%error, "no chat template can be applied"),
            }
            PromptError::Template(error)
        })
}

/// `index` counts texts from 0.
fn tokenized(
    model: &ServedModel,
    text: Text,
    param: &'static str,
    index: usize,
) -> Result<Vec<u32>, PromptError> {
    let context = model.context;
    let (tokenizer, most) = (model.tokenizer(), context as usize);
    let too_long = || {
        if model.vector_width.is_some() {
            PromptError::TextTooLong { context, index }
        } else {
            PromptError::PromptTooLong { context }
        }
    };
    match text {
        Text::Chat(text) => tokenizer
            .encode_chat_within(&text, most)
            .ok_or_else(too_long),
        Text::Prompt(Prompt::Text(text)) => tokenizer
            .encode_prompt_within(&text, true, most)
            .ok_or_else(too_long),
        Text::Prompt(Prompt::Tokens(ids)) => match ids.iter().find(|id| **id >= model.vocabulary) {
            None => Ok(ids),
            Some(id) => Err(PromptError::BeyondVocabulary {
                param,
                id: *id,
                vocabulary: model.vocabulary,
            }),
        },
    }
}

async fn blocking<T: Send + 'static>(
    param: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PromptError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| PromptError::Unread { param })
}

/// Lets one at a time do something for each key, in the order of asking.
#[derive(Debug)]
struct Turns<K>(Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>);

/// It is one's turn until this is dropped.
type Turn = OwnedMutexGuard<()>;

/// Beyond so many keys, those that nobody waits for are looked for and dropped.
const KEPT_TURNS: usize = 64;

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Turns<K> {
    async fn take(&self, key: K) -> Turn {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
                lock
            } else {
                if locks.len() >= KEPT_TURNS {
                    locks.retain(|_, lock| lock.strong_count() > 0);
                }
                let lock = Arc::default();
                locks.insert(key, Arc::downgrade(&lock));
                lock
            }
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_ready<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn each_key_has_one_turn_at_a_time_and_what_is_over_is_forgotten() {
        let turns = Turns::default();
        let first = is_ready(pin!(turns.take(0))).unwrap();
        let mut second = pin!(turns.take(0));
        assert!(is_ready(second.as_mut()).is_none(), "it is the first's");
        {
            let gone = pin!(turns.take(0));
            assert!(is_ready(gone).is_none());
        }
        let other = is_ready(pin!(turns.take(1))).unwrap();
        drop(first);
        let second = is_ready(second.as_mut()).unwrap();
        drop((second, other));
        for key in 2..10_000 {
            is_ready(pin!(turns.take(key))).unwrap();
        }
        assert!(turns.0.lock().unwrap().len() <= KEPT_TURNS);
    }
}
