//! A Wayland compositor that counts the time since the last input and tells of its windows, or does
//! not.

use std::collections::{HashMap, VecDeque};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use infera_surroundings::{Input, Observers, Seen, Wanted};
use wayland_protocols::ext::idle_notify::v1::server::ext_idle_notification_v1::ExtIdleNotificationV1;
use wayland_protocols::ext::idle_notify::v1::server::ext_idle_notifier_v1::{
    self as notifier, ExtIdleNotifierV1,
};
use wayland_protocols_wlr::foreign_toplevel::v1::server::{
    self as wlr, zwlr_foreign_toplevel_handle_v1::ZwlrForeignToplevelHandleV1,
    zwlr_foreign_toplevel_manager_v1::ZwlrForeignToplevelManagerV1,
};
use wayland_server::protocol::wl_seat::{self, WlSeat};
use wayland_server::{
    Client, DataInit, Dispatch, Display, DisplayHandle, GlobalDispatch, New, Resource as _,
};

use crate::around::{nowhere, until};

/// What a test lets a compositor do.
enum Order {
    SayIdle,
    SayUsed,
    /// Name, title, and numbers of the protocol's states, of the window with that number.
    Show(usize, &'static str, &'static str, &'static [u32]),
    Close(usize),
    /// It tells of no window any more.
    Finish,
    End,
}

/// What a compositor knows.
#[derive(Clone, Copy)]
struct Knows {
    idle: bool,
    /// The version of the protocol about windows.
    windows: Option<u32>,
}

const IDLE: Knows = Knows {
    idle: true,
    windows: None,
};
const NOTHING: Knows = Knows {
    idle: false,
    windows: None,
};

#[derive(Default)]
struct State {
    notifications: Vec<ExtIdleNotificationV1>,
    manager: Option<ZwlrForeignToplevelManagerV1>,
    windows: HashMap<usize, ZwlrForeignToplevelHandleV1>,
}

/// Ends when it is told to, or with the test.
struct Compositor {
    orders: mpsc::Sender<Order>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Compositor {
    fn start(socket: &Path, knows: Knows) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (orders, ordered) = mpsc::channel();
        let thread = Some(thread::spawn(move || run(&listener, &ordered, knows)));
        Self { orders, thread }
    }

    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    fn end(&mut self) {
        let _ = self.orders.send(Order::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Compositor {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(listener: &UnixListener, ordered: &mpsc::Receiver<Order>, knows: Knows) {
    let mut display = Display::<State>::new().unwrap();
    let mut handle = display.handle();
    handle.create_global::<State, WlSeat, ()>(7, ());
    if knows.idle {
        handle.create_global::<State, ExtIdleNotifierV1, ()>(2, ());
    }
    if let Some(version) = knows.windows {
        handle.create_global::<State, ZwlrForeignToplevelManagerV1, ()>(version, ());
    }
    let mut state = State::default();
    let mut waiting = VecDeque::new();
    loop {
        if let Ok((client, _)) = listener.accept() {
            handle
                .insert_client(client, std::sync::Arc::new(()))
                .unwrap();
        }
        display.dispatch_clients(&mut state).unwrap();
        match ordered.recv_timeout(Duration::from_millis(5)) {
            Ok(Order::End) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Ok(order) => waiting.push_back(order),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        // An order before anybody listens waits for that.
        while (!state.notifications.is_empty() || state.manager.is_some())
            && let Some(order) = waiting.pop_front()
        {
            state.obey(&handle, &order);
        }
        display.flush_clients().unwrap();
    }
}

impl State {
    fn obey(&mut self, handle: &DisplayHandle, order: &Order) {
        match order {
            Order::SayIdle => self
                .notifications
                .iter()
                .for_each(ExtIdleNotificationV1::idled),
            Order::SayUsed => self
                .notifications
                .iter()
                .for_each(ExtIdleNotificationV1::resumed),
            Order::Show(number, app, title, states) => {
                let manager = self.manager.as_ref().unwrap();
                let window = self.windows.entry(*number).or_insert_with(|| {
                    let client = manager.client().unwrap();
                    let window = client
                        .create_resource::<ZwlrForeignToplevelHandleV1, (), Self>(
                            handle,
                            manager.version(),
                            (),
                        )
                        .unwrap();
                    manager.toplevel(&window);
                    window
                });
                window.app_id((*app).to_owned());
                window.title((*title).to_owned());
                let states = states.iter().flat_map(|number| number.to_ne_bytes());
                window.state(states.collect());
                window.done();
            }
            Order::Close(number) => self.windows.remove(number).unwrap().closed(),
            Order::Finish => self.manager.take().unwrap().finished(),
            Order::End => {}
        }
    }
}

impl GlobalDispatch<ZwlrForeignToplevelManagerV1, ()> for State {
    fn bind(
        state: &mut Self,
        _: &DisplayHandle,
        _: &Client,
        manager: New<ZwlrForeignToplevelManagerV1>,
        (): &(),
        data: &mut DataInit<'_, Self>,
    ) {
        state.manager = Some(data.init(manager, ()));
    }
}

impl Dispatch<ZwlrForeignToplevelManagerV1, ()> for State {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &ZwlrForeignToplevelManagerV1,
        _: wlr::zwlr_foreign_toplevel_manager_v1::Request,
        (): &(),
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
    }
}

impl Dispatch<ZwlrForeignToplevelHandleV1, ()> for State {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &ZwlrForeignToplevelHandleV1,
        _: wlr::zwlr_foreign_toplevel_handle_v1::Request,
        (): &(),
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
    }
}

impl GlobalDispatch<WlSeat, ()> for State {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        _: &Client,
        seat: New<WlSeat>,
        (): &(),
        data: &mut DataInit<'_, Self>,
    ) {
        data.init(seat, ());
    }
}

impl Dispatch<WlSeat, ()> for State {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &WlSeat,
        _: wl_seat::Request,
        (): &(),
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
    }
}

impl GlobalDispatch<ExtIdleNotifierV1, ()> for State {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        _: &Client,
        notifier: New<ExtIdleNotifierV1>,
        (): &(),
        data: &mut DataInit<'_, Self>,
    ) {
        data.init(notifier, ());
    }
}

impl Dispatch<ExtIdleNotifierV1, ()> for State {
    fn request(
        state: &mut Self,
        _: &Client,
        notifier: &ExtIdleNotifierV1,
        request: notifier::Request,
        (): &(),
        _: &DisplayHandle,
        data: &mut DataInit<'_, Self>,
    ) {
        assert_eq!(notifier.version(), 2);
        if let notifier::Request::GetInputIdleNotification { id, timeout, .. } = request {
            assert_eq!(timeout, 300);
            state.notifications.push(data.init(id, ()));
        }
    }
}

impl Dispatch<ExtIdleNotificationV1, ()> for State {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &ExtIdleNotificationV1,
        _: wayland_protocols::ext::idle_notify::v1::server::ext_idle_notification_v1::Request,
        (): &(),
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
    }
}

