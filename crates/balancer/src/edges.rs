//! Time, randomness, and what runs chat templates, passed in so that tests can choose them.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use infera_model::rendering::Renderer;

type Random = dyn Fn(&mut [u8]) + Send + Sync;

/// Where the balancer gets the time of day, its random bytes and its prompts from.
pub struct Edges {
    now_ms: Box<dyn Fn() -> i64 + Send + Sync>,
    /// When this program's steady clock began, and what the time of day was then.
    began: Option<(Instant, i64)>,
    random: Box<Random>,
    renderer: Arc<Renderer>,
}

impl Edges {
    pub fn new(
        now_ms: impl Fn() -> i64 + Send + Sync + 'static,
        random: impl Fn(&mut [u8]) + Send + Sync + 'static,
    ) -> Self {
        Self {
            now_ms: Box::new(now_ms),
            began: None,
            random: Box::new(random),
            renderer: Arc::new(Renderer::here()),
        }
    }

    /// Has chat templates applied by `renderer`. Without one they are run in this process, which
    /// is for tests, and for models whose files are trusted.
    #[must_use]
    pub fn with_renderer(self, renderer: Renderer) -> Self {
        Self {
            renderer: Arc::new(renderer),
            ..self
        }
    }

    /// The machine's clock and its source of randomness.
    pub fn system() -> Self {
        let random = |bytes: &mut [u8]| {
            getrandom::fill(bytes).expect("the operating system gives random bytes once booted");
        };
        Self {
            began: Some((Instant::now(), unix_ms())),
            ..Self::new(unix_ms, random)
        }
    }

    /// Unix time in milliseconds.
    pub fn now_ms(&self) -> i64 {
        (self.now_ms)()
    }

    /// Milliseconds of a clock that was set to Unix time when the program began, and that nobody
    /// sets: for spans of time that must not end, or last, because somebody set the machine's clock.
    pub fn steady_ms(&self) -> i64 {
        match self.began {
            Some((began, then_ms)) => then_ms.saturating_add(began.elapsed().as_millis() as i64),
            None => self.now_ms(),
        }
    }

    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.random)(&mut bytes);
        bytes
    }

    /// Uniform in [0, 1).
    pub fn chance(&self) -> f64 {
        (u64::from_le_bytes(self.random()) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn renderer(&self) -> &Arc<Renderer> {
        &self.renderer
    }

    /// Bytes that do not compress, for as long as asked.
    pub fn fill(&self, bytes: &mut [u8]) {
        (self.random)(bytes);
    }
}

impl fmt::Debug for Edges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Edges")
    }
}

fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
