//! Buses of the tests' own, with services on them that say what a test wants.

#![expect(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "so the bus calls what it is served"
)]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use infera_surroundings::{
    Input, Network, Observers, Places, Power, Seen, Session, Wanted, network,
};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use zbus::object_server::{Interface, InterfaceRef, SignalEmitter};
use zbus::zvariant::{OwnedFd, OwnedObjectPath, OwnedValue};
use zbus::{Connection, interface};

use crate::around::{PATIENCE, nowhere, until};

/// Ends with the test.
struct Bus {
    process: Child,
    folder: TempDir,
}

impl Bus {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            r#"<busconfig>
            <type>session</type>
            <listen>unix:path={}/bus</listen>
            <auth>EXTERNAL</auth>
            <policy context="default">
                <allow send_destination="*" eavesdrop="true"/>
                <allow eavesdrop="true"/>
                <allow own="*"/>
            </policy>
            </busconfig>"#,
            folder.path().display()
        );
        std::fs::write(folder.path().join("config"), config).unwrap();
        let process = Self::process(&folder);
        Self { process, folder }
    }

    fn process(folder: &TempDir) -> Child {
        let mut command = Command::new("dbus-daemon");
        command.args(["--nofork", "--print-address", "--config-file"]);
        command.arg(folder.path().join("config"));
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert!(line.starts_with("unix:"), "dbus-daemon does not start");
        process
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn again(&mut self) {
        self.end();
        let _ = std::fs::remove_file(self.folder.path().join("bus"));
        self.process = Self::process(&self.folder);
    }

    fn address(&self) -> String {
        format!("unix:path={}/bus", self.folder.path().display())
    }

    fn system(&self) -> Places {
        let mut places = nowhere();
        places.system_bus = Some(self.address());
        places
    }

    fn session(&self) -> Places {
        let mut places = nowhere();
        places.session_bus = Some(self.address());
        places
    }

    async fn service(&self) -> Connection {
        let builder = zbus::connection::Builder::address(self.address().as_str()).unwrap();
        let building = builder.build();
        tokio::time::timeout(PATIENCE, building)
            .await
            .unwrap()
            .unwrap()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.end();
    }
}

async fn serve<I: Interface>(service: &Connection, path: &str, object: I) -> InterfaceRef<I> {
    service.object_server().at(path, object).await.unwrap();
    service.object_server().interface(path).await.unwrap()
}

