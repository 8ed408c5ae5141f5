//! The real window, driven as a person would: the program's own web view over `WebDriver`. The driver
//! starts the program, and finds the web view in the process that the program starts for it.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use infera_system_tests::desktop::{self, Desktop};
use infera_system_tests::up::Up;
use infera_system_tests::{Streamed, World, story, tiny_model};
use serde_json::{Value, json};
use xtask::http::Client;
use xtask::network::{Node, NodeOptions, START_LIMIT};
use xtask::process::{self, Process};
use xtask::{Result, cache, wait};

const LIMIT: Duration = Duration::from_secs(30);
/// What `WebDriver` calls an element in its JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Ends with the process that started it, whatever way that ends.
const WRAPPER: &str = "#!/bin/sh\nexec setpriv --pdeathsig KILL \"PROGRAM\" \"$@\"\n";

struct Window {
    client: Client,
    session: String,
    driver: Process,
    program: PathBuf,
}

impl Window {
    /// Starts the program through the driver, and waits for its window.
    fn open(world: &World, desktop: &Desktop, node: &Node, driver: &Path) -> Result<Self> {
        let folder = world.data.path();
        let program = world.binaries.desktop.canonicalize()?;
        let [port, native_port] = free_ports()?;
        let mut command = Command::new(driver);
        command
            .args(["--port", &port.to_string()])
            .args(["--native-port", &native_port.to_string()])
            .arg("--native-driver")
            .arg(wrap(folder, "driver", Path::new("WebKitWebDriver"))?);
        desktop.furnish(&mut command, world.balancer.url());
        // The person agrees, in the window.
        command.env_remove("INFERA_AGREE");
        let driver = Process::start("the driver", command, &folder.join("driver.txt"))?;
        let client = Client::new(&format!("http://127.0.0.1:{port}"), None);
        wait::until("the driver is ready", START_LIMIT, || {
            let answer = client.get("/status").ok();
            Ok(answer.filter(|answer| answer.status == 200).map(drop))
        })
        .map_err(|error| driver.fault(&error.to_string()))?;
        let options = json!({
            "application": wrap(folder, "program", &program)?,
            "args": desktop::arguments(node),
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "tauri:options": options } } });
        let answer = client.post("/session", &wanted)?.success();
        let answer = answer.map_err(|error| driver.fault(&format!("has no window: {error}")))?;
        let session = answer["value"]["sessionId"]
            .as_str()
            .ok_or_else(|| format!("no session: {answer}"))?;
        Ok(Self {
            session: format!("/session/{session}"),
            client,
            driver,
            program,
        })
    }

    fn get(&self, path: &str) -> Result<Value> {
        let answer = self.client.get(&format!("{}/{path}", self.session))?;
        Ok(answer.success()?["value"].take())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let path = format!("{}/{path}", self.session);
        Ok(self.client.post(&path, body)?.success()?["value"].take())
    }

    /// All that can be read in the part of the window that a CSS selector finds first.
    fn text(&self, selector: &str) -> Result<String> {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        let script = json!({ "script": script, "args": [selector] });
        let text = self.post("execute/sync", &script)?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    fn wait_for(&self, words: &str) -> Result<()> {
        self.wait_for_in("body", words)
    }

    fn wait_for_in(&self, selector: &str, words: &str) -> Result<()> {
        let mut text = String::new();
        let seen = wait::until(&format!("the window shows {words:?}"), LIMIT, || {
            text = self.text(selector)?;
            Ok(text.contains(words).then_some(()))
        });
        seen.map_err(|error| format!("{error}; it shows:\n{text}").into())
    }

    /// A click as of a mouse on what a CSS selector finds first.
    fn click(&self, selector: &str) -> Result<()> {
        self.click_on("css selector", selector)
    }

    /// A click on the button with these words.
    fn press(&self, words: &str) -> Result<()> {
        self.click_on("xpath", &format!("//button[normalize-space()='{words}']"))
    }

    fn click_on(&self, using: &str, value: &str) -> Result<()> {
        let wanted = json!({ "using": using, "value": value });
        let element = self.post("element", &wanted)?;
        let id = element[ELEMENT].as_str().ok_or("not an element")?;
        self.post(&format!("element/{id}/click"), &json!({}))
            .map(drop)
    }

    /// Keeps a picture of the window.
    fn picture(&self, name: &str) -> Result<()> {
        let picture = self.get("screenshot")?;
        let picture = from_base64(picture.as_str().ok_or("no picture")?)?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("window");
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join(format!("{name}.png")), picture)?)
    }

    /// Every process that the driver has started, and theirs.
    fn processes(&self) -> Result<Vec<u32>> {
        let mut found = process::children_of(self.driver.pid())?;
        let mut next = 0;
        while let Some(parent) = found.get(next) {
            found.extend(process::children_of(*parent)?);
            next += 1;
        }
        Ok(found)
    }

    /// The program's process, or one of those that it starts of itself, by its subcommand.
    fn find(&self, child: Option<&str>) -> Result<Option<u32>> {
        let is_wanted = |pid: &u32| {
            let folder = PathBuf::from(format!("/proc/{pid}"));
            let line = fs::read(folder.join("cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            let subcommand = words.nth(1).filter(|word| !word.starts_with(b"--"));
            fs::read_link(folder.join("exe")).is_ok_and(|program| program == self.program)
                && subcommand == child.map(str::as_bytes)
        };
        Ok(self.processes()?.into_iter().find(is_wanted))
    }

    /// Ends the program as the system would, then the driver; nothing stays.
    fn close(mut self) -> Result<()> {
        let processes = self.processes()?;
        let program = self.find(None)?.ok_or("the program does not run")?;
        let mut command = Command::new("kill");
        process::output({
            command.arg(program.to_string());
            command
        })?;
        wait::until("the program ends", LIMIT, || {
            Ok((!is_running(program)).then_some(()))
        })?;
        self.driver.stop(LIMIT)?;
        wait::until("nothing is left", LIMIT, || {
            Ok((!processes.iter().any(|pid| is_running(*pid))).then_some(()))
        })
    }
}

/// A program that ends when the one that started it does.
fn wrap(folder: &Path, name: &str, program: &Path) -> Result<PathBuf> {
    let path = folder.join(format!("{name}.sh"));
    let mut file = fs::File::create(&path)?;
    file.write_all(
        WRAPPER
            .replace("PROGRAM", &program.to_string_lossy())
            .as_bytes(),
    )?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Two that were free a moment ago.
fn free_ports() -> Result<[u16; 2]> {
    let first = TcpListener::bind("127.0.0.1:0")?;
    let second = TcpListener::bind("127.0.0.1:0")?;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

/// One that has ended and waits for its parent to notice does not run.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.is_empty() && !state.starts_with('Z')
}

fn from_base64(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(format!("{letter} is not base64").into()),
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Ok(bytes)
}

/// Where `cargo xtask test` puts it, or in the path.
fn tauri_driver() -> Result<Option<PathBuf>> {
    let ours = cache::folder()?.join("tools/bin/tauri-driver");
    if ours.exists() {
        return Ok(Some(ours));
    }
    Ok(desktop::missing(&["tauri-driver"])
        .is_none()
        .then(|| "tauri-driver".into()))
}

fn wait_until_ready(node: &Node) -> Result<()> {
    wait::until("the node is ready", LIMIT, || {
        Ok(node.is_ready().then_some(()))
    })
    .map_err(|error| node.fault(&error.to_string()))
}

fn verified_job(world: &World, seed: u64) -> Result<()> {
    let answer = Streamed::read(world.stream(&story(seed, 60))?)?;
    let receipt = world.receipt(answer.job()?)?;
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    Ok(())
}

#[test]
fn the_window_shows_a_verified_job_pauses_and_survives_what_fails() -> Result<()> {
    if let Some(program) = desktop::missing(&["Xvfb", "dbus-daemon", "WebKitWebDriver"]) {
        eprintln!("skipped: {program} is missing");
        return Ok(());
    }
    let Some(driver) = tauri_driver()? else {
        eprintln!("skipped: tauri-driver is missing");
        return Ok(());
    };
    desktop::binaries()?;
    let mut world = World::start(0, 2)?;
    let node = world.new_node("desktop", NodeOptions::on_cpu(&tiny_model()))?;
    let desktop = Desktop::start(world.data.path())?;
    let window = Window::open(&world, &desktop, &node, &driver)?;
    let program = window.find(None)?.ok_or("the program does not run")?;

    // From the first start to the first verified job.
    window.wait_for("Welcome to Infera Node")?;
    window.wait_for("Nothing is shared yet")?;
    window.click("main input[type=checkbox]")?;
    for heading in [
        "What your machine has",
        "Which GPU may work",
        "Which model answers",
        "See what your GPU can do",
    ] {
        window.press("Continue")?;
        window.wait_for(heading)?;
    }
    assert_eq!(node.status()?["decision"]["reason"]["reason"], "not_agreed");
    window.press("Start sharing")?;
    window.wait_for("Waiting for jobs")?;
    wait_until_ready(&node)?;
    verified_job(&world, 1)?;
    window.wait_for("1 verified")?;
    window.wait_for_in("main table:not(details *)", "Verified")?;
    window.picture("home")?;
    window.click("nav a[href='#/jobs']")?;
    window.wait_for_in("main table[role=grid]", "Verified")?;
    window.picture("jobs")?;

    // Pause and Resume are on every page.
    window.click(".bar button.main")?;
    wait::until("the node is paused", LIMIT, || {
        let reason = &node.status()?["decision"]["reason"];
        Ok((reason["reason"] == "paused").then_some(()))
    })?;
    window.wait_for("Paused by you")?;
    window.picture("paused")?;
    window.click(".bar button.main")?;
    wait_until_ready(&node)?;
    window.click("nav a[href='#/home']")?;
    window.wait_for("Waiting for jobs")?;

    // A second program hands over to the first.
    let mut command = Command::new(&world.binaries.desktop);
    command.args(desktop::arguments(&node));
    desktop.furnish(&mut command, world.balancer.url());
    let mut second = Process::start("the second program", command, &node.log())?;
    let end = second.wait_for_end(LIMIT)?;
    assert!(end.success(), "{end}");
    assert_eq!(window.find(None)?, Some(program));
    let view = window.find(Some("window"))?;
    assert!(view.is_some(), "the window is no process of its own");
    window.wait_for("Waiting for jobs")?;

    // So does one that was started by a click on an invitation.
    let friends = Up::start(
        &world.binaries,
        &world.data.path().join("friends"),
        &["--name", "Friends", "--operator", "Ann"],
    )?;
    let mut command = Command::new(&world.binaries.desktop);
    command
        .args(desktop::arguments(&node))
        .args(["--", &friends.link]);
    desktop.furnish(&mut command, world.balancer.url());
    let mut third = Process::start("the program of a link", command, &node.log())?;
    let end = third.wait_for_end(LIMIT)?;
    assert!(end.success(), "{end}");
    window.wait_for("This is Friends")?;
    window.wait_for("Run by Ann")?;
    window.wait_for("A node like any other")?;
    window.picture("invitation")?;
    let before = node.status()?["balancer"].clone();
    assert_eq!(before, world.balancer.url());
    window.click("dialog[open] footer button.primary")?;
    window.wait_for("You are in Friends")?;
    wait::until("the node works for them", LIMIT, || {
        Ok((node.status()?["balancer"] == *friends.url).then_some(()))
    })?;
    window.click("nav a[href='#/settings']")?;
    window.wait_for("In use")?;
    window.picture("networks")?;
    window.press("Use")?;
    window.click("nav a[href='#/home']")?;
    window.wait_for("Waiting for jobs")?;
    wait_until_ready(&node)?;

    world.balancer.kill();
    window.wait_for("Cannot reach ")?;
    window.picture("unreachable")?;
    world.balancer.start_again()?;
    window.wait_for("Waiting for jobs")?;
    world.wait_until_ready()?;
    wait_until_ready(&node)?;

    let engine = window
        .find(Some("engine"))?
        .ok_or("the engine does not run")?;
    process::kill(engine)?;
    wait::until("another engine runs", LIMIT, || {
        Ok(window
            .find(Some("engine"))?
            .filter(|found| *found != engine))
    })?;
    wait_until_ready(&node)?;
    window.wait_for("Waiting for jobs")?;
    verified_job(&world, 2)?;
    window.wait_for("2 verified")?;
    assert_eq!(window.find(None)?, Some(program));
    assert_eq!(window.find(Some("window"))?, view);
    window.close()?;

    // The second start goes on where the first one ended.
    let window = Window::open(&world, &desktop, &node, &driver)?;
    window.wait_for("Waiting for jobs")?;
    window.wait_for("2 verified")?;
    wait_until_ready(&node)?;
    window.close()
}
