//! The engine's side of the pipe: commands in, events out.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::path::Path;

use infera_engine::child;
use infera_engine::message::{
    Command, DeviceChoice, Embed, Embedded, Event, FailureCode, Generate, Load, Loaded,
};
use infera_protocol::frame::{self, Decoder};
use infera_protocol::{FinishReason, JobSeed, Profile, Sampling};

/// The first `count` events of a child that is told this, but for the progress of loading.
fn told(commands: &[Command], count: usize) -> Vec<Event> {
    let (input, mut to_child) = std::io::pipe().unwrap();
    let (mut from_child, output) = std::io::pipe().unwrap();
    let child = std::thread::spawn(move || child::run(input, output));
    let mut tell = |command: &Command| {
        let frame = frame::encode(command).unwrap();
        to_child.write_all(&frame).unwrap();
    };
    commands.iter().for_each(&mut tell);
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    let mut buffer = [0; 4096];
    while events.len() < count {
        while let Some(event) = decoder.message::<Event>().unwrap() {
            if !matches!(event, Event::Loading { .. }) {
                events.push(event);
            }
        }
        if events.len() < count {
            let length = from_child.read(&mut buffer).unwrap();
            assert!(length > 0, "the child ended after {events:?}");
            decoder.push(&buffer[..length]);
        }
    }
    tell(&Command::Shutdown);
    child.join().unwrap();
    events
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
    let commands = [
        embed(1, &[&[5]]),
        load("bert.gguf"),
        embed(2, &[&[5, 6], &[7]]),
        embed(3, &[&[]]),
        generate(4),
    ];
    let events = told(&commands, 6);
    let [_, early, Event::Loaded(loaded), rest @ ..] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(failed(early), (Some(1), FailureCode::NotLoaded));
    let Loaded {
        architecture,
        embeds: true,
        context_tokens: 128,
        vocabulary: 96,
        ..
    } = loaded
    else {
        panic!("{loaded:?}");
    };
    assert_eq!(architecture, "bert");
    // Vectors are made between commands, so that they come before or after the refusals.
    let mut vectors = Vec::new();
    let mut failures = Vec::new();
    for event in rest {
        match event {
            Event::Embedded(Embedded {
                id: 2,
                vectors: made,
                ..
            }) => vectors.clone_from(made),
            other => failures.push(failed(other)),
        }
    }
    let empty = (Some(3), FailureCode::BadRequest);
    assert_eq!(failures, [empty, (Some(4), FailureCode::NotLoaded)]);
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let square: f32 = vector.0.iter().map(|value| value * value).sum();
        assert!((square - 1.0).abs() < 1e-5);
    }
}

#[test]
fn a_model_is_known_by_its_id_in_each_profile() {
    let in_profile = |file, profile| match load(file) {
        Command::Load(load) => Command::Load(Load { profile, ..load }),
        other => other,
    };
    let commands = Profile::ALL.map(|profile| in_profile("llama3.gguf", profile));
    let events = told(&commands, 3);
    let [_, Event::Loaded(p32), Event::Loaded(p16)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!((p32.profile, p16.profile), (Profile::P32, Profile::P16));
    assert_ne!(p32.model, p16.model);
    let ids = vec![(Profile::P32, p32.model), (Profile::P16, p16.model)];
    assert_eq!((&p32.ids, &p16.ids), (&ids, &ids));

    let commands = [
        in_profile("bert.gguf", Profile::P16),
        in_profile("bert.gguf", Profile::P32),
    ];
    let events = told(&commands, 3);
    let [_, refused, Event::Loaded(loaded)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(failed(refused), (None, FailureCode::BadModel));
    assert_eq!(loaded.ids, [(Profile::P32, loaded.model)]);
}

#[test]
fn an_embedding_is_cancelled_between_two_texts() {
    let text: &[u32] = &[5; 128];
    let commands = [
        load("bert.gguf"),
        embed(1, &vec![text; 5000]),
        embed(2, &[&[7]]),
        Command::Cancel { id: 1 },
        Command::Cancel { id: 9 },
    ];
    let events = told(&commands, 4);
    let [_, _, Event::Finished(finished), Event::Embedded(embedded)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!((finished.id, finished.reason), (1, FinishReason::Cancelled));
    assert_eq!((embedded.id, embedded.vectors.len()), (2, 1));
}

#[test]
fn many_texts_are_told_while_they_are_embedded() {
    let text: &[u32] = &[5; 128];
    let events = told(&[load("bert.gguf"), embed(1, &vec![text; 20_000])], 4);
    let [
        _,
        _,
        Event::Prefilled { id: 1, tokens },
        Event::Prefilled {
            id: 1,
            tokens: later,
        },
        ..,
    ] = events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert!(*tokens > 0 && tokens.is_multiple_of(128), "{tokens}");
    assert!(later > tokens, "{later} after {tokens}");
}

#[test]
fn a_decoder_gives_no_vectors() {
    let events = told(&[load("qwen3.gguf"), embed(1, &[&[5]])], 3);
    assert_eq!(failed(&events[2]), (Some(1), FailureCode::NotLoaded));
}