fn path(path: &str) -> OwnedObjectPath {
    OwnedObjectPath::try_from(path).unwrap()
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

struct Battery {
    kind: u32,
    percentage: f64,
}

#[interface(name = "org.freedesktop.UPower.Device")]
impl Battery {
    #[zbus(property)]
    fn is_present(&self) -> bool {
        self.kind == 2
    }

    #[zbus(property, name = "Type")]
    fn kind(&self) -> u32 {
        self.kind
    }

    #[zbus(property)]
    fn percentage(&self) -> f64 {
        self.percentage
    }
}

#[tokio::test]
async fn power_by_its_service() {
    const NAME: &str = "org.freedesktop.UPower";
    const DEVICE: &str = "/org/freedesktop/UPower/devices/DisplayDevice";
    let mut bus = Bus::start();
    let service = bus.service().await;
    let machine = serve(
        &service,
        "/org/freedesktop/UPower",
        Machine { on_battery: true },
    )
    .await;
    let (kind, percentage) = (2, 79.6);
    let battery = serve(&service, DEVICE, Battery { kind, percentage }).await;
    let mut observers = Observers::start_at(bus.system(), Wanted::default());
    let power = |on_battery, battery_percent| {
        Some(Power {
            on_battery,
            battery_percent,
        })
    };
    // As the kernel says, without the service.
    until(&mut observers, |seen| seen.power == power(false, None)).await;
    service.request_name(NAME).await.unwrap();
    until(&mut observers, |seen| seen.power == power(true, Some(80))).await;
    battery.get_mut().await.percentage = 12.2;
    let told = battery.get().await;
    told.percentage_changed(battery.signal_emitter())
        .await
        .unwrap();
    drop(told);
    until(&mut observers, |seen| seen.power == power(true, Some(12))).await;
    machine.get_mut().await.on_battery = false;
    let told = machine.get().await;
    told.on_battery_changed(machine.signal_emitter())
        .await
        .unwrap();
    drop(told);
    until(&mut observers, |seen| seen.power == power(false, Some(12))).await;
    service.release_name(NAME).await.unwrap();
    until(&mut observers, |seen| seen.power == power(false, None)).await;
    battery.get_mut().await.percentage = 50.0;
    service.request_name(NAME).await.unwrap();
    until(&mut observers, |seen| seen.power == power(false, Some(50))).await;
    // The whole bus.
    bus.end();
    until(&mut observers, |seen| seen.power == power(false, None)).await;
    bus.again();
    let service = bus.service().await;
    let on_battery = true;
    serve(&service, "/org/freedesktop/UPower", Machine { on_battery }).await;
    let (kind, percentage) = (0, 0.0);
    serve(&service, DEVICE, Battery { kind, percentage }).await;
    service.request_name(NAME).await.unwrap();
    until(&mut observers, |seen| seen.power == power(true, None)).await;
}

struct NetworkManager {
    metered: u32,
}

#[interface(name = "org.freedesktop.NetworkManager")]
impl NetworkManager {
    #[zbus(property)]
    fn state(&self) -> u32 {
        70
    }

    #[zbus(property)]
    fn connectivity(&self) -> u32 {
        4
    }

    #[zbus(property)]
    fn metered(&self) -> u32 {
        self.metered
    }
}

#[tokio::test]
async fn the_network_by_its_service() {
    const NAME: &str = "org.freedesktop.NetworkManager";
    let bus = Bus::start();
    let service = bus.service().await;
    let path = "/org/freedesktop/NetworkManager";
    let manager = serve(&service, path, NetworkManager { metered: 4 }).await;
    service.request_name(NAME).await.unwrap();
    let mut observers = Observers::start_at(bus.system(), Wanted::default());
    // Who asks before anything was seen waits for it.
    let mut first = observers.seen.clone();
    assert_eq!(first.borrow().network, None);
    let told = network(&mut first, PATIENCE).await;
    assert_eq!(told, Some(Network::Unmetered));
    manager.get_mut().await.metered = 1;
    let told = manager.get().await;
    told.metered_changed(manager.signal_emitter())
        .await
        .unwrap();
    until(&mut observers, |seen| {
        seen.network == Some(Network::Metered)
    })
    .await;
    service.release_name(NAME).await.unwrap();
    until(&mut observers, |seen| seen.network.is_none()).await;
    // Where nothing tells, nobody waits for long, nor for observers that have ended.
    assert_eq!(network(&mut first, Duration::from_millis(1)).await, None);
    drop(observers);
    assert_eq!(network(&mut first, PATIENCE).await, None);
}

struct Login {
    locks: mpsc::UnboundedSender<Lock>,
}

/// What a program asked to hold off, until it lets go.
struct Lock {
    words: [String; 4],
    held: UnixStream,
}

impl Lock {
    async fn released(&mut self) {
        let mut byte = [0];
        let end = tokio::time::timeout(PATIENCE, self.held.read(&mut byte));
        assert_eq!(end.await.unwrap().unwrap(), 0);
    }
}

async fn next(locks: &mut mpsc::UnboundedReceiver<Lock>) -> Lock {
    let lock = tokio::time::timeout(PATIENCE, locks.recv());
    lock.await.unwrap().unwrap()
}

#[interface(name = "org.freedesktop.login1.Manager")]
impl Login {
    fn get_user(&self, id: u32) -> OwnedObjectPath {
        assert_eq!(id, rustix::process::getuid().as_raw());
        path("/org/freedesktop/login1/user/me")
    }

    fn get_session(&self, id: &str) -> zbus::fdo::Result<OwnedObjectPath> {
        Err(zbus::fdo::Error::Failed(id.to_owned()))
    }

    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> OwnedFd {
        let (held, given) = std::os::unix::net::UnixStream::pair().unwrap();
        held.set_nonblocking(true).unwrap();
        let held = UnixStream::from_std(held).unwrap();
        let words = [what, who, why, mode].map(ToOwned::to_owned);
        self.locks.send(Lock { words, held }).ok();
        std::os::fd::OwnedFd::from(given).into()
    }

    #[zbus(signal)]
    async fn prepare_for_sleep(emitter: &SignalEmitter<'_>, start: bool) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn session_new(
        emitter: &SignalEmitter<'_>,
        id: &str,
        path: OwnedObjectPath,
    ) -> zbus::Result<()>;

    #[zbus(property)]
    fn preparing_for_sleep(&self) -> bool {
        false
    }
}

struct User {
    display: Option<&'static str>,
}

#[interface(name = "org.freedesktop.login1.User")]
impl User {
    #[zbus(property)]
    fn display(&self) -> (String, OwnedObjectPath) {
        let id = self.display.unwrap_or_default();
        (id.to_owned(), path(&format!("/{id}")))
    }
}

struct LoginSession {
    is_locked: bool,
}

#[interface(name = "org.freedesktop.login1.Session")]
impl LoginSession {
    #[zbus(property)]
    fn locked_hint(&self) -> bool {
        self.is_locked
    }

    #[zbus(property)]
    fn remote(&self) -> bool {
        false
    }

    #[zbus(property, name = "Type")]
    fn kind(&self) -> &'static str {
        "wayland"
    }
}

