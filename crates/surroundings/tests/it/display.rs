//! A real X server without a screen, with real windows, and Wayland compositors.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use infera_surroundings::{Input, Observers, Places, Seen, Wanted};
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{
    AtomEnum, ConfigureWindowAux, ConnectionExt as _, CreateWindowAux, InputFocus,
    MOTION_NOTIFY_EVENT, PropMode, Window, WindowClass,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;
use x11rb::{COPY_FROM_PARENT, CURRENT_TIME, NONE};

use crate::around::{nowhere, until};

const WIDTH: u16 = 640;
const HEIGHT: u16 = 480;

/// Ends with the test.
struct Server {
    process: Child,
    number: String,
}

impl Server {
    fn start() -> Self {
        Self::start_with(&["-displayfd", "1"])
    }

    /// With a number that no other test is given meanwhile.
    fn start_apart() -> Self {
        let number = 1000 + std::process::id() % 20_000;
        Self::start_with(&[&format!(":{number}"), "-displayfd", "1"])
    }

    fn start_with(words: &[&str]) -> Self {
        let mut command = Command::new("Xvfb");
        let screen = format!("{WIDTH}x{HEIGHT}x24");
        command
            .args(words)
            .args(["-screen", "0", &screen, "-nolisten", "tcp", "-noreset"]);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut number = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut number).unwrap();
        let number = number.trim().to_owned();
        assert!(!number.is_empty(), "Xvfb does not start");
        Self { process, number }
    }

    /// So that it takes its files along.
    fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }

    fn places(&self) -> Places {
        let mut places = nowhere();
        places.x11 = Some(format!(":{}", self.number));
        places
    }

    fn client(&self) -> Client {
        let (server, screen) = RustConnection::connect(Some(&format!(":{}", self.number))).unwrap();
        let root = server.setup().roots[screen].root;
        Client { server, root }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

struct Client {
    server: RustConnection,
    root: Window,
}

impl Client {
    fn window(&self, parent: Window, class: &str, width: u16) -> Window {
        let window = self.server.generate_id().unwrap();
        let (server, values) = (&self.server, CreateWindowAux::new());
        let class_of_window = WindowClass::INPUT_OUTPUT;
        server
            .create_window(
                COPY_FROM_PARENT as u8,
                window,
                parent,
                0,
                0,
                width,
                HEIGHT,
                0,
                class_of_window,
                COPY_FROM_PARENT,
                &values,
            )
            .unwrap();
        let text = format!("instance\0{class}\0");
        let kind = AtomEnum::STRING;
        server
            .change_property8(
                PropMode::REPLACE,
                window,
                AtomEnum::WM_CLASS,
                kind,
                text.as_bytes(),
            )
            .unwrap();
        server.map_window(window).unwrap();
        self.sync();
        window
    }

    fn focus(&self, window: Window) {
        let revert = InputFocus::POINTER_ROOT;
        self.server
            .set_input_focus(revert, window, CURRENT_TIME)
            .unwrap();
        self.sync();
    }

    fn atom(&self, name: &str) -> u32 {
        let asked = self.server.intern_atom(false, name.as_bytes()).unwrap();
        asked.reply().unwrap().atom
    }

    /// As a window manager does.
    fn activate(&self, window: Window) {
        let name = self.atom("_NET_ACTIVE_WINDOW");
        self.server
            .change_property32(
                PropMode::REPLACE,
                self.root,
                name,
                AtomEnum::WINDOW,
                &[window],
            )
            .unwrap();
        self.sync();
    }

    fn write_atoms(&self, window: Window, name: &str, values: &[&str]) {
        let values: Vec<u32> = values.iter().map(|value| self.atom(value)).collect();
        self.server
            .change_property32(
                PropMode::REPLACE,
                window,
                self.atom(name),
                AtomEnum::ATOM,
                &values,
            )
            .unwrap();
        self.sync();
    }

    fn write_process(&self, window: Window) {
        let name = self.atom("_NET_WM_PID");
        let id = [std::process::id()];
        self.server
            .change_property32(PropMode::REPLACE, window, name, AtomEnum::CARDINAL, &id)
            .unwrap();
        self.sync();
    }

    fn move_mouse(&self, x: i16) {
        self.server
            .xtest_fake_input(MOTION_NOTIFY_EVENT, 0, CURRENT_TIME, self.root, x, 5, 0)
            .unwrap();
        self.sync();
    }

    /// What was asked for is done.
    fn sync(&self) {
        self.server.get_input_focus().unwrap().reply().unwrap();
    }
}

async fn until_full_screen(observers: &mut Observers, name: Option<&str>) {
    let names: Vec<String> = name.into_iter().map(ToOwned::to_owned).collect();
    let seen = Some(Seen { names });
    until(observers, |all| all.full_screen == seen).await;
}

#[tokio::test]
async fn a_managed_window_fills_the_screen() {
    const FULL: &str = "_NET_WM_STATE_FULLSCREEN";
    let server = Server::start();
    let client = server.client();
    client.activate(NONE);
    let mut observers = Observers::start_at(server.places(), Wanted::default());
    until_full_screen(&mut observers, None).await;
    let game = client.window(client.root, "Game", 100);
    let other = client.window(client.root, "Other", WIDTH);
    client.activate(game);
    client.write_atoms(game, "_NET_WM_STATE", &["_NET_WM_STATE_FOCUSED", FULL]);
    until_full_screen(&mut observers, Some("Game")).await;
    client.write_atoms(game, "_NET_WM_STATE", &["_NET_WM_STATE_FOCUSED"]);
    until_full_screen(&mut observers, None).await;
    client.write_atoms(game, "_NET_WM_STATE", &[FULL]);
    until_full_screen(&mut observers, Some("Game")).await;
    // As large as the screen, but the window manager does not call it full.
    client.activate(other);
    until_full_screen(&mut observers, None).await;
    client.activate(game);
    until_full_screen(&mut observers, Some("Game")).await;
    client.write_atoms(
        game,
        "_NET_WM_WINDOW_TYPE",
        &["_NET_WM_WINDOW_TYPE_DESKTOP"],
    );
    until_full_screen(&mut observers, None).await;
    // This program's own window, which says so before it is shown.
    let own = client.window(client.root, "Own", 100);
    client.write_process(own);
    client.write_atoms(own, "_NET_WM_STATE", &[FULL]);
    client.activate(own);
    client.write_atoms(other, "_NET_WM_STATE", &[FULL]);
    client.activate(other);
    until_full_screen(&mut observers, Some("Other")).await;
    client.activate(own);
    until_full_screen(&mut observers, None).await;
}

#[tokio::test]
async fn a_window_that_nobody_manages_fills_the_screen() {
    let server = Server::start();
    let client = server.client();
    let mut observers = Observers::start_at(server.places(), Wanted::default());
    until_full_screen(&mut observers, None).await;
    let game = client.window(client.root, "Game", WIDTH);
    let inner = client.window(game, "Inner", 100);
    let small = client.window(client.root, "Small", WIDTH - 1);
    client.focus(game);
    until_full_screen(&mut observers, Some("Game")).await;
    client.focus(small);
    until_full_screen(&mut observers, None).await;
    client.focus(inner);
    until_full_screen(&mut observers, Some("Inner")).await;
    let smaller = ConfigureWindowAux::new().width(100);
    client.server.configure_window(game, &smaller).unwrap();
    client.sync();
    until_full_screen(&mut observers, None).await;
    let larger = ConfigureWindowAux::new().width(u32::from(WIDTH));
    client.server.configure_window(game, &larger).unwrap();
    client.sync();
    until_full_screen(&mut observers, Some("Inner")).await;
    client.focus(client.root);
    until_full_screen(&mut observers, None).await;
    client.focus(game);
    until_full_screen(&mut observers, Some("Game")).await;
    client.server.destroy_window(game).unwrap();
    client.sync();
    until_full_screen(&mut observers, None).await;
}

#[tokio::test]
async fn a_mouse_is_moved_and_left_alone() {
    let server = Server::start();
    let client = server.client();
    let mut places = server.places();
    places.quiet_after = Duration::from_millis(700);
    client.move_mouse(1);
    let mut observers = Observers::start_at(places, Wanted::default());
    for x in 2..4 {
        until(&mut observers, |seen| {
            matches!(seen.input, Some(Input::Quiet { .. }))
        })
        .await;
        let Some(Input::Quiet { since_ms }) = observers.seen.borrow().input else {
            unreachable!("it was");
        };
        let ago = unix_ms() - since_ms;
        assert!((600..10_000).contains(&ago), "{ago}");
        client.move_mouse(x);
        until(&mut observers, |seen| seen.input == Some(Input::Recent)).await;
    }
}

fn unix_ms() -> i64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

#[tokio::test]
async fn a_display_comes_late_ends_and_comes_back() {
    let server = Server::start_apart();
    let places = server.places();
    drop(server);
    let mut observers = Observers::start_at(places, Wanted::default());
    until(&mut observers, |seen| seen.power.is_some()).await;
    assert_eq!(observers.seen.borrow().full_screen, None);
    for _ in 0..2 {
        let server = Server::start_apart();
        until(&mut observers, |seen| {
            seen.full_screen.is_some() && seen.input.is_some()
        })
        .await;
        drop(server);
        until(&mut observers, |seen| {
            seen.full_screen.is_none() && seen.input.is_none()
        })
        .await;
    }
}
