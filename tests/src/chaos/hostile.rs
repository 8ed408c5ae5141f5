//! Hostile nodes and clients. All are bounded in number and time, and speak to one balancer only.

use std::collections::HashSet;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use infera_protocol::node_api::{NodeEvent, Offer};
use infera_protocol::{FinishReason, JobId, JobSpec, ModelId, NodeKey, TokenOutput};
use infera_testing::{Answer, SimNode, Work, agreeing_report, hardware};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};
use xtask::Result;
use xtask::http::Client;

use super::dice::Dice;
use super::schedule::{Deed, Nuisance};
use crate::engine::Engine;
use crate::{MODEL, Streamed};

/// How often a node that holds a job shows that it lives.
const BEAT: Duration = Duration::from_millis(700);
/// A made-up answer has tokens from here to there: none ends a text in the test models.
const WORDS: (u64, u64) = (50, 600);
/// By this the colluding worker knows its client's jobs: nobody else asks for so many tokens.
const COLLUDING_TOKENS: u32 = 163;
const THROWAWAYS: usize = 4;

/// What hostile parties know.
pub(crate) struct Hostile {
    pub(crate) balancer: String,
    pub(crate) model: ModelId,
    /// Key of a client that hangs up and floods.
    pub(crate) flood_key: String,
    /// Key of the client that colludes with nodes.
    pub(crate) colluding_key: String,
    /// A reference that the operator trusts.
    pub(crate) lazy: [u8; 32],
    pub(crate) engine: PathBuf,
    pub(crate) model_file: PathBuf,
    /// Set when all is over.
    pub(crate) over: AtomicBool,
    /// Answers with a status of 500, which no call may have.
    pub(crate) internal_errors: AtomicU64,
    /// How many nodes there have been.
    pub(crate) nodes: AtomicU64,
}

/// Who acts until when, with its own luck.
struct Actor {
    hostile: Arc<Hostile>,
    until: Instant,
    dice: Dice,
}

impl Hostile {
    /// Lets nodes do their deed for so long.
    pub(crate) fn send_nodes(
        self: &Arc<Self>,
        deed: Deed,
        lasts: Duration,
        mut dice: Dice,
    ) -> Vec<JoinHandle<()>> {
        if deed == Deed::Mint {
            return self.collude(lasts, dice);
        }
        let count = match deed {
            Deed::Hold | Deed::Lapse | Deed::Release => 3,
            Deed::Drip | Deed::Lie => 2,
            Deed::Lazy | Deed::Mint => 1,
        };
        let one = |_| {
            let secret = if deed == Deed::Lazy {
                self.lazy
            } else {
                dice.bytes()
            };
            let actor = self.actor(lasts, &mut dice);
            self.nodes.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || run(actor.be_node(&secret, deed)))
        };
        (0..count).map(one).collect()
    }

    /// Lets a client be a nuisance for so long.
    pub(crate) fn send_clients(
        self: &Arc<Self>,
        nuisance: Nuisance,
        lasts: Duration,
        mut dice: Dice,
    ) -> JoinHandle<()> {
        let mut actor = self.actor(lasts, &mut dice);
        thread::spawn(move || {
            // The balancer may be down or refuse: then this one has failed, which is well.
            let _ = match nuisance {
                Nuisance::Silence => actor.keep_silent(),
                Nuisance::HangUps => actor.hang_up(),
                Nuisance::Huge => actor.send_huge(),
                Nuisance::Garbage => actor.send_garbage(),
                Nuisance::Challenges => actor.ask_for_challenges(),
            };
        })
    }

    /// A client, a worker and throwaway identities. The worker writes all of its client's job but
    /// the end, and the others hand it on until the network gives up.
    fn collude(self: &Arc<Self>, lasts: Duration, mut dice: Dice) -> Vec<JoinHandle<()>> {
        let played = Arc::new(Mutex::new(HashSet::new()));
        let client = self.actor(lasts, &mut dice);
        let mut threads = vec![thread::spawn(move || client.be_colluding_client())];
        for number in 0..=THROWAWAYS {
            let secret = dice.bytes();
            let actor = self.actor(lasts, &mut dice);
            let played = Arc::clone(&played);
            self.nodes.fetch_add(1, Ordering::Relaxed);
            threads.push(thread::spawn(move || {
                if number == 0 {
                    run(actor.be_colluding_worker(&secret, &played));
                } else {
                    run(actor.be_throwaway(&secret, &played));
                }
            }));
        }
        threads
    }

    fn actor(self: &Arc<Self>, lasts: Duration, dice: &mut Dice) -> Actor {
        Actor {
            hostile: Arc::clone(self),
            until: Instant::now() + lasts,
            dice: Dice::new(dice.next(), "actor"),
        }
    }
}

