//! The icon in a panel that we are: its picture, its menu, and clicks on it, all over D-Bus.
#![cfg(target_os = "linux")]
#![expect(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "so the bus calls what it is served"
)]

use std::collections::HashMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infera_system_tests::desktop::{self, Desktop};
use infera_system_tests::{World, story, tiny_model};
use serde_json::Value as Json;
use xtask::http::Client;
use xtask::network::{Node, NodeOptions, START_LIMIT, repository};
use xtask::process::{self, Process};
use xtask::{Result, wait};
use zbus::blocking::{Connection, Proxy, connection, proxy};
use zbus::interface;
use zbus::message::Header;
use zbus::proxy::CacheProperties;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};

const LIMIT: Duration = Duration::from_secs(20);
/// The window's.
const TITLE: &str = "Infera Node";
const STATES: [&str; 4] = ["working", "waiting", "paused", "needs-you"];

/// What a panel is to programs.
struct Watcher {
    /// Who has an icon, and where.
    items: Sender<(String, String)>,
}

#[interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    fn register_status_notifier_item(&self, service: &str, #[zbus(header)] header: Header<'_>) {
        let sender = header.sender().map(ToString::to_string).unwrap_or_default();
        // Some give their bus name, some the path of their icon.
        let item = if service.starts_with('/') {
            (sender, service.to_owned())
        } else {
            (service.to_owned(), "/StatusNotifierItem".to_owned())
        };
        // At the test's end nobody listens.
        let _ = self.items.send(item);
    }

    #[zbus(property)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }

    #[zbus(property)]
    fn protocol_version(&self) -> i32 {
        0
    }
}

struct Panel {
    connection: Connection,
    items: Receiver<(String, String)>,
}

impl Panel {
    fn start(desktop: &Desktop) -> Result<Self> {
        let (sender, items) = channel();
        let watcher = Watcher { items: sender };
        let connection = connection::Builder::address(desktop.bus())?
            .serve_at("/StatusNotifierWatcher", watcher)?
            .name("org.kde.StatusNotifierWatcher")?
            .build()?;
        Ok(Self { connection, items })
    }

    /// The next icon that comes.
    fn icon(&self) -> Result<Icon<'_>> {
        let (name, path) = self
            .items
            .recv_timeout(START_LIMIT)
            .map_err(|_| "no icon came into the panel")?;
        let item = self.proxy(&name, &path, "org.kde.StatusNotifierItem")?;
        let menu: OwnedObjectPath = item.get_property("Menu")?;
        let menu = self.proxy(&name, menu.as_str(), "com.canonical.dbusmenu")?;
        Ok(Icon { item, menu })
    }

    /// Asks anew each time: icons tell their changes in signals of their own.
    fn proxy<'a>(&self, name: &str, path: &str, interface: &'a str) -> Result<Proxy<'a>> {
        Ok(proxy::Builder::new(&self.connection)
            .destination(name.to_owned())?
            .path(path.to_owned())?
            .interface(interface)?
            .cache_properties(CacheProperties::No)
            .build()?)
    }
}

struct Icon<'a> {
    item: Proxy<'a>,
    menu: Proxy<'a>,
}

impl Icon<'_> {
    /// The file with its picture.
    fn file(&self) -> Result<PathBuf> {
        let name: String = self.item.get_property("IconName")?;
        let theme: String = self.item.get_property("IconThemePath")?;
        // A whole path, or a name in a folder of its own.
        Ok(Path::new(&theme).join(name))
    }

    /// Which state's picture it shows; none in the moment in which it changes. Keeps the picture.
    fn state(&self) -> Result<Option<&'static str>> {
        let Ok(file) = fs::read(self.file()?) else {
            return Ok(None);
        };
        // It may be half written.
        let Ok(shown) = pixels(&file) else {
            return Ok(None);
        };
        for state in STATES {
            let ours = repository().join(format!("icons/tray/{state}-dark.png"));
            if pixels(&fs::read(ours)?)? == shown {
                let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tray");
                fs::create_dir_all(&folder)?;
                fs::write(folder.join(format!("{state}.png")), file)?;
                return Ok(Some(state));
            }
        }
        Ok(None)
    }

    /// The menu's lines.
    fn lines(&self) -> Result<Vec<Line>> {
        type Layout = (u32, (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>));
        let all: [&str; 0] = [];
        let (_, (_, _, children)): Layout = self.menu.call("GetLayout", &(0, -1, &all[..]))?;
        children.iter().map(|child| Line::read(child)).collect()
    }

    /// Until it shows a state, and its menu begins with these words.
    fn wait_for(&self, state: &str, words: &str) -> Result<Vec<Line>> {
        let mut last = None;
        let found = wait::until("the icon and its menu follow", LIMIT, || {
            let lines = self.lines()?;
            let shown = self.state()?;
            if shown == Some(state)
                && lines
                    .first()
                    .is_some_and(|line| line.text.starts_with(words))
            {
                return Ok(Some(lines));
            }
            last = Some((shown, lines));
            Ok(None)
        });
        found.map_err(|error| format!("{error} to {state}, {words:?}: {last:?}").into())
    }

    /// Clicks on the line with these words, or on one in a menu below.
    fn click(&self, words: &[&str]) -> Result<()> {
        let mut lines = self.lines()?;
        let mut id = 0;
        for word in words {
            let line = lines.into_iter().find(|line| line.text == *word);
            let line = line.ok_or_else(|| format!("the menu has no {word:?}"))?;
            assert!(line.enabled, "{line:?}");
            (id, lines) = (line.id, line.lines);
        }
        self.menu
            .call::<_, _, ()>("Event", &(id, "clicked", Value::I32(0), 0_u32))?;
        Ok(())
    }
}

