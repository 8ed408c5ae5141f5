//! The child process: limits come in on stdin, then conversations; prompts go out on stdout.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use infera_protocol::frame;

use super::allocator;
use super::message::{Answer, Ask};
use crate::error::ModelError;
use crate::template::{ChatTemplate, Compiled};

/// A stack on which the deepest template that is allowed comes to its end.
const STACK_BYTES: usize = 64 << 20;
/// So many templates stay compiled.
const MAX_COMPILED: usize = 64;

/// Answers until the input ends, which it does with the parent, whatever is being worked on then.
pub fn run(mut input: impl Read, output: impl Write + Send + 'static) -> ExitCode {
    let (asks, to_do) = mpsc::sync_channel(1);
    let worker = thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || serve(&to_do, output));
    if worker.is_err() {
        return ExitCode::FAILURE;
    }
    let mut decoder = frame::Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return ExitCode::SUCCESS,
            Ok(read) => decoder.push(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return ExitCode::FAILURE,
        }
        loop {
            match decoder.message::<Ask>() {
                Ok(Some(ask)) => {
                    if asks.send(ask).is_err() {
                        return ExitCode::FAILURE;
                    }
                }
                Ok(None) => break,
                Err(_) => return ExitCode::FAILURE,
            }
        }
    }
}

/// Ends when the parent no longer listens, or what it says cannot be done.
fn serve(asks: &Receiver<Ask>, mut output: impl Write) {
    let Ok(Ask::Limits {
        memory_bytes,
        seconds,
    }) = asks.recv()
    else {
        return;
    };
    let limited = allocator::limit(memory_bytes) && allow(seconds).is_ok();
    if !limited || send(&mut output, &Answer::Ready).is_err() {
        return;
    }
    let mut compiled = HashMap::new();
    while let Ok(Ask::Render {
        template,
        messages,
        add_generation_prompt,
        now_ms,
    }) = asks.recv()
    {
        if allow(seconds).is_err() {
            return;
        }
        let now = UNIX_EPOCH + Duration::from_millis(now_ms);
        let text = look_up(&mut compiled, template.into_owned())
            .and_then(|template| template.render(&messages, add_generation_prompt, now));
        let answer = match text {
            Ok(text) => Answer::Text { text },
            Err(ModelError::MessagesRefused { message }) => Answer::Refused { message },
            Err(ModelError::BadTemplate { fault, .. }) => Answer::Failed { fault },
            Err(other) => Answer::Failed {
                fault: other.to_string(),
            },
        };
        if send(&mut output, &answer).is_err() {
            return;
        }
        // Whatever one template keeps must leave room for the others.
        if compiled.len() > MAX_COMPILED || allocator::used() > memory_bytes / 4 {
            compiled.clear();
        }
    }
}

fn look_up(
    compiled: &mut HashMap<ChatTemplate, Compiled>,
    template: ChatTemplate,
) -> Result<&Compiled, ModelError> {
    use std::collections::hash_map::Entry;
    Ok(match compiled.entry(template) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => {
            let made = Compiled::new(new.key())?;
            new.insert(made)
        }
    })
}

fn send(output: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let frame = frame::encode(answer).map_err(io::Error::other)?;
    output.write_all(&frame)?;
    output.flush()
}

/// The processor's time from now on, should nobody wait for the end of it. No core is written:
/// it would hold people's texts.
#[cfg(unix)]
fn allow(seconds: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use rustix::time::{ClockId, clock_gettime};

    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec;
    let until = u64::try_from(used).unwrap_or(0) + seconds + 1;
    let limit = |resource, current| {
        let maximum = getrlimit(resource).maximum;
        let current = Some(maximum.map_or(current, |maximum| maximum.min(current)));
        setrlimit(resource, Rlimit { current, maximum })
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Cpu, until)?;
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
fn allow(_seconds: u64) -> io::Result<()> {
    Ok(())
}