#[tokio::test]
async fn a_compositor_counts_the_time_without_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut places = nowhere();
    let socket = folder.path().join("wayland-0");
    places.wayland = Some(socket.clone());
    // Nobody is there yet.
    let mut observers = Observers::start_at(places, Wanted::default());
    until(&mut observers, |seen| seen.power.is_some()).await;
    assert_eq!(observers.seen.borrow().input, None);
    for _ in 0..2 {
        let mut compositor = Compositor::start(&socket, IDLE);
        until(&mut observers, |seen| seen.input == Some(Input::Recent)).await;
        compositor.order(Order::SayIdle);
        until(&mut observers, |seen| {
            matches!(seen.input, Some(Input::Quiet { .. }))
        })
        .await;
        compositor.order(Order::SayUsed);
        until(&mut observers, |seen| seen.input == Some(Input::Recent)).await;
        compositor.end();
        until(&mut observers, |seen| seen.input.is_none()).await;
    }
}

/// A later one does, and is found.
#[tokio::test]
async fn a_compositor_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let mut places = nowhere();
    let socket = folder.path().join("wayland-0");
    places.wayland = Some(socket.clone());
    let mut compositor = Compositor::start(&socket, NOTHING);
    let mut observers = Observers::start_at(places, Wanted::default());
    until(&mut observers, |seen| {
        seen.games.is_some() && seen.power.is_some()
    })
    .await;
    assert_eq!(observers.seen.borrow().input, None);
    compositor.end();
    let _compositor = Compositor::start(&socket, IDLE);
    until(&mut observers, |seen| seen.input == Some(Input::Recent)).await;
}

#[tokio::test]
async fn a_compositor_tells_what_fills_the_screen() {
    const ACTIVATED: u32 = 2;
    const FULL: u32 = 3;
    let folder = tempfile::tempdir().unwrap();
    let mut places = nowhere();
    let socket = folder.path().join("wayland-0");
    places.wayland = Some(socket.clone());
    let mut observers = Observers::start_at(places, Wanted::default());
    let knows = Knows {
        idle: false,
        windows: Some(3),
    };
    for _ in 0..2 {
        let mut compositor = Compositor::start(&socket, knows);
        let mut sees = async |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let seen = Some(Seen { names });
            until(&mut observers, |all| all.full_screen == seen).await;
        };
        sees(&[]).await;
        let show = |window, app, title, states| {
            compositor.order(Order::Show(window, app, title, states));
        };
        show(1, "org.mozilla.firefox", "A film", &[ACTIVATED]);
        show(2, "steam_app_7", "Hades", &[ACTIVATED, FULL]);
        sees(&["Hades"]).await;
        // In full screen behind another one.
        show(2, "steam_app_7", "Hades", &[FULL]);
        sees(&[]).await;
        show(1, "org.mozilla.firefox", "A film", &[FULL, ACTIVATED]);
        sees(&["firefox"]).await;
        // This program's own window.
        show(1, "org.mozilla.firefox", "A film", &[]);
        show(3, "infera-node", "Infera Node", &[FULL, ACTIVATED]);
        sees(&[]).await;
        show(3, "infera-node", "Infera Node", &[]);
        show(2, "steam_app_7", "Hades", &[ACTIVATED, FULL]);
        sees(&["Hades"]).await;
        compositor.order(Order::Close(2));
        sees(&[]).await;
        compositor.order(Order::Finish);
        until(&mut observers, |seen| seen.full_screen.is_none()).await;
        compositor.end();
    }
    // An old one does not tell of full screen, and so says nothing of it.
    let old = Knows {
        idle: true,
        windows: Some(1),
    };
    let _compositor = Compositor::start(&socket, old);
    until(&mut observers, |seen| seen.input == Some(Input::Recent)).await;
    assert_eq!(observers.seen.borrow().full_screen, None);
}
