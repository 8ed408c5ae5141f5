//! Keeps the window's process: starts it when it is wanted, speaks with it, and outlives it.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use infera_node::app::api::{ApiError, AppEvent, Refusal};
use infera_node::app::settings::Theme;
use infera_protocol::frame::{self, Decoder};
use serde_json::Value;
use serde_json::value::to_raw_value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::message::{FromWindow, Question, ToWindow};

/// How long a window may take to end after it was asked to.
const END_LIMIT: Duration = Duration::from_secs(2);
/// So long is read what a window said last, should something else hold its pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);

pub(crate) type Answered = Box<dyn FnOnce(bool) + Send>;

/// What the program wants of its window.
pub(crate) enum Order {
    /// In front of everything; started if there is none.
    Show,
    /// Out of sight, and ended if it stays there.
    Hide,
    Minimise,
    Theme(Theme),
    /// Above the window if the person sees it, else in a window of its own.
    Ask(Question, Answered),
    /// Ended; says so when there is no window.
    End(oneshot::Sender<()>),
}

/// What the window's process asks of the program, and tells it.
pub(crate) trait Program: Clone + Send + Sync + 'static {
    fn call(
        &self,
        name: &str,
        request: Value,
    ) -> impl Future<Output = Result<Value, ApiError>> + Send;

    /// The whole state first. What is sampled for it is sampled until it is dropped.
    fn events(&self) -> BoxStream<'static, AppEvent>;

    fn open(&self, target: &str) -> Result<(), ApiError>;

    /// Asks without the window.
    fn ask(&self, question: Question, answered: Answered);

    fn close_pressed(&self);

    fn quit_chosen(&self);

    /// There is no window, and why.
    fn cannot_show(&self, fault: &str);

    /// The window ended by itself while the person saw it.
    fn lost(&self);
}

/// Starts the window's process.
pub(crate) trait Launcher: Send + 'static {
    type Process: WindowProcess;

    fn start(&self, theme: Theme) -> io::Result<Self::Process>;
}

/// A window's process. Dropping it kills it.
pub(crate) trait WindowProcess: Send {
    type Output: AsyncRead + Send + Unpin;
    type Input: AsyncWrite + Send + Unpin;

    /// Its standard output and input, once.
    fn pipes(&mut self) -> io::Result<(Self::Output, Self::Input)>;

    /// Waits for its end: how it ended, in words. May be given up and asked again.
    fn ended(&mut self) -> impl Future<Output = String> + Send;

    fn kill(&mut self) -> impl Future<Output = ()> + Send;
}

/// Carries out orders until nobody can give any more. There is at most one window.
pub(crate) async fn keep<L: Launcher, P: Program>(
    launcher: L,
    program: P,
    mut orders: mpsc::UnboundedReceiver<Order>,
    release_after: Duration,
) {
    let mut theme = Theme::System;
    while let Some(order) = orders.recv().await {
        match order {
            Order::Show => {
                let mut is_wanted = true;
                while is_wanted {
                    let started = launcher
                        .start(theme)
                        .and_then(|mut process| process.pipes().map(|pipes| (process, pipes)));
                    is_wanted = match started {
                        Ok((process, pipes)) => {
                            let (talk, answers) = Talk::new(&program, release_after);
                            talk.attend(process, pipes, answers, &mut orders, &mut theme)
                                .await
                        }
                        Err(error) => {
                            tracing::error!(%error, "the window's process cannot be started");
                            program.cannot_show(&error.to_string());
                            false
                        }
                    };
                }
            }
            Order::Theme(wanted) => theme = wanted,
            Order::Ask(question, answered) => program.ask(question, answered),
            Order::End(ended) => {
                // Whoever asked may be gone.
                let _ = ended.send(());
            }
            Order::Hide | Order::Minimise => {}
        }
    }
}