const LOGIN: &str = "org.freedesktop.login1";

async fn login_at(
    bus: &Bus,
) -> (
    Connection,
    InterfaceRef<Login>,
    mpsc::UnboundedReceiver<Lock>,
) {
    let service = bus.service().await;
    let (locks, taken) = mpsc::unbounded_channel();
    let login = serve(&service, "/org/freedesktop/login1", Login { locks }).await;
    service.request_name(LOGIN).await.unwrap();
    (service, login, taken)
}

#[tokio::test]
async fn a_screen_is_locked() {
    let bus = Bus::start();
    let (service, login, _locks) = login_at(&bus).await;
    let mut observers = Observers::start_at(bus.system(), Wanted::default());
    // Nobody has come yet.
    until(&mut observers, |seen| seen.going_to_sleep == Some(false)).await;
    assert_eq!(observers.seen.borrow().session, None);
    let display = Some("c2");
    serve(
        &service,
        "/org/freedesktop/login1/user/me",
        User { display },
    )
    .await;
    let is_locked = false;
    let session = serve(&service, "/c2", LoginSession { is_locked }).await;
    login.session_new("c2", path("/c2")).await.unwrap();
    until(&mut observers, |seen| seen.session == Some(Session::Open)).await;
    session.get_mut().await.is_locked = true;
    let told = session.get().await;
    told.locked_hint_changed(session.signal_emitter())
        .await
        .unwrap();
    until(&mut observers, |seen| seen.session == Some(Session::Locked)).await;
    service.release_name(LOGIN).await.unwrap();
    until(&mut observers, |seen| {
        seen.session.is_none() && seen.going_to_sleep.is_none()
    })
    .await;
}

fn awake(keep_awake: bool) -> Wanted {
    Wanted {
        programs: Vec::new(),
        keep_awake,
        hurry: false,
    }
}