/// One line of a menu. A line between lines has no text.
#[derive(Debug)]
struct Line {
    id: i32,
    text: String,
    enabled: bool,
    lines: Vec<Self>,
}

impl Line {
    /// From `(ia{sv}av)`: its number, its properties, and the lines below it.
    fn read(value: &Value<'_>) -> Result<Self> {
        let Value::Structure(parts) = bare(value) else {
            return Err(format!("not a line of a menu: {value:?}").into());
        };
        let [Value::I32(id), Value::Dict(properties), Value::Array(lines)] = parts.fields() else {
            return Err(format!("not a line of a menu: {value:?}").into());
        };
        let mut line = Self {
            id: *id,
            text: String::new(),
            enabled: true,
            lines: lines.iter().map(Self::read).collect::<Result<_>>()?,
        };
        for (name, value) in properties.iter() {
            match (name, bare(value)) {
                (Value::Str(name), Value::Str(text)) if name.as_str() == "label" => {
                    text.as_str().clone_into(&mut line.text);
                }
                (Value::Str(name), Value::Bool(enabled)) if name.as_str() == "enabled" => {
                    line.enabled = *enabled;
                }
                _ => {}
            }
        }
        Ok(line)
    }
}

fn bare<'a, 'v>(value: &'a Value<'v>) -> &'a Value<'v> {
    match value {
        Value::Value(inner) => bare(inner),
        other => other,
    }
}

/// A picture's width and what it shows, whatever way it is packed.
fn pixels(file: &[u8]) -> Result<(u32, Vec<u8>)> {
    let mut reader = png::Decoder::new(Cursor::new(file)).read_info()?;
    let size = reader
        .output_buffer_size()
        .ok_or("the picture is too large")?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels)?;
    pixels.truncate(frame.buffer_size());
    Ok((frame.width, pixels))
}

/// A network, a node of it that has not begun, and a screen; none where there can be no screen.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn set_up() -> Result<Option<(World, Node, Desktop)>> {
    if let Some(program) = desktop::missing(&["Xvfb", "dbus-daemon"]) {
        eprintln!("skipped: {program} is missing");
        return Ok(None);
    }
    desktop::binaries()?;
    let world = World::start(0, 0)?;
    let node = world.new_node("desktop", NodeOptions::on_cpu(&tiny_model()))?;
    let desktop = Desktop::start(world.data.path())?;
    Ok(Some((world, node, desktop)))
}

/// The program in the tray alone, as the system starts it.
fn start(world: &World, desktop: &Desktop, node: &Node, agreed: bool) -> Result<Process> {
    let mut command = Command::new(&world.binaries.desktop);
    command.arg("--hidden").args(desktop::arguments(node));
    command.args(["--release-window-after", "1"]);
    desktop.furnish(&mut command, world.balancer.url());
    command.env("INFERA_AGREE", if agreed { "1" } else { "0" });
    Process::start("the desktop program", command, &node.log())
}

fn wait_for_status(node: &Node, what: &str, is: impl Fn(&Json) -> bool) -> Result<()> {
    wait::until(what, LIMIT, || {
        let status = node.status()?;
        Ok(is(&status).then_some(()))
    })
    .map_err(|error| node.fault(&format!("did not follow the tray: {error}")))
}

