//! `cargo xtask bench desktop`: the desktop program's start, what it costs, and how soon Pause frees
//! the machine. Linux only: the figures come from `/proc`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::http::Client;
use xtask::network::{Balancer, BalancerOptions, Binaries, START_LIMIT};
use xtask::process::Process;
use xtask::screen::{Bus, Panel, Screen};
use xtask::{Result, wait};

use crate::report;

/// How long a cost is measured.
const WATCHED: Duration = Duration::from_secs(30);
/// So long after it was last told to do something, a program does what it does for hours.
const SETTLING: Duration = Duration::from_secs(5);
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// A closed window stays in memory so long here, which is enough to open it again.
const RELEASE_WINDOW_AFTER: Duration = Duration::from_secs(10);
/// The window's title, and what the log says of it.
const TITLE: &str = "Infera Node";
const IS_SHOWN: &str = "the window is shown";
/// Rounds of Pause in the middle of an answer.
const PAUSES: usize = 20;
/// A process that computes less than [`IDLE_WORK`] in this time is idle.
const IDLE: Duration = Duration::from_millis(50);
const IDLE_WORK: Duration = Duration::from_millis(1);

/// `model` is served on the CPU by a balancer of its own.
pub(crate) fn run(binaries: &Binaries, model: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let screen = Screen::start(&folder.path().join("screen.log"))?;
    let bus = Bus::start(folder.path())?;
    let _panel = Panel::start(&bus)?;
    let balancer = Balancer::start(
        binaries,
        &folder.path().join("balancer"),
        BalancerOptions::default(),
    )?;
    balancer.add_model(model, "model", 1, 1)?;
    let clients_key = balancer.create_key("bench")?;
    let desktop = |hidden: bool| {
        let mut command = Command::new(&binaries.desktop);
        command
            .args(hidden.then_some("--hidden"))
            .arg("--data")
            .arg(folder.path().join("node"))
            .arg("--key-file")
            .arg(folder.path().join("key"))
            .arg("--release-window-after")
            .arg(RELEASE_WINDOW_AFTER.as_secs().to_string())
            .env("DISPLAY", screen.display())
            .env("DBUS_SESSION_BUS_ADDRESS", bus.address())
            .env("INFERA_LOG", "info")
            .env("INFERA_AGREE", "1")
            .env("INFERA_WEB_CONTROL", "1")
            .env("INFERA_BALANCER", balancer.url())
            .env("INFERA_DEVICE", "cpu")
            .env("INFERA_MODEL", model);
        Process::start("infera-node", command, &folder.path().join("log.txt"))
    };

    let begun = Instant::now();
    let mut program = desktop(false)?;
    for (name, words) in [("tray", "the tray is set up"), ("window", IS_SHOWN)] {
        wait::until(words, START_LIMIT, || {
            Ok(fs::read_to_string(program.log())?
                .contains(words)
                .then_some(()))
        })?;
        let after = begun.elapsed().as_secs_f64();
        report::fact(name, &format!("{after:.2} s after its start"));
    }
    thread::sleep(SETTLING);
    tell_cost("window open", program.pid())?;
    program.stop(STOP_LIMIT)?;

    let begun = Instant::now();
    let mut program = desktop(true)?;
    let control = wait::until("the program answers", START_LIMIT, || {
        Ok(control(&folder.path().join("node")).ok())
    })?;
    wait_for_jobs(&control)?;
    report::fact(
        "ready",
        &format!(
            "{:.2} s after its start: model loaded, connected",
            begun.elapsed().as_secs_f64()
        ),
    );
    let mut idle = Vec::new();
    let mut freed = Vec::new();
    for _ in 0..PAUSES {
        wait_for_jobs(&control)?;
        let mut answer = balancer.client(&clients_key).stream(
            "/v1/chat/completions",
            &json!({
                "model": "model", "stream": true, "max_tokens": 2000,
                "messages": [{"role": "user", "content": "Write a long story about the sea."}],
            }),
        )?;
        for _ in 0..3 {
            answer.next().ok_or("the answer ended too early")??;
        }
        let engine = *family(program.pid()).get(1).ok_or("no engine runs")?;
        let watching = thread::spawn(move || watch(engine));
        let begun = Instant::now();
        control.post("/control/v1/pause", &json!({}))?.success()?;
        let (last_work, ended) = watching.join().map_err(|_| "the watch broke")?;
        idle.push(last_work.saturating_duration_since(begun));
        freed.push(ended.saturating_duration_since(begun));
        drop(answer);
        control
            .post("/control/v1/resume", &Value::Null)?
            .success()?;
    }
    for (name, times, what) in [
        ("idle", &mut idle, "the engine computes nothing"),
        ("freed", &mut freed, "the engine and its memory are gone"),
    ] {
        times.sort();
        let [median, p95] = [times.len() / 2, times.len() * 95 / 100 - 1]
            .map(|place| times[place].as_secs_f64() * 1000.0);
        report::fact(
            name,
            &format!("{what} {median:.0} ms after Pause (median; 95th percentile {p95:.0} ms)"),
        );
    }
    control.post("/control/v1/pause", &json!({}))?.success()?;
    wait::until("the engine is gone", START_LIMIT, || {
        Ok((family(program.pid()).len() == 1).then_some(()))
    })?;
    thread::sleep(SETTLING);
    tell_cost("paused, started without its window", program.pid())?;

    control
        .post(
            "/control/v1/change_settings",
            &json!({ "closing_explained": true }),
        )?
        .success()?;
    // As a second click on the program does.
    let open = |what: &str, program: &Process| -> Result<()> {
        let shown = || -> Result<usize> {
            Ok(fs::read_to_string(program.log())?.matches(IS_SHOWN).count())
        };
        let before = shown()?;
        let begun = Instant::now();
        let _second = desktop(false)?;
        wait::until(IS_SHOWN, START_LIMIT, || {
            Ok((shown()? > before).then_some(()))
        })?;
        let after = begun.elapsed().as_secs_f64();
        report::fact(what, &format!("shown {after:.2} s after a second start"));
        Ok(())
    };
    let close = || {
        screen.close_window(TITLE)?;
        wait::until("the window is hidden", START_LIMIT, || {
            Ok((!screen.shows(TITLE)?).then_some(()))
        })
    };
    open("window anew", &program)?;
    thread::sleep(SETTLING);
    tell_cost("paused, window open", program.pid())?;
    close()?;
    open("window that was hidden", &program)?;
    close()?;
    wait::until("the window's processes are gone", START_LIMIT, || {
        Ok((family(program.pid()).len() == 1).then_some(()))
    })?;
    thread::sleep(SETTLING);
    tell_cost("paused, window opened and closed", program.pid())?;
    program.stop(STOP_LIMIT)?;
    Ok(())
}

