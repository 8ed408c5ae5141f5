//! A Wayland compositor that counts the time since the last input, or does not.

use std::collections::VecDeque;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use infera_surroundings::{Input, Observers, Wanted};
use wayland_protocols::ext::idle_notify::v1::server::ext_idle_notification_v1::ExtIdleNotificationV1;
use wayland_protocols::ext::idle_notify::v1::server::ext_idle_notifier_v1::{
    self as notifier, ExtIdleNotifierV1,
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
    End,
}

#[derive(Default)]
struct State {
    notifications: Vec<ExtIdleNotificationV1>,
}

/// Ends when it is told to, or with the test.
struct Compositor {
    orders: mpsc::Sender<Order>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Compositor {
    fn start(socket: &Path, knows_idle: bool) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (orders, ordered) = mpsc::channel();
        let thread = Some(thread::spawn(move || run(&listener, &ordered, knows_idle)));
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

fn run(listener: &UnixListener, ordered: &mpsc::Receiver<Order>, knows_idle: bool) {
    let mut display = Display::<State>::new().unwrap();
    let mut handle = display.handle();
    handle.create_global::<State, WlSeat, ()>(7, ());
    if knows_idle {
        handle.create_global::<State, ExtIdleNotifierV1, ()>(2, ());
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
        while !state.notifications.is_empty()
            && let Some(order) = waiting.pop_front()
        {
            for notification in &state.notifications {
                match order {
                    Order::SayIdle => notification.idled(),
                    _ => notification.resumed(),
                }
            }
        }
        display.flush_clients().unwrap();
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
        let mut compositor = Compositor::start(&socket, true);
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
    let mut compositor = Compositor::start(&socket, false);
    let mut observers = Observers::start_at(places, Wanted::default());
    until(&mut observers, |seen| {
        seen.games.is_some() && seen.power.is_some()
    })
    .await;
    assert_eq!(observers.seen.borrow().input, None);
    compositor.end();
    let _compositor = Compositor::start(&socket, true);
    until(&mut observers, |seen| seen.input == Some(Input::Recent)).await;
}