fn wait_until_ready(node: &Node) -> Result<()> {
    wait::until("the node is ready", START_LIMIT, || {
        Ok(node.is_ready().then_some(()))
    })
    .map_err(|error| node.fault(&error.to_string()))
}

fn pause(status: &Json) -> Option<&Json> {
    let reason = &status["decision"]["reason"];
    (reason["reason"] == "paused").then_some(reason)
}

fn now_ms() -> Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(now.as_millis())?)
}

#[test]
fn the_tray_shows_the_state_and_its_menu_steers_the_node() -> Result<()> {
    let Some((world, node, desktop)) = set_up()? else {
        return Ok(());
    };
    let panel = Panel::start(&desktop)?;

    let mut program = start(&world, &desktop, &node, false)?;
    let icon = panel.icon()?;
    let lines = icon.wait_for("needs-you", "Nothing is shared yet")?;
    assert!(!lines[0].enabled, "{lines:?}");
    icon.click(&["Quit"])?;
    let end = program.wait_for_end(LIMIT)?;
    assert!(end.success(), "{end}");

    let mut program = start(&world, &desktop, &node, true)?;
    let icon = panel.icon()?;
    icon.wait_for("waiting", "Waiting for jobs")?;
    wait_for_status(&node, "the node is ready", |_| node.is_ready())?;

    icon.click(&["Pause"])?;
    wait_for_status(&node, "the node is paused", |status| {
        pause(status).is_some_and(|pause| pause["until_ms"].is_null())
    })?;
    let lines = icon.wait_for("paused", "Paused by you")?;
    assert_eq!(lines[0].text, "Paused by you");
    assert!(!lines.iter().any(|line| line.text == "Pause"), "{lines:?}");

    icon.click(&["Snooze", "1 hour"])?;
    let end = now_ms()? + 60 * 60 * 1000;
    wait_for_status(&node, "the node is paused for an hour", |status| {
        let until = pause(status).and_then(|pause| pause["until_ms"].as_i64());
        until.is_some_and(|until| (until - end).abs() < 60_000)
    })?;
    icon.wait_for("paused", "Paused by you until ")?;

    icon.click(&["Resume"])?;
    wait_for_status(&node, "the node runs again", |_| node.is_ready())?;
    icon.wait_for("waiting", "Waiting for jobs")?;

    // A job may be over before the menu is read.
    let works = (0..20).find_map(|seed| sees_work(&world, &icon, seed).transpose());
    let words = works.ok_or("the icon never showed work")??;
    assert!(words.starts_with("Working on a job"), "{words}");
    icon.wait_for("waiting", "Waiting for jobs")?;

    program.stop(LIMIT)
}

#[test]
fn removing_everything_leaves_nothing_of_the_program() -> Result<()> {
    let Some((world, node, desktop)) = set_up()? else {
        return Ok(());
    };
    let mut program = start(&world, &desktop, &node, true)?;
    wait_until_ready(&node)?;

    // The answer arrives, although the program ends with it.
    control(&node)?
        .post("/control/v1/remove_everything", &Json::Null)?
        .success()?;
    let end = program.wait_for_end(LIMIT)?;
    assert!(end.success(), "{end}");
    assert!(!node.data().exists(), "{} is there", node.data().display());
    let config = desktop.home().join(".config");
    if config.exists() {
        let left: Vec<_> = fs::read_dir(config)?.collect::<std::io::Result<_>>()?;
        let ours = |name: &std::ffi::OsStr| name.to_string_lossy().contains("infera");
        assert!(!left.iter().any(|it| ours(&it.file_name())), "{left:?}");
    }
    Ok(())
}

