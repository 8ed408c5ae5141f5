//! The engine as a real child process: this program's own `infera engine`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use infera_engine::message::{Command, DeviceChoice, Event, FailureCode, Generate, Load, Loaded};
use infera_node::engine_link::{ChildEngine, Engine, EngineError, EngineLink, EngineProcesses};
use infera_protocol::{JobSeed, ModelId, Sampling, Task, Writing};

pub(crate) fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/model/tiny-llama.gguf")
}

async fn start() -> Engine {
    let link = ChildEngine {
        program: env!("CARGO_BIN_EXE_infera").into(),
        arguments: vec!["engine".to_owned()],
        processes: EngineProcesses::default(),
    };
    link.start().await.unwrap()
}

/// The first event that fits, within a minute.
async fn event<T>(engine: &mut Engine, fits: impl Fn(Event) -> Option<T>) -> T {
    let waiting = async {
        loop {
            let event = engine.events.recv().await.expect("the engine lives");
            if let Event::Failed { error, .. } = &event {
                panic!("{error}");
            }
            if let Some(found) = fits(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting)
        .await
        .unwrap()
}

/// Until the child has ended: its output is closed.
async fn ended(engine: &mut Engine) {
    let waiting = async { while engine.events.recv().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap();
}

#[tokio::test]
async fn it_loads_and_generates() {
    let loaded = load_and_generate(DeviceChoice::Cpu).await;
    assert!(!loaded.device.reason.is_empty());
}

/// The driver, its compiler and its threads have what they need.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn it_is_confined_and_works_all_the_same_on_the_cpu_and_on_software_vulkan() {
    let software = DeviceChoice::Named("llvmpipe".to_owned());
    let mut devices = vec![DeviceChoice::Cpu];
    match infera_engine::device::open(&software) {
        Ok(_) => devices.push(software),
        Err(failure) => eprintln!("skipped on software Vulkan: {failure}"),
    }
    for device in devices {
        let loaded = load_and_generate(device).await;
        let missing: Vec<_> = loaded
            .bounds
            .iter()
            .filter(|bound| bound.fault.is_some())
            .collect();
        let of: Vec<_> = loaded.bounds.iter().map(|bound| &bound.of[..]).collect();
        let expected = [
            "memory",
            "processor time",
            "core dumps",
            "privileges",
            "files",
            "network",
            "other programs",
        ];
        assert_eq!(of, expected);
        if !missing.is_empty() {
            eprintln!("skipped in part: this kernel does not bound {missing:?}");
        }
    }
}

async fn load_and_generate(device: DeviceChoice) -> Loaded {
    let mut engine = start().await;
    let commands = engine.commands.clone();
    let send = |command| commands.send(command).unwrap();
    send(Command::Load(Load::new(tiny_model(), device)));
    let loaded = event(&mut engine, |event| match event {
        Event::Loaded(loaded) => Some(loaded),
        _ => None,
    })
    .await;
    let writing = Writing::new(Sampling::GREEDY, 8, JobSeed::from_bytes([0; 32]));
    send(Command::Generate(Generate {
        id: 7,
        task: Task::write(loaded.model, vec![1, 2, 3], writing),
        output: Vec::new(),
    }));
    let mut tokens = 0;
    let finished = loop {
        let next = event(&mut engine, Some).await;
        match next {
            Event::Tokens { id: 7, tokens: new } => tokens += new.len(),
            Event::Finished(finished) => break finished,
            _ => {}
        }
    };
    assert_eq!(finished.id, 7);
    assert!((1..=8).contains(&tokens));
    drop((commands, engine.commands));
    let waiting = async { while engine.events.recv().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap();
    loaded
}

/// Whatever the command was, whoever sent it waits for the answer.
#[cfg(unix)]
#[tokio::test]
async fn a_command_that_cannot_be_written_is_answered() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let mut engine = start().await;
    let send = |command| engine.commands.send(command).unwrap();
    let path = PathBuf::from(OsStr::from_bytes(b"/models/bad\xff.gguf"));
    send(Command::Load(Load::new(path, DeviceChoice::Cpu)));
    let model = ModelId::from_bytes([1; 32]);
    send(Command::Generate(Generate {
        id: 9,
        task: Task::embed(model, &[vec![u32::MAX; 10 << 20]]),
        output: Vec::new(),
    }));
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let next = tokio::time::timeout(Duration::from_secs(30), engine.events.recv());
        if let Event::Failed { id, error } = next.await.unwrap().unwrap() {
            answers.push((id, error));
        }
    }
    let [(None, load), (Some(9), embed)] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!(load.code, FailureCode::BadModel);
    assert!(load.message.contains("bad\\xFF.gguf"), "{load}");
    assert_eq!(embed.code, FailureCode::BadRequest);
}

#[tokio::test]
async fn it_ends_when_asked_to() {
    let mut engine = start().await;
    event(&mut engine, |event| {
        matches!(event, Event::Started { .. }).then_some(())
    })
    .await;
    engine.commands.send(Command::Shutdown).unwrap();
    ended(&mut engine).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_program_that_speaks_otherwise_is_ended() {
    let link = ChildEngine {
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), "echo hello there; sleep 60".to_owned()],
        processes: EngineProcesses::default(),
    };
    let mut engine = link.start().await.unwrap();
    assert_eq!(link.processes.ids().len(), 1);
    ended(&mut engine).await;
    // The child is reaped just after its messages have ended.
    while !link.processes.ids().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let link = ChildEngine {
        program: "/nowhere/infera".into(),
        arguments: Vec::new(),
        processes: EngineProcesses::default(),
    };
    let error = link.start().await.unwrap_err();
    assert!(matches!(error, EngineError::Start(_)), "{error}");
    assert!(link.processes.ids().is_empty());
}