/// The life of one window's process.
struct Talk<'a, P> {
    program: &'a P,
    release_after: Duration,
    /// Frames, and how much of the first is written.
    to_write: VecDeque<Vec<u8>>,
    written: usize,
    /// The page's number.
    page: Option<u64>,
    /// While the page is there and may be seen.
    events: Option<BoxStream<'static, AppEvent>>,
    is_resting: bool,
    answers: mpsc::UnboundedSender<ToWindow>,
    asked: HashMap<u64, (Question, Answered)>,
    questions: u64,
    was_shown: bool,
    is_seen: bool,
    /// It was told to come to the front, and has not said that it is there.
    is_wanted: bool,
    /// It was told to hide, and not to come back since.
    is_hidden: bool,
    /// What it says why there can be no window.
    failed: Option<String>,
    /// Its end is wanted, or begun. What is ordered then is for the next one.
    is_ending: bool,
    /// It takes nothing more: it has ended, or is beyond help.
    is_deaf: bool,
    /// When it is asked to end, or killed if it was asked before.
    deadline: Option<Instant>,
    ended: Vec<oneshot::Sender<()>>,
}

impl<'a, P: Program> Talk<'a, P> {
    /// Also what receives the answers to calls.
    fn new(program: &'a P, release_after: Duration) -> (Self, mpsc::UnboundedReceiver<ToWindow>) {
        let (answers, to_say) = mpsc::unbounded_channel();
        let talk = Self {
            program,
            release_after,
            to_write: VecDeque::new(),
            written: 0,
            page: None,
            events: None,
            is_resting: false,
            answers,
            asked: HashMap::new(),
            questions: 0,
            was_shown: false,
            is_seen: false,
            is_wanted: false,
            is_hidden: false,
            failed: None,
            is_ending: false,
            is_deaf: false,
            deadline: None,
            ended: Vec::new(),
        };
        (talk, to_say)
    }