#[test]
fn the_window_is_a_process_that_may_fail_and_the_next_one_opens() -> Result<()> {
    let Some((world, node, desktop)) = set_up()? else {
        return Ok(());
    };
    let panel = Panel::start(&desktop)?;
    let mut program = start(&world, &desktop, &node, true)?;
    let icon = panel.icon()?;
    wait_until_ready(&node)?;
    assert_eq!(window(&program)?, None);
    let open = |icon: &Icon<'_>| icon.click(&["Open Infera Node"]);

    // It crashes.
    open(&icon)?;
    let first = wait_for_window(&desktop, &program, None)?;
    process::kill(first)?;
    wait_for_title(&desktop, "The window has closed by itself")?;
    assert_eq!(window(&program)?, None);
    open(&icon)?;
    let second = wait_for_window(&desktop, &program, Some(first))?;

    // What draws its page crashes.
    let drawing = wait::until("a process draws the page", LIMIT, || {
        let children = process::children_of(second)?.into_iter();
        let mut drawing = children.filter(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with("WebKitWebProces")
        });
        Ok(drawing.next())
    })?;
    process::kill(drawing)?;
    wait_for_no_window(&program)?;
    open(&icon)?;
    let third = wait_for_window(&desktop, &program, Some(second))?;
    assert!(node.is_ready());

    // A second program brings it to the front.
    let mut command = Command::new(&world.binaries.desktop);
    command.args(desktop::arguments(&node));
    desktop.furnish(&mut command, world.balancer.url());
    let mut again = Process::start("the second program", command, &node.log())?;
    assert!(again.wait_for_end(LIMIT)?.success());
    assert_eq!(window(&program)?, Some(third));

    // Closed for the first time it says where the program is, then it is hidden, and gone soon.
    desktop.screen().close_window(TITLE)?;
    let explanation = "Infera Node keeps running";
    wait_for_title(&desktop, explanation)?;
    assert!(desktop.screen().shows(TITLE)?);
    desktop.screen().close_window(explanation)?;
    wait::until("the window is hidden", LIMIT, || {
        Ok((!desktop.screen().shows(TITLE)?).then_some(()))
    })?;
    wait::until("that it was said is remembered", LIMIT, || {
        let state = control(&node)?.post("/control/v1/state", &Json::Null)?;
        let state = state.success()?;
        Ok((state["settings"]["closing_explained"] == true).then_some(()))
    })?;
    wait_for_no_window(&program)?;
    assert!(
        node.data().join("window.json").exists(),
        "its place is kept"
    );

    // The program ends with its window open, and leaves nothing behind.
    open(&icon)?;
    let fourth = wait_for_window(&desktop, &program, Some(third))?;
    icon.click(&["Quit"])?;
    let end = program.wait_for_end(LIMIT)?;
    assert!(end.success(), "{end}");
    assert!(!is_running(fourth));

    // A program that is killed takes its window with it.
    let mut program = start(&world, &desktop, &node, true)?;
    let icon = panel.icon()?;
    wait_until_ready(&node)?;
    open(&icon)?;
    let last = wait_for_window(&desktop, &program, None)?;
    program.kill();
    wait::until("the window ends", LIMIT, || {
        Ok((!is_running(last)).then_some(()))
    })
}

/// The running node's control API.
fn control(node: &Node) -> Result<Client> {
    let file: Json = serde_json::from_slice(&fs::read(node.data().join("control.json"))?)?;
    let word = |name: &str| file[name].as_str().unwrap_or_default();
    Ok(Client::new(word("url"), Some(word("token"))))
}

/// The process of the program's window.
fn window(program: &Process) -> Result<Option<u32>> {
    let children = process::children_of(program.pid())?.into_iter();
    let mut windows = children.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"window") && is_running(*pid)
    });
    Ok(windows.next())
}

/// Until another window than the one before is seen.
fn wait_for_window(desktop: &Desktop, program: &Process, before: Option<u32>) -> Result<u32> {
    let found = wait::until("the window opens", START_LIMIT, || {
        let process = window(program)?.filter(|process| Some(*process) != before);
        Ok(process.filter(|_| matches!(desktop.screen().shows(TITLE), Ok(true))))
    });
    found.map_err(|error| program.fault(&error.to_string()))
}

fn wait_for_title(desktop: &Desktop, title: &str) -> Result<()> {
    wait::until(&format!("{title:?} is shown"), LIMIT, || {
        Ok(desktop.screen().shows(title)?.then_some(()))
    })
}

fn wait_for_no_window(program: &Process) -> Result<()> {
    wait::until("the window's process is gone", LIMIT, || {
        Ok(window(program)?.is_none().then_some(()))
    })
}

/// One that has ended and waits for its parent to notice does not run.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.is_empty() && !state.starts_with('Z')
}

/// The menu's first line at a moment of a job in which the icon showed work.
fn sees_work(world: &World, icon: &Icon<'_>, seed: u64) -> Result<Option<String>> {
    let mut words = None;
    for event in world.stream(&story(seed, 400))? {
        event?;
        if words.is_none() && icon.state()? == Some("working") {
            let lines = icon.lines()?;
            words = lines.into_iter().map(|line| line.text).next();
            words = words.filter(|words| words.starts_with("Working"));
        }
    }
    Ok(words)
}
