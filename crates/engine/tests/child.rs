//! The engine's side of the pipe: commands in, events out.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use infera_engine::child;
use infera_engine::message::{
    Command, DeviceChoice, Embed, Event, FailureCode, Generate, Load, Loaded,
};
use infera_protocol::frame::{self, Decoder};
use infera_protocol::{JobSeed, Sampling};

#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All events of a child that is told this, but for the progress of loading.
fn told(commands: &[Command]) -> Vec<Event> {
    let input: Vec<u8> = commands
        .iter()
        .chain([&Command::Shutdown])
        .flat_map(|command| frame::encode(command).unwrap())
        .collect();
    let pipe = Pipe::default();
    child::run(Cursor::new(input), pipe.clone());
    let mut decoder = Decoder::default();
    decoder.push(&pipe.0.lock().unwrap());
    std::iter::from_fn(|| decoder.message::<Event>().unwrap())
        .filter(|event| !matches!(event, Event::Loading { .. }))
        .collect()
}

fn load(file: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    Command::Load(Load {
        sequences: 2,
        ..Load::new(path, DeviceChoice::Cpu)
    })
}

fn generate(id: u64) -> Command {
    Command::Generate(Generate {
        id,
        prompt: vec![1, 2, 3],
        output: Vec::new(),
        sampling: Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
        },
        max_tokens: 2,
        stop: Vec::new(),
        logprobs: None,
        seed: JobSeed::from_bytes([7; 32]),
    })
}

fn embed(id: u64, texts: &[&[u32]]) -> Command {
    Command::Embed(Embed {
        id,
        texts: texts.iter().map(|text| text.to_vec()).collect(),
    })
}

fn failed(event: &Event) -> (Option<u64>, FailureCode) {
    match event {
        Event::Failed { id, error } => (*id, error.code),
        other => panic!("{other:?} is no failure"),
    }
}

#[test]
fn a_bert_model_gives_vectors_and_no_text() {
    let events = told(&[
        embed(1, &[&[5]]),
        load("bert.gguf"),
        embed(2, &[&[5, 6], &[7]]),
        embed(3, &[&[]]),
        generate(4),
    ]);
    let [
        _,
        early,
        Event::Loaded(loaded),
        Event::Embedded { id: 2, vectors },
        empty,
        text,
    ] = events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert_eq!(failed(early), (Some(1), FailureCode::NotLoaded));
    assert_eq!(failed(empty), (Some(3), FailureCode::BadRequest));
    assert_eq!(failed(text), (Some(4), FailureCode::NotLoaded));
    let Loaded {
        architecture,
        context_tokens: 128,
        vocabulary: 96,
        ..
    } = loaded
    else {
        panic!("{loaded:?}");
    };
    assert_eq!(architecture, "bert");
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let square: f32 = vector.iter().map(|value| value * value).sum();
        assert!((square - 1.0).abs() < 1e-5);
    }
}

#[test]
fn a_decoder_gives_no_vectors() {
    let events = told(&[load("qwen3.gguf"), embed(1, &[&[5]])]);
    assert_eq!(failed(&events[2]), (Some(1), FailureCode::NotLoaded));
}
