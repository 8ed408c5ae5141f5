//! A desktop that nobody sees: a screen, a session bus, a panel, and the close button of a window.

use std::fs;
use std::path::Path;
use std::process::Command;

use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConnectionExt as _, EventMask, MapState, Window,
};
use x11rb::rust_connection::RustConnection;
use zbus::blocking::{Connection, connection};
use zbus::interface;

use crate::Result;
use crate::network::START_LIMIT;
use crate::process::Process;

/// Nobody else is on this bus, and it starts no service.
const BUS: &str = "<busconfig>
  <type>session</type>
  <listen>unix:path=@</listen>
  <auth>EXTERNAL</auth>
  <policy context=\"default\">
    <allow send_destination=\"*\" eavesdrop=\"true\"/>
    <allow eavesdrop=\"true\"/>
    <allow own=\"*\"/>
  </policy>
</busconfig>
";

/// Dropping it ends the screen, and with it what is shown there.
pub struct Screen {
    display: String,
    _process: Process,
}

impl Screen {
    pub fn start(log: &Path) -> Result<Self> {
        let mut command = Command::new("Xvfb");
        command
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset"])
            .args(["-screen", "0", "1280x900x24"]);
        let process = Process::start("the screen", command, log)?;
        Ok(Self {
            display: format!(":{}", process.line_after("", START_LIMIT)?),
            _process: process,
        })
    }

    /// As the environment's `DISPLAY`.
    pub fn display(&self) -> &str {
        &self.display
    }

    /// Whether there is a window with this title to be seen.
    pub fn shows(&self, title: &str) -> Result<bool> {
        let (connection, number) = x11rb::connect(Some(&self.display))?;
        Ok(find(&connection, number, title)?.is_some())
    }

    /// Does what the close button in a window's frame does.
    pub fn close_window(&self, title: &str) -> Result<()> {
        let (connection, number) = x11rb::connect(Some(&self.display))?;
        let window = find(&connection, number, title)?
            .ok_or_else(|| format!("there is no window {title:?} on the screen"))?;
        let atom =
            |name: &[u8]| -> Result<u32> { Ok(connection.intern_atom(false, name)?.reply()?.atom) };
        let words = [atom(b"WM_DELETE_WINDOW")?, x11rb::CURRENT_TIME, 0, 0, 0];
        let message = ClientMessageEvent::new(32, window, atom(b"WM_PROTOCOLS")?, words);
        connection
            .send_event(false, window, EventMask::NO_EVENT, message)?
            .check()?;
        Ok(())
    }
}

/// Nothing manages windows on the screen: all are directly on its ground.
fn find(connection: &RustConnection, number: usize, title: &str) -> Result<Option<Window>> {
    let ground = connection.setup().roots[number].root;
    for window in connection.query_tree(ground)?.reply()?.children {
        let name =
            connection.get_property(false, window, AtomEnum::WM_NAME, AtomEnum::ANY, 0, 64)?;
        let attributes = connection.get_window_attributes(window)?;
        // It may be gone since it was listed.
        if let (Ok(name), Ok(attributes)) = (name.reply(), attributes.reply())
            && name.value == title.as_bytes()
            && attributes.map_state == MapState::VIEWABLE
        {
            return Ok(Some(window));
        }
    }
    Ok(None)
}

/// Dropping it ends the bus.
pub struct Bus {
    address: String,
    _process: Process,
}

impl Bus {
    /// With its files in `folder`.
    pub fn start(folder: &Path) -> Result<Self> {
        let settings = folder.join("bus.conf");
        let socket = folder.join("bus").to_string_lossy().into_owned();
        fs::write(&settings, BUS.replace('@', &socket))?;
        let mut command = Command::new("dbus-daemon");
        command
            .args(["--nofork", "--print-address=1", "--config-file"])
            .arg(&settings);
        let process = Process::start("the session bus", command, &folder.join("bus.txt"))?;
        Ok(Self {
            address: process.line_after("", START_LIMIT)?,
            _process: process,
        })
    }

    /// As the environment's `DBUS_SESSION_BUS_ADDRESS`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// A panel that takes every tray icon, and shows none.
pub struct Panel {
    _connection: Connection,
}

impl Panel {
    pub fn start(bus: &Bus) -> Result<Self> {
        let connection = connection::Builder::address(bus.address())?
            .serve_at("/StatusNotifierWatcher", Watcher)?
            .name("org.kde.StatusNotifierWatcher")?
            .build()?;
        Ok(Self {
            _connection: connection,
        })
    }
}

/// What a panel is to programs.
struct Watcher;

#[interface(name = "org.kde.StatusNotifierWatcher")]
#[expect(clippy::unused_self, reason = "so the bus calls what it is served")]
impl Watcher {
    fn register_status_notifier_item(&self, service: &str) {
        // The bus wants it for the method's signature.
        let _ = service;
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
