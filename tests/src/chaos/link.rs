//! A client's or a node's way to the balancer, which can be cut, stalled and slowed down.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use xtask::Result;

use super::schedule::Fault;

/// How soon a connection notices that its link has changed.
const TICK: Duration = Duration::from_millis(20);
/// What passes at once on a slow link, and the pause after it.
const SLOW_BYTES: usize = 512;
const SLOW_PAUSE: Duration = Duration::from_millis(100);
/// A balancer that is frozen takes connections late; one that is down refuses them at once.
const PATIENCE: Duration = Duration::from_mins(2);

/// A port of its own that leads to the balancer. Dropping it closes it.
pub(crate) struct Link {
    url: String,
    state: Arc<State>,
}

struct State {
    to: SocketAddr,
    weather: AtomicU8,
    /// How many faults there have been.
    faults: AtomicU64,
    closed: AtomicBool,
}

const FAIR: u8 = 0;
const CUT: u8 = 1;
const STALLED: u8 = 2;
const SLOW: u8 = 3;

impl Link {
    pub(crate) fn new(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(State {
            to,
            weather: AtomicU8::new(FAIR),
            faults: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &shared));
        Ok(Self { url, state })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How many faults there have been: a stream that breaks across a change was broken by us.
    pub(crate) fn faults(&self) -> u64 {
        self.state.faults.load(Ordering::SeqCst)
    }

    pub(crate) fn is_fair(&self) -> bool {
        self.state.weather() == FAIR
    }

    pub(crate) fn disturb(&self, fault: Fault) {
        self.state.faults.fetch_add(1, Ordering::SeqCst);
        let weather = match fault {
            Fault::Cut => CUT,
            Fault::Stalled => STALLED,
            Fault::Slow => SLOW,
        };
        self.state.weather.store(weather, Ordering::SeqCst);
    }

    /// Lets everything pass again.
    pub(crate) fn mend(&self) {
        self.state.weather.store(FAIR, Ordering::SeqCst);
        self.state.faults.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
    }
}

impl State {
    fn weather(&self) -> u8 {
        if self.closed.load(Ordering::SeqCst) {
            return CUT;
        }
        self.weather.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    while !state.closed.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((near, _)) => {
                let state = Arc::clone(state);
                // A connection that breaks is what its two ends see.
                thread::spawn(move || drop(join(&near, &state)));
            }
            // Nobody comes just now, or there is no room for more.
            Err(_) => thread::sleep(TICK / 4),
        }
    }
}

/// Carries both directions until either end has closed.
fn join(near: &TcpStream, state: &Arc<State>) -> Result<()> {
    near.set_nonblocking(false)?;
    if state.weather() == CUT {
        return Ok(());
    }
    let far = TcpStream::connect_timeout(&state.to, PATIENCE)?;
    for stream in [near, &far] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(PATIENCE))?;
    }
    let there = (near.try_clone()?, far.try_clone()?, Arc::clone(state));
    let carrier = thread::spawn(move || carry(&there.0, &there.1, &there.2));
    carry(&far, near, state);
    // The other direction has ended too: both streams are shut.
    let _ = carrier.join();
    Ok(())
}

/// Carries one direction, then shuts both.
fn carry(mut from: &TcpStream, mut to: &TcpStream, state: &State) {
    let mut buffer = [0; 16 << 10];
    loop {
        let most = match state.weather() {
            CUT => break,
            STALLED => {
                thread::sleep(TICK);
                continue;
            }
            SLOW => SLOW_BYTES,
            _ => buffer.len(),
        };
        match from.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(count) => {
                if most == SLOW_BYTES {
                    thread::sleep(SLOW_PAUSE);
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    // Either may be shut already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    /// A server that gives back each line, and a link to it.
    fn echo() -> (Link, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let link = Link::new(listener.local_addr().unwrap()).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    for line in lines.map_while(std::io::Result::ok) {
                        if writeln!(stream, "{line}").is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let stream = connect(&link);
        (link, stream)
    }

    fn connect(link: &Link) -> TcpStream {
        let stream = TcpStream::connect(link.url().trim_start_matches("http://")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        stream
    }

    fn say(mut stream: &TcpStream, line: &str) -> std::io::Result<String> {
        writeln!(stream, "{line}")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }

    #[test]
    fn a_fair_link_carries_and_a_stalled_one_waits() {
        let (link, stream) = echo();
        assert_eq!(say(&stream, "one").unwrap(), "one");
        link.disturb(Fault::Stalled);
        assert!(say(&stream, "two").is_err());
        link.mend();
        let mut late = String::new();
        BufReader::new(&stream).read_line(&mut late).unwrap();
        assert_eq!(late, "two\n");
        assert_eq!(link.faults(), 2);
    }

    #[test]
    fn a_cut_link_breaks_and_takes_nobody_until_it_is_mended() {
        let (link, stream) = echo();
        assert_eq!(say(&stream, "one").unwrap(), "one");
        link.disturb(Fault::Cut);
        assert!(!matches!(say(&stream, "two").as_deref(), Ok("two")));
        assert!(!matches!(
            say(&connect(&link), "three").as_deref(),
            Ok("three")
        ));
        link.mend();
        assert_eq!(say(&connect(&link), "four").unwrap(), "four");
    }

    #[test]
    fn a_slow_link_carries_late() {
        let (link, stream) = echo();
        link.disturb(Fault::Slow);
        let begin = std::time::Instant::now();
        assert_eq!(say(&stream, "one").unwrap(), "one");
        assert!(begin.elapsed() >= 2 * SLOW_PAUSE);
    }
}
