//! The owner of a machine, and what they do with it: programs, a window on a screen, and the
//! services that tell of input, power and sleep on a bus.
#![expect(clippy::unused_self, reason = "so the bus calls what it is served")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use infera_system_tests::desktop::Desktop;
use tokio::runtime::Runtime;
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{
    ConnectionExt as _, CreateWindowAux, EventMask, InputFocus, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::{COPY_FROM_PARENT, CURRENT_TIME};
use xtask::Result;
use zbus::interface;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::OwnedFd;

/// What begins, and ends again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// A program at that place runs.
    Program(&'static str),
    /// A window fills the screen.
    FullScreen,
    /// Somebody comes to the machine.
    Input,
    /// The battery alone feeds it.
    Unplug,
    /// It is going to sleep.
    Sleep,
}

pub(crate) struct Owner {
    folder: PathBuf,
    running: Option<Child>,
    screen: Screen,
    services: Services,
}

impl Owner {
    /// Away from a machine with that desktop, which is plugged in and awake.
    pub(crate) fn at(desktop: &Desktop, folder: &Path) -> Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            running: None,
            screen: Screen::open(desktop.screen().display())?,
            services: Services::start(desktop.bus())?,
        })
    }

    /// Where a node sees them, and nobody else.
    pub(crate) fn environment(&self, desktop: &Desktop) -> Vec<(String, String)> {
        [
            ("DISPLAY", desktop.screen().display()),
            ("WAYLAND_DISPLAY", ""),
            ("DBUS_SESSION_BUS_ADDRESS", desktop.bus()),
            ("DBUS_SYSTEM_BUS_ADDRESS", desktop.bus()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Installs what an act needs.
    pub(crate) fn prepare(&self, act: Act) -> Result<()> {
        if let Act::Program(place) = act {
            let program = self.folder.join(place);
            if let Some(folder) = program.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::copy("/bin/sleep", program)?;
        }
        Ok(())
    }

    pub(crate) fn begin(&mut self, act: Act) -> Result<()> {
        match act {
            Act::Program(place) => {
                let mut command = Command::new(self.folder.join(place));
                let running = command.arg("600").stdout(Stdio::null()).spawn()?;
                self.running = Some(running);
                Ok(())
            }
            Act::FullScreen => self.screen.fill(),
            Act::Input => self.services.set_idle(0),
            Act::Unplug => self.services.set_on_battery(true),
            Act::Sleep => self.services.say_sleep(true),
        }
    }

    pub(crate) fn end(&mut self, act: Act) -> Result<()> {
        match act {
            Act::Program(_) => {
                if let Some(mut running) = self.running.take() {
                    running.kill()?;
                    running.wait()?;
                }
                Ok(())
            }
            Act::FullScreen => self.screen.clear(),
            Act::Input => self.services.set_idle(AWAY_MS),
            Act::Unplug => self.services.set_on_battery(false),
            Act::Sleep => self.services.say_sleep(false),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            let _ = running.kill();
            let _ = running.wait();
        }
    }
}

/// A screen without a window manager.
struct Screen {
    server: RustConnection,
    root: Window,
    window: Window,
}

impl Screen {
    fn open(display: &str) -> Result<Self> {
        let (server, number) = RustConnection::connect(Some(display))?;
        let screen = server.setup().roots.get(number).ok_or("it has no screen")?;
        let (root, width, height) = (screen.root, screen.width_in_pixels, screen.height_in_pixels);
        let window = server.generate_id()?;
        let values = CreateWindowAux::new().event_mask(EventMask::STRUCTURE_NOTIFY);
        let class = WindowClass::INPUT_OUTPUT;
        server.create_window(
            COPY_FROM_PARENT as u8,
            window,
            root,
            0,
            0,
            width,
            height,
            0,
            class,
            COPY_FROM_PARENT,
            &values,
        )?;
        let screen = Self {
            server,
            root,
            window,
        };
        screen.clear()?;
        Ok(screen)
    }

    fn fill(&self) -> Result<()> {
        self.server.map_window(self.window)?;
        self.focus(self.window)
    }

    fn clear(&self) -> Result<()> {
        self.server.unmap_window(self.window)?;
        self.focus(self.root)
    }

    fn focus(&self, window: Window) -> Result<()> {
        let revert = InputFocus::POINTER_ROOT;
        self.server
            .set_input_focus(revert, window, CURRENT_TIME)?
            .check()?;
        Ok(())
    }
}

/// Nobody has touched the machine for so long: an hour.
const AWAY_MS: u64 = 60 * 60 * 1000;
const MONITOR: &str = "/org/gnome/Mutter/IdleMonitor/Core";
const POWER: &str = "/org/freedesktop/UPower";
const BATTERY: &str = "/org/freedesktop/UPower/devices/DisplayDevice";
const LOGIN: &str = "/org/freedesktop/login1";

/// The services of a desktop and a system, on one bus. They act on a runtime of their own.
struct Services {
    runtime: Runtime,
    bus: zbus::Connection,
}

impl Services {
    fn start(address: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let builder = zbus::connection::Builder::address(address)?
            .serve_at(MONITOR, IdleMonitor { idle_ms: AWAY_MS })?
            .serve_at(POWER, Machine { on_battery: false })?
            .serve_at(BATTERY, Battery)?
            .serve_at(LOGIN, Login)?
            .name("org.gnome.Mutter.IdleMonitor")?
            .name("org.freedesktop.UPower")?
            .name("org.freedesktop.login1")?;
        let bus = runtime.block_on(builder.build())?;
        Ok(Self { runtime, bus })
    }

    fn set_idle(&self, idle_ms: u64) -> Result<()> {
        self.runtime.block_on(async {
            let server = self.bus.object_server();
            let monitor = server.interface::<_, IdleMonitor>(MONITOR).await?;
            monitor.get_mut().await.idle_ms = idle_ms;
            IdleMonitor::watch_fired(monitor.signal_emitter(), 1).await?;
            Ok(())
        })
    }

    fn set_on_battery(&self, on_battery: bool) -> Result<()> {
        self.runtime.block_on(async {
            let server = self.bus.object_server();
            let machine = server.interface::<_, Machine>(POWER).await?;
            machine.get_mut().await.on_battery = on_battery;
            let told = machine.get().await;
            told.on_battery_changed(machine.signal_emitter()).await?;
            Ok(())
        })
    }

    fn say_sleep(&self, begins: bool) -> Result<()> {
        self.runtime.block_on(async {
            let server = self.bus.object_server();
            let login = server.interface::<_, Login>(LOGIN).await?;
            Login::prepare_for_sleep(login.signal_emitter(), begins).await?;
            Ok(())
        })
    }
}

struct IdleMonitor {
    idle_ms: u64,
}

#[interface(name = "org.gnome.Mutter.IdleMonitor")]
impl IdleMonitor {
    fn get_idletime(&self) -> u64 {
        self.idle_ms
    }

    fn add_idle_watch(&self, limit_ms: u64) -> u32 {
        // It fires when the bench says so.
        let _ = limit_ms;
        1
    }

    fn add_user_active_watch(&self) -> u32 {
        2
    }

    #[zbus(signal)]
    async fn watch_fired(emitter: &SignalEmitter<'_>, watch: u32) -> zbus::Result<()>;
}

struct Machine {
    on_battery: bool,
}

#[interface(name = "org.freedesktop.UPower")]
impl Machine {
    #[zbus(property)]
    fn on_battery(&self) -> bool {
        self.on_battery
    }
}

struct Battery;

#[interface(name = "org.freedesktop.UPower.Device")]
impl Battery {
    #[zbus(property)]
    fn is_present(&self) -> bool {
        true
    }

    #[zbus(property, name = "Type")]
    fn kind(&self) -> u32 {
        2
    }

    #[zbus(property)]
    fn percentage(&self) -> f64 {
        80.0
    }
}

struct Login;

#[interface(name = "org.freedesktop.login1.Manager")]
impl Login {
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::fdo::Result<OwnedFd> {
        // Nothing sleeps here, so everybody may hold it up.
        let _ = (what, who, why, mode);
        let (_, given) = std::os::unix::net::UnixStream::pair()
            .map_err(|error| zbus::fdo::Error::Failed(error.to_string()))?;
        Ok(std::os::fd::OwnedFd::from(given).into())
    }

    #[zbus(signal)]
    async fn prepare_for_sleep(emitter: &SignalEmitter<'_>, start: bool) -> zbus::Result<()>;

    #[zbus(property)]
    fn preparing_for_sleep(&self) -> bool {
        false
    }
}
