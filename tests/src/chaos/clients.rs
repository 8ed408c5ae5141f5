//! Honest clients: each asks one known question after the other, and tells what it got.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::Result;
use xtask::http::{Answer, Client, Events, Opened};

use super::dice::Dice;
use super::field::Weather;
use super::link::Link;
use crate::{MODEL, Streamed};

/// No answer takes so long, whatever befalls the network.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);
/// Between an answer and the next question, in milliseconds; and after one that did not come.
const THINKING_MS: (u64, u64) = (0, 400);
const WAITING_MS: (u64, u64) = (500, 2000);

/// A question whose answer is known.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) request: Value,
    pub(crate) text: String,
    pub(crate) tokens: u64,
}

/// How a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Stream,
    /// Streams, and waits for the verdict at the end.
    StreamToVerdict,
    /// Gets nothing before the verdict.
    Whole,
    /// Streams, and hangs up after so many pieces.
    HangUp(usize),
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    HungUp,
    /// With an error in words before it began; its code.
    Refused(String),
    /// With an error in words after it had begun; its code.
    Error(String),
    /// Its connection broke while its link or the balancer was disturbed.
    BrokenByUs,
    /// It broke, or was refused, without a word that a client can read.
    BrokenSilently(String),
    /// Nothing came for as long as a client waits.
    Stuck,
}

/// What one client saw of one answer.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// The client's number.
    pub(crate) client: usize,
    pub(crate) manner: Manner,
    pub(crate) end: End,
    pub(crate) job: Option<String>,
    /// The text is not the known one, or not its beginning where it did not come whole.
    pub(crate) differs: bool,
    /// How many a whole answer has, as counted for the client.
    pub(crate) tokens: Option<u64>,
    pub(crate) first_token: Option<Duration>,
    pub(crate) began_at: Instant,
    pub(crate) ended_at: Instant,
}

pub(crate) struct Honest {
    pub(crate) number: usize,
    pub(crate) key: String,
    pub(crate) known: Arc<Vec<Known>>,
    pub(crate) link: Arc<Link>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) dice: Dice,
}

impl Honest {
    /// Asks until told to stop.
    pub(crate) fn run(mut self, stop: &AtomicBool, tell: &Sender<Observation>) {
        while !stop.load(Ordering::Relaxed) {
            let manner = self.manner();
            let seen = self.ask(manner);
            let (least, most) = match seen.end {
                End::Whole | End::HungUp => THINKING_MS,
                _ => WAITING_MS,
            };
            if tell.send(seen).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(self.dice.between(least, most)));
        }
    }

    /// Asks once.
    pub(crate) fn ask(&mut self, manner: Manner) -> Observation {
        let known = Arc::clone(&self.known);
        let known = &known[self.dice.below(known.len() as u64) as usize];
        let watch = Watch::begin(&self.link, &self.weather);
        let client = Client::with_limit(self.link.url(), Some(&self.key), LIMIT);
        let mut seen = Seen {
            begun: Instant::now(),
            first_token: None,
            answer: Streamed::default(),
        };
        let end = match manner {
            Manner::Whole => whole(&client, known, &mut seen),
            _ => stream(&client, known, manner, &mut seen),
        };
        let end = end.unwrap_or_else(|error| {
            if seen.begun.elapsed() >= LIMIT {
                End::Stuck
            } else if watch.is_disturbed() {
                End::BrokenByUs
            } else {
                End::BrokenSilently(error.to_string())
            }
        });
        let Seen {
            begun,
            first_token,
            answer,
        } = seen;
        Observation {
            client: self.number,
            manner,
            differs: if end == End::Whole {
                answer.text != known.text || answer.completion_tokens != Some(known.tokens)
            } else {
                !known.text.starts_with(&answer.text)
            },
            end,
            job: answer.job,
            tokens: answer.completion_tokens,
            first_token,
            began_at: begun,
            ended_at: Instant::now(),
        }
    }

    fn manner(&mut self) -> Manner {
        match self.dice.below(10) {
            0 => Manner::HangUp(self.dice.between(0, 20) as usize),
            1 => Manner::StreamToVerdict,
            2 => Manner::Whole,
            _ => Manner::Stream,
        }
    }
}