impl Actor {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until && !self.hostile.over.load(Ordering::Relaxed)
    }

    /// Acts as a node again and again: the balancer may go down on the way.
    async fn be_node(mut self, secret: &[u8; 32], deed: Deed) {
        while self.goes_on() {
            let _ = match deed {
                Deed::Lazy => self.check_lazily(secret).await,
                _ => self.misbehave(secret, deed).await,
            };
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn misbehave(&mut self, secret: &[u8; 32], deed: Deed) -> Result<()> {
        let mut node = self.join(secret, 4).await?;
        let mut held: Vec<Work> = Vec::new();
        let mut beat = Instant::now();
        while self.goes_on() {
            if let Some(spec) = take(&mut node, |_| true).await? {
                match deed {
                    Deed::Hold | Deed::Drip => held.push(Work::new(spec.clone(), self.lie(&spec))),
                    Deed::Release => node.release(&spec).await?,
                    Deed::Lie => {
                        let mut work = Work::new(spec.clone(), self.lie(&spec));
                        node.write_all(&mut work).await?;
                    }
                    Deed::Lapse | Deed::Lazy | Deed::Mint => {}
                }
            }
            if beat.elapsed() >= BEAT {
                beat = Instant::now();
                for mut work in std::mem::take(&mut held) {
                    let words = usize::from(deed == Deed::Drip);
                    if node.write(&mut work, words).await.is_ok() {
                        held.push(work);
                    }
                }
                node.tell_free().await?;
            }
        }
        Ok(())
    }

    /// Words for all that is left of a job.
    fn lie(&mut self, spec: &JobSpec) -> Answer {
        let word = |_| TokenOutput {
            id: self.dice.between(WORDS.0, WORDS.1) as u32,
            logprob: None,
            alternatives: Vec::new(),
        };
        let words = (spec.start()..spec.task.most_output_tokens()).map(word);
        (words.collect(), FinishReason::Length)
    }

    async fn check_lazily(&self, secret: &[u8; 32]) -> Result<()> {
        let node = self.join(secret, 1).await?;
        let work = node.spawn_reference_as(agreeing_report);
        while self.goes_on() && !work.is_finished() {
            sleep(Duration::from_millis(50)).await;
        }
        work.abort();
        Ok(())
    }

    async fn be_colluding_worker(self, secret: &[u8; 32], played: &Mutex<HashSet<JobId>>) {
        while self.goes_on() {
            let _ = self.write_almost_all(secret, played).await;
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Writes what is true, so that it is verified; of its client's jobs without the end.
    async fn write_almost_all(
        &self,
        secret: &[u8; 32],
        played: &Mutex<HashSet<JobId>>,
    ) -> Result<()> {
        let Hostile {
            engine, model_file, ..
        } = &*self.hostile;
        let mut engine = Engine::start(engine, model_file, &json!("cpu"))?;
        let mut node = self.join(secret, 1).await?;
        let mut beat = Instant::now();
        while self.goes_on() {
            if let Some(spec) = take(&mut node, |_| true).await? {
                let (mut tokens, reason) = engine.generate(&spec, |seed| seed)?;
                if spec.task.most_output_tokens() == COLLUDING_TOKENS {
                    tokens.pop();
                    lock(played).insert(spec.job);
                    let mut work = Work::new(spec, (tokens, reason));
                    node.write(&mut work, usize::MAX).await?;
                    node.release(&work.spec).await?;
                } else {
                    let mut work = Work::new(spec, (tokens, reason));
                    node.write_all(&mut work).await?;
                }
            }
            if beat.elapsed() >= BEAT {
                beat = Instant::now();
                node.tell_free().await?;
            }
        }
        Ok(())
    }

    async fn be_throwaway(self, secret: &[u8; 32], played: &Mutex<HashSet<JobId>>) {
        while self.goes_on() {
            let _ = self.hand_on(secret, played).await;
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn hand_on(&self, secret: &[u8; 32], played: &Mutex<HashSet<JobId>>) -> Result<()> {
        let mut node = self.join(secret, 4).await?;
        let mut beat = Instant::now();
        while self.goes_on() {
            let is_played = |offer: &Offer| lock(played).contains(&offer.job);
            if let Some(spec) = take(&mut node, is_played).await? {
                node.release(&spec).await?;
            }
            if beat.elapsed() >= BEAT {
                beat = Instant::now();
                node.tell_free().await?;
            }
        }
        Ok(())
    }

    fn be_colluding_client(self) {
        let key = &self.hostile.colluding_key;
        let client = Client::with_limit(&self.hostile.balancer, Some(key), Duration::from_secs(30));
        while self.goes_on() {
            let request = story(COLLUDING_TOKENS);
            // It gets an error or an answer; either way it asks for more.
            let _ = client
                .stream("/v1/chat/completions", &request)
                .and_then(Streamed::read);
            thread::sleep(Duration::from_millis(100));
        }
    }

    async fn join(&self, secret: &[u8; 32], slots: u32) -> Result<SimNode> {
        let Hostile {
            balancer, model, ..
        } = &*self.hostile;
        let key = NodeKey::from_secret(secret);
        Ok(SimNode::connect(balancer, key, vec![*model], slots, hardware()).await?)
    }

    fn keep_silent(&mut self) -> Result<()> {
        let mut open = Vec::new();
        for _ in 0..60 {
            let mut stream = self.connect()?;
            let said: &[u8] = match self.dice.below(3) {
                0 => b"",
                1 => b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n",
                _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            };
            stream.write_all(said)?;
            open.push(stream);
        }
        while self.goes_on() {
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn hang_up(&mut self) -> Result<()> {
        let body = story(30).to_string();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.hostile.flood_key,
            body.len()
        );
        for _ in 0..400 {
            if !self.goes_on() {
                break;
            }
            let mut stream = self.connect()?;
            stream.write_all(request.as_bytes())?;
            thread::sleep(Duration::from_micros(self.dice.below(30_000)));
        }
        Ok(())
    }

    fn send_huge(&mut self) -> Result<()> {
        let flood = self.client(Some(&self.hostile.flood_key));
        let stranger = self.client(None);
        for _ in 0..3 {
            if !self.goes_on() {
                break;
            }
            let mut request = story(10);
            let digits = "7".repeat(self.dice.between(50_000, 400_000) as usize);
            request["messages"][0]["content"] = digits.into();
            self.note(flood.post("/v1/chat/completions", &request)?.status);
            let body = vec![b' '; self.dice.between(1 << 20, 12 << 20) as usize];
            for path in ["/v1/chat/completions", "/node/v1/state"] {
                // It may be cut off before all is sent.
                if let Ok(answer) = stranger.post_bytes(path, &body) {
                    self.note(answer.status);
                }
            }
        }
        Ok(())
    }

    fn send_garbage(&mut self) -> Result<()> {
        let client = self.client(Some(&self.hostile.flood_key));
        let job = "00".repeat(16);
        let paths = [
            "/v1/chat/completions".to_owned(),
            "/v1/completions".to_owned(),
            "/v1/embeddings".to_owned(),
            "/node/v1/challenge".to_owned(),
            "/node/v1/session".to_owned(),
            "/node/v1/state".to_owned(),
            format!("/node/v1/jobs/{job}/claim"),
            format!("/node/v1/jobs/{job}/output"),
            format!("/node/v1/audits/{job}/report"),
        ];
        let valid = story(10).to_string().into_bytes();
        for _ in 0..200 {
            if !self.goes_on() {
                break;
            }
            let path = &paths[self.dice.below(paths.len() as u64) as usize];
            let mut body = valid.clone();
            for _ in 0..=self.dice.below(4) {
                let place = self.dice.below(body.len() as u64) as usize;
                match self.dice.below(3) {
                    0 => body[place] = self.dice.next() as u8,
                    1 => body.truncate(place.max(1)),
                    _ => body.insert(place, b'['),
                }
            }
            self.note(client.post_bytes(path, &body)?.status);
        }
        Ok(())
    }

    fn ask_for_challenges(&mut self) -> Result<()> {
        let client = self.client(None);
        for _ in 0..1500 {
            if !self.goes_on() {
                break;
            }
            let node = NodeKey::from_secret(&self.dice.bytes()).id();
            let body = json!({ "version": infera_protocol::VERSION, "node": node });
            self.note(client.post("/node/v1/challenge", &body)?.status);
        }
        Ok(())
    }

    fn note(&self, status: u16) {
        if status == 500 {
            self.hostile.internal_errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn client(&self, key: Option<&str>) -> Client {
        Client::with_limit(&self.hostile.balancer, key, Duration::from_secs(30))
    }

    fn connect(&self) -> Result<TcpStream> {
        let address = self.hostile.balancer.trim_start_matches("http://");
        let stream = TcpStream::connect_timeout(&address.parse()?, Duration::from_secs(2))?;
        stream.set_write_timeout(Some(Duration::from_secs(2)))?;
        Ok(stream)
    }
}

/// Claims the next offer that is `wanted`. None when none comes for a moment, or another node was
/// first; an error when the stream of events has ended.
async fn take(node: &mut SimNode, wanted: impl Fn(&Offer) -> bool) -> Result<Option<JobSpec>> {
    let offer = match timeout(Duration::from_millis(50), node.events.recv()).await {
        Ok(Some((_, NodeEvent::Offer(offer)))) if wanted(&offer) => offer,
        Ok(None) => return Err("the events ended".into()),
        Ok(_) | Err(_) => return Ok(None),
    };
    match node.claim(&offer).await {
        Ok(spec) => Ok(Some(spec)),
        // Taken, gone, or no longer ours to take.
        Err(refusal) if matches!(refusal.code.status(), 403 | 404 | 409 | 410) => Ok(None),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Each actor has a thread, for some wait for their engine.
fn run(acting: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(acting);
}

fn story(max_tokens: u32) -> Value {
    json!({
        "model": MODEL,
        "messages": [{ "role": "user", "content": "Tell me a long story about a whale." }],
        "temperature": 0.8,
        "max_tokens": max_tokens,
        "stream": true,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
