//! The tray's program with windows that are played by the test, over pipes in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::stream;
use infera_node::state::Summary;
use infera_protocol::frame::MAX_FRAME_BYTES;
use serde_json::json;
use tokio::io::DuplexStream;
use tokio::sync::watch;

use super::*;
use crate::fixtures;

const RELEASE_AFTER: Duration = Duration::from_mins(1);

/// What the program was told, with its questions and streams.
#[derive(Clone, Default)]
struct FakeProgram {
    told: Arc<Mutex<Vec<String>>>,
    asked: Arc<Mutex<Vec<(Question, Answered)>>>,
    streams: Arc<AtomicUsize>,
    events: Arc<AtomicUsize>,
    /// Streams go on for ever, as fast as they are read.
    is_busy: bool,
}

impl FakeProgram {
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    fn tell(&self, what: &str) {
        self.told.lock().unwrap().push(what.to_owned());
    }
}

impl Program for FakeProgram {
    async fn call(&self, name: &str, request: Value) -> Result<Value, ApiError> {
        match name {
            "refused" => Err(Refusal::NoSuchModel.into()),
            "large" => Ok(Value::String("a".repeat(MAX_FRAME_BYTES))),
            "never" => std::future::pending().await,
            _ => Ok(json!([name, request])),
        }
    }

    fn events(&self) -> BoxStream<'static, AppEvent> {
        struct Open(Arc<AtomicUsize>);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.streams.fetch_add(1, Ordering::Relaxed);
        let open = Open(Arc::clone(&self.streams));
        let (count, is_busy) = (Arc::clone(&self.events), self.is_busy);
        stream::unfold((open, 0), move |(open, sent)| {
            let count = Arc::clone(&count);
            async move {
                if sent > 0 && !is_busy {
                    std::future::pending::<()>().await;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let state = Box::new(fixtures::state(Summary::WaitingForJobs));
                Some((AppEvent::State { state }, (open, sent + 1)))
            }
        })
        .boxed()
    }

    fn open(&self, target: &str) -> Result<(), ApiError> {
        self.tell(&format!("open {target}"));
        if target.starts_with("https://") {
            Ok(())
        } else {
            Err(Refusal::AddressNotOpened.into())
        }
    }

    fn ask(&self, question: Question, answered: Answered) {
        self.tell(&format!("ask {}", question.title));
        self.asked.lock().unwrap().push((question, answered));
    }

    fn close_pressed(&self) {
        self.tell("close pressed");
    }

    fn quit_chosen(&self) {
        self.tell("quit chosen");
    }

    fn cannot_show(&self, fault: &str) {
        self.tell(&format!("cannot show: {fault}"));
    }

    fn lost(&self) {
        self.tell("lost");
    }
}

/// The test's end of a window's process.
struct FakeWindow {
    input: DuplexStream,
    output: DuplexStream,
    end: watch::Sender<Option<String>>,
    decoder: Decoder,
    theme: Theme,
}

impl FakeWindow {
    async fn say(&mut self, message: &FromWindow) {
        let frame = frame::encode(message).unwrap();
        self.output.write_all(&frame).await.unwrap();
    }

    async fn show(&mut self) {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.say(&FromWindow::Started { version }).await;
        self.say(&FromWindow::Shown).await;
    }

    /// None when nothing more can come.
    async fn hear(&mut self) -> Option<ToWindow> {
        loop {
            if let Some(message) = self.decoder.message().unwrap() {
                return Some(message);
            }
            let mut buffer = [0; 4096];
            let length = self.input.read(&mut buffer).await.unwrap();
            if length == 0 {
                return None;
            }
            self.decoder.push(&buffer[..length]);
        }
    }

    async fn answer(&mut self) -> (u64, Result<String, ApiError>) {
        match self.hear().await {
            Some(ToWindow::Answer { id, answer }) => (id, answer.map(|value| value.get().into())),
            other => panic!("{other:?}"),
        }
    }

    /// The page to which the whole state is sent.
    async fn event(&mut self) -> u64 {
        match self.hear().await {
            Some(ToWindow::Event { page, event }) => {
                assert!(event.get().starts_with("{\"event\":\"state\""));
                page
            }
            other => panic!("{other:?}"),
        }
    }

    /// Ends as a process does that was told to, or crashed.
    fn end(self, status: &str) {
        self.end.send_replace(Some(status.to_owned()));
    }

    fn was_killed(&self) -> bool {
        self.end.borrow().as_deref() == Some("killed")
    }
}

struct FakeProcess {
    pipes: Option<(DuplexStream, DuplexStream)>,
    end: watch::Sender<Option<String>>,
}

impl WindowProcess for FakeProcess {
    type Output = DuplexStream;
    type Input = DuplexStream;

