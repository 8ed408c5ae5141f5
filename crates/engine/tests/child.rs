//! The engine's side of the pipe: commands in, events out.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use infera_engine::child::{self, Confine};
use infera_engine::device;
use infera_engine::message::{
    Command, DeviceChoice, Embedded, Event, Failure, FailureCode, Generate, Load, Loaded, Score,
};
use infera_model::Manifest;
use infera_model::gguf::Gguf;
use infera_protocol::frame::{self, Decoder};
use infera_protocol::{FinishReason, JobSeed, ModelId, Profile, Sampling, Task, Writing};

const BERT: &str = "bert.gguf";

/// The first `count` events of a child that is told this, but for the progress of loading.
fn told(commands: &[Command], count: usize) -> Vec<Event> {
    let (input, mut to_child) = std::io::pipe().unwrap();
    let (mut from_child, output) = std::io::pipe().unwrap();
    let child = std::thread::spawn(move || child::run(input, output, Confine::Nothing));
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

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file)
}

fn load(file: &str) -> Command {
    Command::Load(Load {
        sequences: 2,
        ..Load::new(golden(file), DeviceChoice::Cpu)
    })
}

/// A golden file in which all values of an f32 tensor are this one.
fn filled(file: &str, tensor: &str, value: f32, folder: &Path) -> PathBuf {
    let mut bytes: Arc<[u8]> = std::fs::read(golden(file)).unwrap().into();
    let gguf = Gguf::from_bytes(Arc::clone(&bytes), file).unwrap();
    let values = gguf.tensor(tensor).unwrap().bytes.as_ptr_range();
    let places = [values.start, values.end].map(|at| at.addr() - bytes.as_ptr().addr());
    drop(gguf);
    for place in Arc::get_mut(&mut bytes).unwrap()[places[0]..places[1]]
        .as_chunks_mut()
        .0
    {
        *place = value.to_le_bytes();
    }
    let path = folder.join(file);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn id_of(path: &Path, profile: Profile) -> ModelId {
    let gguf = Gguf::open(path).unwrap();
    Manifest::of(&gguf).unwrap().id(profile)
}

fn generate(id: u64, file: &str) -> Command {
    let writing = Writing::new(Sampling::GREEDY, 2, JobSeed::from_bytes([7; 32]));
    let model = id_of(&golden(file), Profile::P32);
    Command::Generate(Generate {
        id,
        task: Task::write(model, vec![1, 2, 3], writing),
        output: Vec::new(),
    })
}

fn embed(id: u64, file: &str, texts: &[&[u32]]) -> Command {
    let texts: Vec<_> = texts.iter().map(|text| text.to_vec()).collect();
    Command::Generate(Generate {
        id,
        task: Task::embed(id_of(&golden(file), Profile::P32), &texts),
        output: Vec::new(),
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
        embed(1, BERT, &[&[5]]),
        load("bert.gguf"),
        embed(2, BERT, &[&[5, 6], &[7]]),
        embed(3, BERT, &[&[]]),
        generate(4, BERT),
        generate(5, "qwen3.gguf"),
    ];
    let events = told(&commands, 7);
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
    let wrong_kind = (Some(4), FailureCode::NotLoaded);
    let another_model = (Some(5), FailureCode::NotLoaded);
    assert_eq!(failures, [empty, wrong_kind, another_model]);
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
    assert_eq!(failed(refused), (None, FailureCode::Unsupported));
    assert_eq!(loaded.ids, [(Profile::P32, loaded.model)]);
}

#[test]
fn an_embedding_is_cancelled_between_two_texts() {
    let text: &[u32] = &[5; 128];
    let commands = [
        load("bert.gguf"),
        embed(1, BERT, &vec![text; 5000]),
        embed(2, BERT, &[&[7]]),
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
    let events = told(&[load("bert.gguf"), embed(1, BERT, &vec![text; 20_000])], 4);
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
fn a_rest_between_steps_changes_nothing_of_what_is_computed() {
    let tokens = |commands: &[Command], count| -> Vec<Event> {
        let events = told(commands, count).into_iter();
        events
            .filter(|event| matches!(event, Event::Tokens { .. } | Event::Embedded(_)))
            .map(|event| match event {
                Event::Embedded(embedded) => Event::Embedded(Embedded {
                    elapsed_ms: 0,
                    ..embedded
                }),
                other => other,
            })
            .collect()
    };
    let rest = Command::Duty { percent: 10 };
    for (file, work, count) in [
        ("qwen3.gguf", generate(1, "qwen3.gguf"), 5),
        (BERT, embed(1, BERT, &[&[5, 6]]), 3),
    ] {
        let plain = tokens(&[load(file), work.clone()], count);
        let rested = tokens(&[load(file), rest.clone(), work], count);
        assert!(!plain.is_empty(), "{file}");
        assert_eq!(rested, plain, "{file}");
    }
}

/// It is for whichever model comes, and no reason to end.
#[test]
fn a_rest_can_be_asked_for_without_a_model() {
    let rest = Command::Duty { percent: 50 };
    let events = told(&[rest, Command::Stats], 2);
    assert!(matches!(events[1], Event::Stats(_)), "{events:?}");
}

#[test]
fn a_decoder_gives_no_vectors() {
    let events = told(&[load("qwen3.gguf"), embed(1, "qwen3.gguf", &[&[5]])], 3);
    assert_eq!(failed(&events[2]), (Some(1), FailureCode::NotLoaded));
}

/// Weights that are finite, and so large that what they compute is not.
#[test]
fn what_a_model_computes_is_a_number_or_an_error_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled("llama3.gguf", "output_norm.weight", 3e38, folder.path());
    let name = Gguf::open(&path).unwrap().name().to_owned();
    let software = DeviceChoice::Named("llvmpipe".to_owned());
    let devices = match device::open(&software) {
        Ok(_) => vec![DeviceChoice::Cpu, software],
        Err(failure) => {
            eprintln!("skipped on software Vulkan: {failure}");
            vec![DeviceChoice::Cpu]
        }
    };
    for device in devices {
        let load = |profile| {
            Command::Load(Load {
                profile,
                ..Load::new(path.clone(), device.clone())
            })
        };
        for profile in Profile::ALL {
            let mut writing = Writing::new(Sampling::GREEDY, 2, JobSeed::from_bytes([7; 32]));
            let task = |writing: &Writing| {
                Task::write(id_of(&path, profile), vec![1, 2, 3], writing.clone())
            };
            let plain = Generate {
                id: 1,
                task: task(&writing),
                output: Vec::new(),
            };
            writing.logprobs = Some(1);
            let probabilities = Generate {
                id: 2,
                task: task(&writing),
                output: Vec::new(),
            };
            let score = Score {
                id: 3,
                task: task(&writing),
                output: vec![0, 0],
            };
            let commands = [
                load(profile),
                Command::Generate(plain),
                Command::Generate(probabilities),
                Command::Score(score),
            ];
            let events = told(&commands, 5);
            let mut failed = [0; 3];
            for event in &events[2..] {
                let Event::Failed {
                    id: Some(id),
                    error:
                        Failure {
                            code: FailureCode::BadModel,
                            message,
                        },
                } = event
                else {
                    panic!("{device:?}, {profile}: {event:?}");
                };
                assert!(message.contains(&name), "{message}");
                failed[*id as usize - 1] += 1;
            }
            assert_eq!(failed, [1; 3]);
        }
    }
}

#[test]
fn a_file_with_a_weight_that_is_no_number_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (file, tensor) in [
        ("llama3.gguf", "blk.0.attn_norm.weight"),
        ("bert.gguf", "blk.0.layer_output_norm.bias"),
    ] {
        let path = filled(file, tensor, f32::NAN, folder.path());
        let events = told(&[Command::Load(Load::new(path, DeviceChoice::Cpu))], 2);
        let Event::Failed { id: None, error } = &events[1] else {
            panic!("{events:?}");
        };
        assert_eq!(error.code, FailureCode::BadModel);
        assert!(error.message.contains(tensor), "{error}");
    }
}

#[test]
fn a_vector_that_is_no_vector_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(
        "bert.gguf",
        "blk.0.layer_output_norm.weight",
        3e38,
        folder.path(),
    );
    let embed = Command::Generate(Generate {
        id: 1,
        task: Task::embed(id_of(&path, Profile::P32), &[vec![5, 6]]),
        output: Vec::new(),
    });
    let load = Command::Load(Load::new(path, DeviceChoice::Cpu));
    let events = told(&[load, embed], 3);
    assert_eq!(failed(&events[2]), (Some(1), FailureCode::BadModel));
}
