//! Bytes between node and engine, and the balancer's stream of events, split anywhere.

use infera_protocol::frame::{Decoder, FrameError, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::wire;
use crate::bytes::Bytes;
use message::{Command, Event};
use sse::SseParser;

// The files themselves, and not the crates: a build with coverage of burn, SQLite and TLS takes
// many minutes and tells nothing.
#[path = "../../../crates/engine/src/message.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "its other parts are for the engine"
)]
mod message;
#[path = "../../../crates/node/src/sse.rs"]
mod sse;

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    match bytes.up_to(4) {
        0 => split::<Value>(bytes),
        1 => split::<Command>(bytes),
        2 => framed::<Command>(bytes),
        3 => framed::<Event>(bytes),
        _ => events(bytes),
    }
}

/// The same messages and the same fault, however the bytes are split.
fn split<T: DeserializeOwned + PartialEq + std::fmt::Debug>(mut bytes: Bytes<'_>) {
    let size = 1 + usize::from(bytes.u8());
    let data = bytes.rest();
    let decode = |size: usize| {
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        for piece in data.chunks(size) {
            decoder.push(piece);
            loop {
                match decoder.message::<T>() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(FrameError::TooLong(_)) => return (messages, Some("too long")),
                    Err(FrameError::Malformed(_)) => return (messages, Some("malformed")),
                }
            }
        }
        (messages, None)
    };
    assert_eq!(decode(size), decode(data.len().max(1)));
}

fn framed<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(mut bytes: Bytes<'_>) {
    let size = 1 + usize::from(bytes.u8());
    let Some(message) = wire::read::<T>(bytes.rest()) else {
        return;
    };
    let Ok(frame) = encode(&message) else {
        panic!("{message:?} has no frame");
    };
    let mut decoder = Decoder::default();
    let mut found = Vec::new();
    for piece in [frame.as_slice(), &frame].concat().chunks(size) {
        decoder.push(piece);
        while let Ok(Some(message)) = decoder.message::<T>() {
            found.push(wire::written(&message));
        }
    }
    let text = wire::written(&message);
    assert_eq!(found, [text.clone(), text]);
}

fn events(mut bytes: Bytes<'_>) {
    let size = 1 + usize::from(bytes.u8());
    let data = bytes.rest();
    let parse = |size: usize| {
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        for piece in data.chunks(size) {
            match parser.push(piece) {
                Ok(more) => events.extend(more),
                Err(error) => return (events, Some(error)),
            }
        }
        (events, None)
    };
    assert_eq!(parse(size), parse(data.len().max(1)));
}