    fn pipes(&mut self) -> io::Result<(DuplexStream, DuplexStream)> {
        self.pipes
            .take()
            .ok_or_else(|| io::Error::other("no pipes"))
    }

    async fn ended(&mut self) -> String {
        let mut end = self.end.subscribe();
        let status = end.wait_for(Option::is_some).await.unwrap();
        status.clone().unwrap()
    }

    async fn kill(&mut self) {
        self.end.send_replace(Some("killed".to_owned()));
    }
}

struct FakeLauncher {
    windows: mpsc::UnboundedSender<FakeWindow>,
    fails: bool,
}

impl Launcher for FakeLauncher {
    type Process = FakeProcess;

    fn start(&self, theme: Theme) -> io::Result<FakeProcess> {
        if self.fails {
            return Err(io::Error::other("no more processes"));
        }
        // A small pipe, so that one who does not read is noticed.
        let (input, to_input) = tokio::io::duplex(256);
        let (output, from_output) = tokio::io::duplex(256);
        let end = watch::Sender::new(None);
        let window = FakeWindow {
            input,
            output,
            end: end.clone(),
            decoder: Decoder::default(),
            theme,
        };
        self.windows.send(window).unwrap();
        Ok(FakeProcess {
            pipes: Some((from_output, to_input)),
            end,
        })
    }
}

struct World {
    program: FakeProgram,
    orders: mpsc::UnboundedSender<Order>,
    windows: mpsc::UnboundedReceiver<FakeWindow>,
}

impl World {
    fn new(program: FakeProgram, fails: bool) -> Self {
        let (orders, to_obey) = mpsc::unbounded_channel();
        let (started, windows) = mpsc::unbounded_channel();
        let launcher = FakeLauncher {
            windows: started,
            fails,
        };
        tokio::spawn(keep(launcher, program.clone(), to_obey, RELEASE_AFTER));
        Self {
            program,
            orders,
            windows,
        }
    }

    fn order(&self, order: Order) {
        self.orders.send(order).ok().unwrap();
    }

    fn ask(&self, title: &str) -> oneshot::Receiver<bool> {
        let (answered, answer) = oneshot::channel();
        let question = Question {
            title: title.to_owned(),
            text: String::new(),
            yes: "Yes".to_owned(),
            no: None,
        };
        let answered = Box::new(move |yes| answered.send(yes).unwrap());
        self.order(Order::Ask(question, answered));
        answer
    }

    async fn window(&mut self) -> FakeWindow {
        self.windows.recv().await.unwrap()
    }

    /// A window that the person sees.
    async fn open(&mut self) -> FakeWindow {
        self.order(Order::Show);
        let mut window = self.window().await;
        window.show().await;
        settle().await;
        window
    }

    /// Until there is no window.
    async fn end(&self) {
        let (ended, end) = oneshot::channel();
        self.order(Order::End(ended));
        end.await.unwrap();
    }
}

fn world() -> World {
    World::new(FakeProgram::default(), false)
}