    /// Until the process has ended. Whether another one is wanted.
    async fn attend<W: WindowProcess>(
        mut self,
        mut process: W,
        (mut output, mut input): (W::Output, W::Input),
        mut answers: mpsc::UnboundedReceiver<ToWindow>,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        theme: &mut Theme,
    ) -> bool {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; 1 << 16];
        let mut status = None;
        let mut patience = END_LIMIT;
        let mut last_words = None;
        loop {
            let next = self.to_write.front().map(|frame| &frame[self.written..]);
            let (is_writing, deadline) = (next.is_some(), last_words.or(self.deadline));
            let is_open = !self.is_ending && !self.is_deaf && status.is_none();
            let has_events = self.events.is_some();
            tokio::select! {
                read = output.read(&mut buffer) => {
                    let length = match read {
                        Ok(0) | Err(_) => break,
                        Ok(length) => length,
                    };
                    decoder.push(&buffer[..length]);
                    if let Err(fault) = self.hear(&mut decoder) {
                        tracing::error!(%fault, "the window's messages cannot be read; it is ended");
                        self.failed.get_or_insert(fault);
                        patience = Duration::ZERO;
                        break;
                    }
                }
                order = orders.recv(), if is_open => match order {
                    Some(order) => self.obey(order, theme),
                    None => self.end(),
                },
                Some(answer) = answers.recv() => self.say_answer(&answer),
                written = write(&mut input, next), if is_writing => self.has_written(&written),
                // No faster than they are read: the page gets the newest state then.
                event = next_of(&mut self.events), if has_events && !is_writing => {
                    self.pass_on(event);
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)),
                    if deadline.is_some() =>
                {
                    if is_open {
                        self.end();
                    } else {
                        patience = Duration::ZERO;
                        break;
                    }
                }
                how = process.ended(), if status.is_none() => {
                    status = Some(how);
                    last_words = Some(Instant::now() + LAST_WORDS);
                }
            }
        }
        if status.is_none() {
            status = tokio::time::timeout(patience, process.ended()).await.ok();
        }
        if status.is_none() {
            tracing::warn!("the window's process did not end by itself; it is killed");
            process.kill().await;
        }
        self.bury(status.as_deref())
    }

    fn hear(&mut self, decoder: &mut Decoder) -> Result<(), String> {
        while let Some(message) = decoder.message().map_err(|error| error.to_string())? {
            match message {
                FromWindow::Started { version } => {
                    let ours = env!("CARGO_PKG_VERSION");
                    if version != ours {
                        return Err(format!(
                            "Infera Node {version} is installed, and {ours} still runs. Quit it and start it again"
                        ));
                    }
                }
                FromWindow::Shown => {
                    tracing::info!("the window is shown");
                    (self.was_shown, self.is_seen, self.is_wanted) = (true, true, false);
                    if !self.is_ending {
                        self.deadline = None;
                    }
                    self.go_on();
                }
                FromWindow::Focused => {
                    self.is_seen = true;
                    self.go_on();
                }
                FromWindow::Hidden if !self.is_ending => {
                    self.rest();
                    if self.is_hidden {
                        self.deadline = Some(Instant::now() + self.release_after);
                    }
                }
                FromWindow::Hidden => {}
                FromWindow::Failed { detail } => self.failed = Some(detail),
                FromWindow::Call { id, name, request } => {
                    let (program, answers) = (self.program.clone(), self.answers.clone());
                    tokio::spawn(async move {
                        let answer = program.call(&name, request).await;
                        // The window may be gone.
                        let _ = answers.send(answer_to(id, answer));
                    });
                }
                FromWindow::Open { id, target } => {
                    let (program, answers) = (self.program.clone(), self.answers.clone());
                    tokio::spawn(async move {
                        let answer = program.open(&target).map(|()| Value::Null);
                        // The window may be gone.
                        let _ = answers.send(answer_to(id, answer));
                    });
                }
                FromWindow::Subscribe { page } => {
                    self.page = Some(page);
                    self.events = None;
                    if !self.is_resting {
                        self.go_on();
                    }
                }
                FromWindow::ClosePressed => self.program.close_pressed(),
                FromWindow::Quit => {
                    self.is_ending = true;
                    self.deadline = Some(Instant::now() + END_LIMIT);
                    self.program.quit_chosen();
                }
                FromWindow::Answered { id, yes } => {
                    if let Some((_, answered)) = self.asked.remove(&id) {
                        answered(yes);
                    }
                }
            }
        }
        Ok(())
    }

    fn obey(&mut self, order: Order, theme: &mut Theme) {
        match order {
            Order::Show => {
                self.is_hidden = false;
                self.is_wanted = true;
                self.deadline = None;
                self.go_on();
                self.say(&ToWindow::Show);
            }
            Order::Hide => {
                self.is_hidden = true;
                self.rest();
                self.deadline = Some(Instant::now() + self.release_after);
                self.say(&ToWindow::Hide);
            }
            Order::Minimise => {
                self.is_hidden = false;
                self.rest();
                self.say(&ToWindow::Minimise);
            }
            Order::Theme(wanted) => {
                *theme = wanted;
                self.say(&ToWindow::Theme(wanted));
            }
            Order::Ask(question, answered) if self.is_seen => {
                let id = self.questions;
                self.questions += 1;
                self.say(&ToWindow::Ask {
                    id,
                    question: question.clone(),
                });
                self.asked.insert(id, (question, answered));
            }
            Order::Ask(question, answered) => self.program.ask(question, answered),
            Order::End(ended) => {
                self.ended.push(ended);
                self.end();
            }
        }
    }

    /// Nothing is sampled for a window that nobody sees.
    fn rest(&mut self) {
        self.is_seen = false;
        self.is_resting = true;
        self.events = None;
    }

    /// The page gets the whole state first.
    fn go_on(&mut self) {
        if self.is_ending {
            return;
        }
        self.is_resting = false;
        if self.page.is_some() && self.events.is_none() && !self.is_deaf {
            self.events = Some(self.program.events());
        }
    }

    fn end(&mut self) {
        self.rest();
        self.is_ending = true;
        self.deadline = Some(Instant::now() + END_LIMIT);
        self.say(&ToWindow::End);
    }

    fn pass_on(&mut self, event: Option<AppEvent>) {
        // After the last one the program has ended.
        let (Some(event), Some(page)) = (event, self.page) else {
            self.events = None;
            return;
        };
        match to_raw_value(&event) {
            Ok(event) => self.say(&ToWindow::Event { page, event }),
            Err(error) => tracing::error!(%error, "an event is not shown"),
        }
    }

    fn say_answer(&mut self, answer: &ToWindow) {
        match (frame::encode(answer), answer) {
            (Ok(frame), _) => self.send(frame),
            (Err(error), ToWindow::Answer { id, .. }) => {
                self.say(&refused(*id, &error.to_string()));
            }
            (Err(error), _) => tracing::error!(%error, "the window is not told something"),
        }
    }

    fn say(&mut self, message: &ToWindow) {
        match frame::encode(message) {
            Ok(frame) => self.send(frame),
            Err(error) => tracing::error!(%error, "the window is not told something"),
        }
    }

    fn send(&mut self, frame: Vec<u8>) {
        if !self.is_deaf {
            self.to_write.push_back(frame);
        }
    }

    fn has_written(&mut self, written: &io::Result<usize>) {
        match written {
            Ok(length) if *length > 0 => {
                self.written += length;
                if self.to_write.front().map(Vec::len) == Some(self.written) {
                    self.to_write.pop_front();
                    self.written = 0;
                }
            }
            _ => {
                self.is_deaf = true;
                self.to_write.clear();
                self.written = 0;
                self.events = None;
                self.deadline = Some(Instant::now() + END_LIMIT);
            }
        }
    }

    /// The process has ended. What was asked in it is asked again, unless the program is ending.
    /// Another one is wanted if the person opened it when it was about to end.
    fn bury(mut self, status: Option<&str>) -> bool {
        let status = status.unwrap_or("killed");
        if self.ended.is_empty() {
            for (_, (question, answered)) in self.asked.drain() {
                self.program.ask(question, answered);
            }
        }
        if let Some(fault) = &self.failed {
            tracing::error!(%fault, "the window cannot be shown");
            self.program.cannot_show(fault);
        } else if self.is_ending {
            tracing::debug!(status, "the window's process has ended");
        } else if !self.was_shown {
            tracing::error!(status, "the window's process ended without a window");
            let fault = format!("the window's process ended without a word: {status}");
            self.program.cannot_show(&fault);
        } else {
            tracing::error!(status, "the window's process ended by itself");
            if self.is_wanted {
                return true;
            }
            if self.is_seen {
                self.program.lost();
            }
        }
        for ended in self.ended {
            // Whoever asked may be gone.
            let _ = ended.send(());
        }
        false
    }
}

fn answer_to(id: u64, answer: Result<Value, ApiError>) -> ToWindow {
    match answer.map(|value| to_raw_value(&value)) {
        Ok(Ok(value)) => ToWindow::Answer {
            id,
            answer: Ok(value),
        },
        Ok(Err(error)) => refused(id, &error.to_string()),
        Err(error) => ToWindow::Answer {
            id,
            answer: Err(error),
        },
    }
}

fn refused(id: u64, detail: &str) -> ToWindow {
    let detail = detail.to_owned();
    ToWindow::Answer {
        id,
        answer: Err(Refusal::Desktop { detail }.into()),
    }
}

/// May be given up: then nothing is written.
async fn write(input: &mut (impl AsyncWrite + Unpin), bytes: Option<&[u8]>) -> io::Result<usize> {
    input.write(bytes.unwrap_or_default()).await
}

async fn next_of(events: &mut Option<BoxStream<'static, AppEvent>>) -> Option<AppEvent> {
    events.as_mut()?.next().await
}
