//! An HTTP client for loopback: whole answers and server-sent events.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body, BodyReader};

use crate::Result;

pub struct Client {
    base: String,
    key: Option<String>,
    agent: Agent,
}

/// An answer that has arrived in full.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text)
            .map_err(|error| format!("not JSON ({error}): {}", self.text).into())
    }

    /// The body, if the status is 2xx; otherwise an error with both.
    pub fn success(&self) -> Result<Value> {
        if (200..300).contains(&self.status) {
            self.json()
        } else {
            Err(format!("HTTP {}: {}", self.status, self.text).into())
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What came of asking for a stream.
pub enum Opened {
    Stream(Events),
    /// An answer with another status than 2xx.
    Refused(Answer),
}

impl Client {
    pub fn new(base: &str, key: Option<&str>) -> Self {
        Self::with_limit(base, key, Duration::from_mins(10))
    }

    /// With a limit to how long an answer may take, from the call to its last byte.
    pub fn with_limit(base: &str, key: Option<&str>, limit: Duration) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(limit))
            .max_idle_connections(0)
            .build()
            .new_agent();
        Self {
            base: base.trim_end_matches('/').to_owned(),
            key: key.map(str::to_owned),
            agent,
        }
    }

    pub fn get(&self, path: &str) -> Result<Answer> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        whole(request.call()?)
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        whole(self.send(path, body.to_string().as_bytes())?)
    }

    /// Sends a body that need not be JSON.
    pub fn post_bytes(&self, path: &str, body: &[u8]) -> Result<Answer> {
        whole(self.send(path, body)?)
    }

    /// Opens a stream of events. Dropping it hangs up.
    pub fn stream(&self, path: &str, body: &Value) -> Result<Events> {
        match self.open(path, body)? {
            Opened::Stream(events) => Ok(events),
            Opened::Refused(answer) => {
                Err(format!("HTTP {}: {}", answer.status, answer.text).into())
            }
        }
    }

    /// As [`Client::stream`], for who wants to know how it was refused.
    pub fn open(&self, path: &str, body: &Value) -> Result<Opened> {
        let response = self.send(path, body.to_string().as_bytes())?;
        if !response.status().is_success() {
            return Ok(Opened::Refused(whole(response)?));
        }
        Ok(Opened::Stream(Events {
            lines: BufReader::with_capacity(256, response.into_body().into_reader()),
            ended: false,
        }))
    }

    fn send(&self, path: &str, body: &[u8]) -> Result<Response<Body>> {
        let mut request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("Content-Type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        Ok(request.send(body)?)
    }
}

/// The data of server-sent events, as JSON, until `[DONE]`.
///
/// A stream that ends in any other way ends with an error.
pub struct Events {
    lines: BufReader<BodyReader<'static>>,
    ended: bool,
}

impl Iterator for Events {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let event = self.data().transpose();
        self.ended = !matches!(event, Some(Ok(_)));
        event
    }
}

impl Events {
    /// None at `[DONE]`.
    fn data(&mut self) -> Result<Option<Value>> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.lines.read_line(&mut line)? == 0 {
                return Err("the stream ended without [DONE]".into());
            }
            match line.strip_prefix("data:").map(str::trim) {
                None => {}
                Some("[DONE]") => return Ok(None),
                Some(data) => return Ok(Some(serde_json::from_str(data)?)),
            }
        }
    }
}

fn whole(response: Response<Body>) -> Result<Answer> {
    let (parts, body) = response.into_parts();
    let mut text = String::new();
    body.into_reader().read_to_string(&mut text)?;
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text,
    })
}