#[tokio::test]
async fn the_machine_sleeps() {
    let bus = Bus::start();
    let (_service, login, mut locks) = login_at(&bus).await;
    let mut observers = Observers::start_at(bus.system(), Wanted::default());
    for round in 0..2 {
        let mut lock = next(&mut locks).await;
        let why = "Jobs are handed back first";
        assert_eq!(lock.words, ["sleep", "Infera Node", why, "delay"]);
        until(&mut observers, |seen| seen.going_to_sleep == Some(false)).await;
        // Said too early, it does not count. What is done for the second is done after it.
        observers.ready_to_sleep.send(()).unwrap();
        observers.wanted.send_replace(awake(true));
        let mut of_waking = next(&mut locks).await;
        observers.wanted.send_replace(awake(false));
        of_waking.released().await;
        login.prepare_for_sleep(true).await.unwrap();
        until(&mut observers, |seen| seen.going_to_sleep == Some(true)).await;
        assert!(lock.held.try_read(&mut [0]).is_err(), "round {round}");
        observers.ready_to_sleep.send(()).unwrap();
        lock.released().await;
        login.prepare_for_sleep(false).await.unwrap();
    }
}

#[tokio::test]
async fn sleep_waits_for_nobody_for_long() {
    let bus = Bus::start();
    let (_service, login, mut locks) = login_at(&bus).await;
    let mut places = bus.system();
    places.sleep_delay = Duration::from_millis(100);
    let mut observers = Observers::start_at(places, Wanted::default());
    let mut lock = next(&mut locks).await;
    until(&mut observers, |seen| seen.going_to_sleep == Some(false)).await;
    login.prepare_for_sleep(true).await.unwrap();
    lock.released().await;
    assert_eq!(observers.seen.borrow().going_to_sleep, Some(true));
    login.prepare_for_sleep(false).await.unwrap();
    until(&mut observers, |seen| seen.going_to_sleep == Some(false)).await;
}

#[tokio::test]
async fn the_machine_is_kept_awake() {
    let bus = Bus::start();
    let (_service, _login, mut locks) = login_at(&bus).await;
    let observers = Observers::start_at(bus.system(), Wanted::default());
    let mut of_sleep = next(&mut locks).await;
    for _ in 0..2 {
        observers.wanted.send_replace(awake(true));
        let mut lock = next(&mut locks).await;
        assert_eq!([&lock.words[0], &lock.words[3]], ["idle", "block"]);
        observers.wanted.send_replace(awake(false));
        lock.released().await;
    }
    observers.wanted.send_replace(awake(true));
    let mut lock = next(&mut locks).await;
    drop(observers);
    lock.released().await;
    of_sleep.released().await;
}