/// Until everything that can happen without time has happened.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn call(id: u64, name: &str) -> FromWindow {
    FromWindow::Call {
        id,
        name: name.to_owned(),
        request: json!(id),
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_one_window_however_often_it_is_opened() {
    let mut world = world();
    world.order(Order::Theme(Theme::Dark));
    let mut window = world.open().await;
    assert_eq!(window.theme, Theme::Dark);
    world.order(Order::Show);
    assert!(matches!(window.hear().await, Some(ToWindow::Show)));
    world.order(Order::Theme(Theme::Light));
    assert!(matches!(
        window.hear().await,
        Some(ToWindow::Theme(Theme::Light))
    ));
    assert!(world.windows.try_recv().is_err());
    window.end("exit status: 0");
    // The next one has the theme of now.
    assert_eq!(world.open().await.theme, Theme::Light);
}

#[tokio::test(start_paused = true)]
async fn the_page_gets_answers_and_refusals() {
    let mut world = world();
    let mut window = world.open().await;
    window.say(&call(1, "never")).await;
    window.say(&call(2, "pause")).await;
    assert_eq!(window.answer().await, (2, Ok("[\"pause\",2]".to_owned())));
    window.say(&call(3, "refused")).await;
    let refused = (3, Err(Refusal::NoSuchModel.into()));
    assert_eq!(window.answer().await, refused);
    window.say(&call(4, "large")).await;
    let (4, Err(error)) = window.answer().await else {
        panic!("it has no answer");
    };
    assert!(error.message.contains("over the limit"), "{error}");
    for (id, target) in [(5, "https://net.example/"), (6, "/home/ada")] {
        let target = target.to_owned();
        window.say(&FromWindow::Open { id, target }).await;
    }
    assert_eq!(window.answer().await, (5, Ok("null".to_owned())));
    let refused = (6, Err(Refusal::AddressNotOpened.into()));
    assert_eq!(window.answer().await, refused);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sampled_for_a_window_that_nobody_sees() {
    let mut world = world();
    let streams = Arc::clone(&world.program.streams);
    let streams = || streams.load(Ordering::Relaxed);
    let mut window = world.open().await;
    settle().await;
    assert_eq!(streams(), 0, "no page asked");
    window.say(&FromWindow::Subscribe { page: 1 }).await;
    assert_eq!(window.event().await, 1);
    // The page is loaded anew: one stream, the whole state first.
    window.say(&FromWindow::Subscribe { page: 2 }).await;
    assert_eq!(window.event().await, 2);
    assert_eq!(streams(), 1);

    for (order, wanted) in [(Order::Hide, "Hide"), (Order::Minimise, "Minimise")] {
        world.order(order);
        assert_eq!(format!("{:?}", window.hear().await.unwrap()), wanted);
        assert_eq!(streams(), 0);
        // A dialog closed above it, just before it went.
        window.say(&FromWindow::Focused).await;
        assert_eq!(window.event().await, 2);
        window.say(&FromWindow::Hidden).await;
        settle().await;
        assert_eq!(streams(), 0);
        world.order(Order::Show);
        assert!(matches!(window.hear().await, Some(ToWindow::Show)));
        assert_eq!(window.event().await, 2);
        assert_eq!(streams(), 1);
    }

    // The person got it back from the task bar.
    world.order(Order::Minimise);
    assert!(matches!(window.hear().await, Some(ToWindow::Minimise)));
    window.say(&FromWindow::Hidden).await;
    window.say(&FromWindow::Focused).await;
    assert_eq!(window.event().await, 2);
    window.end("signal: 11");
    settle().await;
    assert_eq!(streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_window_is_not_buried_in_events() {
    let program = FakeProgram {
        is_busy: true,
        ..FakeProgram::default()
    };
    let mut world = World::new(program, false);
    let mut window = world.open().await;
    window.say(&FromWindow::Subscribe { page: 1 }).await;
    settle().await;
    assert_eq!(world.program.events.load(Ordering::Relaxed), 1);
    for _ in 0..3 {
        window.event().await;
    }
    settle().await;
    assert!(world.program.events.load(Ordering::Relaxed) <= 5);
}

#[tokio::test(start_paused = true)]
async fn a_hidden_window_is_gone_after_a_while_and_one_that_came_back_is_not() {
    let mut world = world();
    let mut window = world.open().await;
    window.say(&FromWindow::ClosePressed).await;
    settle().await;
    assert_eq!(world.program.told(), ["close pressed"]);
    world.order(Order::Hide);
    assert!(matches!(window.hear().await, Some(ToWindow::Hide)));
    window.say(&FromWindow::Hidden).await;
    tokio::time::sleep(RELEASE_AFTER / 2).await;
    world.order(Order::Show);
    assert!(matches!(window.hear().await, Some(ToWindow::Show)));
    tokio::time::sleep(RELEASE_AFTER * 2).await;

    world.order(Order::Hide);
    let begun = Instant::now();
    assert!(matches!(window.hear().await, Some(ToWindow::Hide)));
    assert!(matches!(window.hear().await, Some(ToWindow::End)));
    assert_eq!(begun.elapsed().as_secs(), RELEASE_AFTER.as_secs());
    // Opened in that very moment: another one comes.
    world.order(Order::Show);
    window.end("exit status: 0");
    world.window().await.show().await;
    assert_eq!(world.program.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_told_to_who_saw_it_and_the_next_window_opens() {
    let mut world = world();
    let mut window = world.open().await;
    let asked = world.ask("Quit?");
    let Some(ToWindow::Ask { question, .. }) = window.hear().await else {
        panic!("the window is not asked");
    };
    assert_eq!(question.title, "Quit?");
    window.end("signal: 11");
    settle().await;
    // Whoever asked still waits.
    assert_eq!(world.program.told(), ["ask Quit?", "lost"]);
    let (_, answered) = world.program.asked.lock().unwrap().pop().unwrap();
    answered(true);
    assert_eq!(asked.await, Ok(true));

    let mut window = world.open().await;
    world.order(Order::Hide);
    assert!(matches!(window.hear().await, Some(ToWindow::Hide)));
    window.end("signal: 11");
    settle().await;
    assert_eq!(world.program.told(), [""; 0], "nobody saw it");

    // Opened again just before it crashes.
    let mut window = world.open().await;
    world.order(Order::Show);
    assert!(matches!(window.hear().await, Some(ToWindow::Show)));
    window.end("signal: 11");
    world.window().await.show().await;
    settle().await;
    assert_eq!(world.program.told(), [""; 0]);
    assert!(world.windows.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_window_that_has_ended_is_gone_whoever_else_holds_its_pipe() {
    let mut world = world();
    let mut window = world.open().await;
    let detail = "no screen".to_owned();
    window.end.send_replace(Some("exit status: 1".to_owned()));
    window.say(&FromWindow::Failed { detail }).await;
    let begun = Instant::now();
    // Opened when its end is known, and what it said last is still waited for: another one comes.
    settle().await;
    world.order(Order::Show);
    world.window().await;
    assert_eq!(begun.elapsed().as_millis(), LAST_WORDS.as_millis());
    assert_eq!(world.program.told(), ["cannot show: no screen"]);
    drop(window);
}

#[tokio::test(start_paused = true)]
async fn why_there_is_no_window_is_told() {
    let mut failing = World::new(FakeProgram::default(), true);
    failing.order(Order::Show);
    settle().await;
    let told = failing.program.told();
    assert_eq!(told, ["cannot show: no more processes"]);
    assert!(failing.windows.try_recv().is_err());

    let mut world = world();
    world.order(Order::Show);
    world.window().await.end("signal: 11");
    settle().await;
    let told = world.program.told();
    assert_eq!(
        told,
        ["cannot show: the window's process ended without a word: signal: 11"]
    );

    world.order(Order::Show);
    let mut window = world.window().await;
    let detail = "no WebView2".to_owned();
    window.say(&FromWindow::Failed { detail }).await;
    window.end("exit status: 1");
    settle().await;
    assert_eq!(world.program.told(), ["cannot show: no WebView2"]);

    world.order(Order::Show);
    let mut window = world.window().await;
    let version = "99.0.0".to_owned();
    window.say(&FromWindow::Started { version }).await;
    settle().await;
    assert!(window.was_killed());
    let told = world.program.told();
    assert!(told[0].contains("99.0.0 is installed"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_says_what_is_no_message_is_ended() {
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\x02\0\0\0{}", b"\x03\0\0\0abc"] {
        let mut world = world();
        let mut window = world.open().await;
        window.output.write_all(bytes).await.unwrap();
        settle().await;
        assert!(window.was_killed(), "{bytes:?}");
        let told = world.program.told();
        assert!(told[0].starts_with("cannot show: a frame"), "{told:?}");
        world.open().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_that_hangs_is_killed() {
    let mut world = world();
    let window = world.open().await;
    // More than its pipe takes.
    for _ in 0..100 {
        world.order(Order::Show);
    }
    settle().await;
    let begun = Instant::now();
    world.end().await;
    assert!(window.was_killed());
    assert_eq!(begun.elapsed().as_secs(), END_LIMIT.as_secs());
    assert_eq!(world.program.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn ending_waits_for_the_window_and_needs_none() {
    let mut world = world();
    world.end().await;
    let mut window = world.open().await;
    let (ended, mut end) = oneshot::channel();
    world.order(Order::End(ended));
    assert!(matches!(window.hear().await, Some(ToWindow::End)));
    assert!(end.try_recv().is_err());
    window.end("exit status: 0");
    end.await.unwrap();

    // The program drops everything.
    let mut window = world.open().await;
    drop(world);
    assert!(matches!(window.hear().await, Some(ToWindow::End)));
}

#[tokio::test(start_paused = true)]
async fn a_question_is_asked_where_the_person_looks() {
    let mut world = world();
    drop(world.ask("No window"));
    settle().await;
    assert_eq!(world.program.told(), ["ask No window"]);
    let mut window = world.open().await;
    let asked = world.ask("Above it");
    let Some(ToWindow::Ask { id, .. }) = window.hear().await else {
        panic!("the window is not asked");
    };
    // An answer to nothing that was asked.
    let nothing = FromWindow::Answered {
        id: id + 1,
        yes: false,
    };
    window.say(&nothing).await;
    window.say(&FromWindow::Answered { id, yes: true }).await;
    assert_eq!(asked.await, Ok(true));
    world.order(Order::Minimise);
    drop(world.ask("In the task bar"));
    settle().await;
    assert_eq!(world.program.told(), ["ask In the task bar"]);
}

#[tokio::test(start_paused = true)]
async fn quitting_in_the_windows_own_menu_is_for_the_whole_program() {
    let mut world = world();
    let mut window = world.open().await;
    window.say(&FromWindow::Quit).await;
    window.end("exit status: 0");
    settle().await;
    assert_eq!(world.program.told(), ["quit chosen"]);
    // The person decided otherwise.
    world.open().await;
}