/// The running node's control API.
fn control(data: &Path) -> Result<Client> {
    let file: Value = serde_json::from_slice(&fs::read(data.join("control.json"))?)?;
    let client = Client::new(
        file["url"].as_str().unwrap_or_default(),
        file["token"].as_str(),
    );
    client.post("/control/v1/state", &Value::Null)?;
    Ok(client)
}

fn wait_for_jobs(control: &Client) -> Result<()> {
    wait::until("the node waits for jobs", START_LIMIT, || {
        let state = control.post("/control/v1/state", &Value::Null)?.success()?;
        let is_waiting = state["state"]["summary"]["summary"] == "waiting_for_jobs";
        Ok(is_waiting.then_some(()))
    })
}

/// Processor time and memory of a program and all its processes, which stay the same meanwhile.
fn tell_cost(when: &str, root: u32) -> Result<()> {
    let used = || {
        family(root)
            .into_iter()
            .map(processor_time)
            .sum::<Duration>()
    };
    let before = used();
    thread::sleep(WATCHED);
    let share = used().saturating_sub(before).as_secs_f64() / WATCHED.as_secs_f64() * 100.0;
    let memory = family(root)
        .into_iter()
        .map(proportional_bytes)
        .sum::<Result<u64>>()?;
    report::fact(
        when,
        &format!(
            "{share:.2} % of one core over {} s, {} MB proportional set size",
            WATCHED.as_secs(),
            memory / 1_000_000
        ),
    );
    Ok(())
}

/// Until a process ends: when it last worked before it fell idle, and when it ended.
fn watch(id: u32) -> (Instant, Instant) {
    let mut worked = (Instant::now(), processor_time(id));
    let mut idle_since = None;
    loop {
        let (now, used) = (Instant::now(), processor_time(id));
        if stat(id).is_none_or(|fields| fields[0] == "Z") {
            return (idle_since.unwrap_or(worked.0), now);
        }
        if used > worked.1 + IDLE_WORK {
            worked = (now, used);
        } else if now > worked.0 + IDLE {
            idle_since.get_or_insert(worked.0);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A process and all that it has started.
fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let parent = stat(id)?.get(1)?.parse().ok()?;
            Some((id, parent))
        })
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(id, _)| *id),
        );
        next += 1;
    }
    found
}

/// What follows the name in `/proc/ID/stat`: state, parent, ...
fn stat(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// What a process's threads have computed so far; nothing when it has ended.
fn processor_time(id: u32) -> Duration {
    let nanoseconds = fs::read_dir(format!("/proc/{id}/task"))
        .into_iter()
        .flatten()
        .filter_map(|thread| {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
    Duration::from_nanos(nanoseconds.sum())
}

fn proportional_bytes(id: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
    let kilobytes = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("Pss:")?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        })
        .ok_or("its memory cannot be read")?;
    Ok(kilobytes * 1024)
}