/// What was asked of a desktop's services: a name, and what it was told.
type Asked = mpsc::UnboundedSender<(&'static str, String)>;

struct GnomeSession(Asked);

#[interface(name = "org.gnome.SessionManager")]
impl GnomeSession {
    fn inhibit(&self, who: &str, window: u32, why: &str, flags: u32) -> u32 {
        assert!(!why.is_empty());
        self.0
            .send(("session", format!("{who} {window} {flags}")))
            .ok();
        7
    }

    fn uninhibit(&self, cookie: u32) {
        self.0.send(("session ends", cookie.to_string())).ok();
    }
}

struct ScreenSaver(Asked);

#[interface(name = "org.freedesktop.ScreenSaver")]
impl ScreenSaver {
    fn inhibit(&self, who: &str, why: &str) -> u32 {
        assert!(!why.is_empty());
        self.0.send(("screen saver", who.to_owned())).ok();
        8
    }

    #[zbus(name = "UnInhibit")]
    fn un_inhibit(&self, cookie: u32) {
        self.0.send(("screen saver ends", cookie.to_string())).ok();
    }
}

struct Portal(Asked);

#[interface(name = "org.freedesktop.portal.Inhibit")]
impl Portal {
    fn inhibit(
        &self,
        window: &str,
        flags: u32,
        options: HashMap<String, OwnedValue>,
    ) -> OwnedObjectPath {
        assert!(options.contains_key("reason"));
        self.0.send(("portal", format!("{window:?} {flags}"))).ok();
        path("/request")
    }
}

struct PortalRequest(Asked);

#[interface(name = "org.freedesktop.portal.Request")]
impl PortalRequest {
    fn close(&self) {
        self.0.send(("portal ends", String::new())).ok();
    }
}

/// Each desktop's way, and nothing else than the one that stands first among those that are there.
#[tokio::test]
async fn a_desktop_does_not_fall_idle_while_a_job_runs() {
    const SESSION: &str = "org.gnome.SessionManager";
    const SAVER: &str = "org.freedesktop.ScreenSaver";
    const PORTAL: &str = "org.freedesktop.portal.Desktop";
    let bus = Bus::start();
    let service = bus.service().await;
    let (asked, mut told) = mpsc::unbounded_channel();
    serve(
        &service,
        "/org/gnome/SessionManager",
        GnomeSession(asked.clone()),
    )
    .await;
    serve(
        &service,
        "/org/freedesktop/ScreenSaver",
        ScreenSaver(asked.clone()),
    )
    .await;
    serve(
        &service,
        "/org/freedesktop/portal/desktop",
        Portal(asked.clone()),
    )
    .await;
    serve(&service, "/request", PortalRequest(asked.clone())).await;
    let mut next = async || {
        let word = tokio::time::timeout(PATIENCE, told.recv()).await;
        word.unwrap().unwrap()
    };
    let observers = Observers::start_at(bus.session(), Wanted::default());
    for (name, begins, ends) in [
        (PORTAL, ("portal", "\"\" 8"), ("portal ends", "")),
        (
            SAVER,
            ("screen saver", "Infera Node"),
            ("screen saver ends", "8"),
        ),
        (
            SESSION,
            ("session", "Infera Node 0 8"),
            ("session ends", "7"),
        ),
    ] {
        // The ones before stay: the better one goes before them.
        service.request_name(name).await.unwrap();
        for _ in 0..2 {
            observers.wanted.send_replace(awake(true));
            let (what, how) = next().await;
            assert_eq!((what, &*how), begins);
            observers.wanted.send_replace(awake(false));
            let (what, how) = next().await;
            assert_eq!((what, &*how), ends);
        }
    }
    // The service ends while a job runs: the next best is asked.
    observers.wanted.send_replace(awake(true));
    assert_eq!(next().await.0, "session");
    service.release_name(SESSION).await.unwrap();
    assert_eq!(next().await.0, "screen saver");
    // One that comes late is asked, too.
    service.request_name(SESSION).await.unwrap();
    assert_eq!(next().await.0, "screen saver ends");
    assert_eq!(next().await.0, "session");
}

/// The first try finds nobody.
#[tokio::test]
async fn a_desktop_whose_service_comes_late_does_not_fall_idle() {
    let bus = Bus::start();
    let service = bus.service().await;
    let (asked, mut told) = mpsc::unbounded_channel();
    serve(&service, "/org/freedesktop/ScreenSaver", ScreenSaver(asked)).await;
    let observers = Observers::start_at(bus.session(), awake(true));
    service
        .request_name("org.freedesktop.ScreenSaver")
        .await
        .unwrap();
    let word = tokio::time::timeout(PATIENCE, told.recv()).await;
    assert_eq!(word.unwrap().unwrap().0, "screen saver");
    drop(observers);
}

#[derive(Default)]
struct GameMode {
    games: Vec<(i32, OwnedObjectPath)>,
}

#[interface(name = "com.feralinteractive.GameMode")]
impl GameMode {
    fn list_games(&self) -> Vec<(i32, OwnedObjectPath)> {
        self.games.clone()
    }

    #[zbus(signal)]
    async fn game_registered(
        emitter: &SignalEmitter<'_>,
        pid: i32,
        game: OwnedObjectPath,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn game_unregistered(
        emitter: &SignalEmitter<'_>,
        pid: i32,
        game: OwnedObjectPath,
    ) -> zbus::Result<()>;
}

#[tokio::test]
async fn a_game_asks_for_speed() {
    const NAME: &str = "com.feralinteractive.GameMode";
    let bus = Bus::start();
    let service = bus.service().await;
    let game_mode = serve(
        &service,
        "/com/feralinteractive/GameMode",
        GameMode::default(),
    )
    .await;
    service.request_name(NAME).await.unwrap();
    let own = std::env::current_exe().unwrap();
    let own = own.file_name().unwrap().to_str().unwrap();
    let has = |seen: &Option<Seen>, name: &str| {
        let names = seen.iter().flat_map(|seen| &seen.names);
        names.into_iter().any(|other| other == name)
    };
    let mut observers = Observers::start_at(bus.session(), Wanted::default());
    until(&mut observers, |seen| seen.games.is_some()).await;
    let pid = i32::try_from(std::process::id()).unwrap();
    for _ in 0..2 {
        game_mode.get_mut().await.games = vec![(pid, path("/a")), (-1, path("/b"))];
        game_mode.game_registered(pid, path("/a")).await.unwrap();
        until(&mut observers, |seen| {
            has(&seen.games, own) && has(&seen.games, "GameMode")
        })
        .await;
        game_mode.get_mut().await.games.clear();
        game_mode.game_unregistered(pid, path("/a")).await.unwrap();
        until(&mut observers, |seen| !has(&seen.games, own)).await;
    }
}

#[derive(Default)]
struct IdleMonitor {
    idle_ms: u64,
    watches: u32,
    of_use: u32,
}

#[interface(name = "org.gnome.Mutter.IdleMonitor")]
impl IdleMonitor {
    fn get_idletime(&self) -> u64 {
        self.idle_ms
    }

    fn add_idle_watch(&mut self, limit_ms: u64) -> u32 {
        assert_eq!(limit_ms, 300);
        self.watches += 1;
        self.watches
    }

    fn add_user_active_watch(&mut self) -> u32 {
        self.watches += 1;
        self.of_use = self.watches;
        self.watches
    }

    #[zbus(signal)]
    async fn watch_fired(emitter: &SignalEmitter<'_>, watch: u32) -> zbus::Result<()>;
}

#[tokio::test]
async fn gnome_counts_the_time_without_input() {
    const NAME: &str = "org.gnome.Mutter.IdleMonitor";
    let bus = Bus::start();
    let service = bus.service().await;
    let path = "/org/gnome/Mutter/IdleMonitor/Core";
    let monitor = serve(&service, path, IdleMonitor::default()).await;
    service.request_name(NAME).await.unwrap();
    let mut observers = Observers::start_at(bus.session(), Wanted::default());
    for _ in 0..2 {
        until(&mut observers, |seen| seen.input == Some(Input::Recent)).await;
        monitor.get_mut().await.idle_ms = 400;
        monitor.watch_fired(1).await.unwrap();
        until(&mut observers, |seen| {
            matches!(seen.input, Some(Input::Quiet { .. }))
        })
        .await;
        let mut counter = monitor.get_mut().await;
        counter.idle_ms = 0;
        let of_use = counter.of_use;
        drop(counter);
        monitor.watch_fired(of_use).await.unwrap();
    }
    service.release_name(NAME).await.unwrap();
    until(&mut observers, |seen| seen.input.is_none()).await;
}

#[tokio::test]
async fn nothing_is_known_without_buses() {
    let mut places = nowhere();
    places.system_bus = Some("unix:path=/nowhere".to_owned());
    places.session_bus = Some("no address at all".to_owned());
    let mut observers = Observers::start_at(places, Wanted::default());
    until(&mut observers, |seen| {
        seen.games.is_some() && seen.power.is_some()
    })
    .await;
    let seen = observers.seen.borrow();
    assert_eq!((seen.network, seen.session), (None, None));
    assert_eq!((seen.input, seen.going_to_sleep), (None, None));
}