/// Questions with different answers.
pub(crate) fn questions(dice: &mut Dice, count: usize) -> Vec<Value> {
    let animals = ["whale", "fox", "robin", "hedgehog"];
    let question = |_| {
        let animal = animals[dice.below(animals.len() as u64) as usize];
        json!({
            "model": MODEL,
            "messages": [{
                "role": "user",
                "content": format!("Tell me a long story about a {animal}."),
            }],
            "temperature": 0.8,
            "seed": dice.below(1 << 32),
            "max_tokens": dice.between(40, 160),
        })
    };
    (0..count).map(question).collect()
}

/// Whether the balancer or a link was disturbed since.
struct Watch<'a> {
    link: &'a Link,
    weather: &'a Weather,
    faults: u64,
    changes: u64,
    fair: bool,
}

impl<'a> Watch<'a> {
    fn begin(link: &'a Link, weather: &'a Weather) -> Self {
        let (faults, changes) = (link.faults(), weather.changes());
        Self {
            link,
            weather,
            faults,
            changes,
            fair: link.is_fair() && changes % 2 == 0,
        }
    }

    fn is_disturbed(&self) -> bool {
        let fair = self.fair && self.link.is_fair();
        !fair || self.faults != self.link.faults() || self.changes != self.weather.changes()
    }
}

/// What has come so far.
struct Seen {
    begun: Instant,
    first_token: Option<Duration>,
    answer: Streamed,
}

impl Seen {
    fn take(&mut self, event: &Value) -> Result<()> {
        self.answer.take(event)?;
        if self.answer.pieces > 0 {
            self.first_token.get_or_insert_with(|| self.begun.elapsed());
        }
        Ok(())
    }
}

/// An error is one of the connection.
fn stream(client: &Client, known: &Known, manner: Manner, seen: &mut Seen) -> Result<End> {
    let mut request = known.request.clone();
    request["stream"] = true.into();
    request["stream_options"] = json!({ "include_usage": true });
    if manner == Manner::StreamToVerdict {
        request["infera"] = json!({ "wait": true });
    }
    let events = match client.open("/v1/chat/completions", &request)? {
        Opened::Stream(events) => events,
        Opened::Refused(answer) => return Ok(refused(&answer)),
    };
    match manner {
        Manner::HangUp(pieces) => read(events, seen, Some(pieces)),
        _ => read(events, seen, None),
    }
}

fn read(events: Events, seen: &mut Seen, most: Option<usize>) -> Result<End> {
    for event in events {
        let event = event?;
        if let Some(code) = error_code(&event) {
            return Ok(End::Error(code));
        }
        seen.take(&event)?;
        if most.is_some_and(|most| seen.answer.pieces >= most) {
            return Ok(End::HungUp);
        }
    }
    Ok(End::Whole)
}

fn whole(client: &Client, known: &Known, seen: &mut Seen) -> Result<End> {
    let mut request = known.request.clone();
    request["infera"] = json!({ "wait": true });
    let answer = client.post("/v1/chat/completions", &request)?;
    if answer.status != 200 {
        return Ok(refused(&answer));
    }
    let body = answer.json()?;
    let text = body["choices"][0]["message"]["content"].as_str();
    text.ok_or("the answer has no text")?
        .clone_into(&mut seen.answer.text);
    seen.answer.completion_tokens = body["usage"]["completion_tokens"].as_u64();
    seen.answer.job = body["infera"]["job_id"].as_str().map(str::to_owned);
    Ok(End::Whole)
}

fn refused(answer: &Answer) -> End {
    let body = answer.json().unwrap_or_default();
    match error_code(&body) {
        Some(code) => End::Refused(format!("{} {code}", answer.status)),
        None => End::BrokenSilently(format!("HTTP {}: {:.200}", answer.status, answer.text)),
    }
}

/// The code, or else the type, of an error as `OpenAI`'s API has it.
fn error_code(body: &Value) -> Option<String> {
    let error = &body["error"];
    error["message"].as_str().filter(|text| !text.is_empty())?;
    let code = error["code"].as_str().or(error["type"].as_str());
    Some(code.unwrap_or("without a code").to_owned())
}
