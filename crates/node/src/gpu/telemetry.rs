//! One look at all adapters a second, but only while somebody watches, and every two seconds while
//! only the owner's rules do. No GPU is opened for it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, watch};

use super::{GpuHistory, GpuReading, GpuSample, GpuSeen};
use crate::clock::Clock;

/// A source of readings. Its calls may block.
pub trait GpuReader: Send {
    /// One for each adapter that it knows. What it cannot find out is `None`.
    fn read(&mut self) -> Vec<GpuReading>;

    /// Nobody has watched for a while: lets go of what might keep a GPU awake.
    fn rest(&mut self) {}
}

/// The readings of all adapters, taken on a thread of its own. Clones share it; the thread ends
/// with the last one.
#[derive(Clone)]
pub struct Telemetry {
    // Ends the thread, which shares the rest.
    handle: Arc<Handle>,
}

/// While one of these is held, there are samples.
#[must_use = "nothing is read once it is dropped"]
pub struct Watch {
    telemetry: Telemetry,
    for_rules: bool,
}

/// How often it is looked at.
#[derive(Debug, Clone, Copy)]
struct Intervals {
    /// For a window that shows it, or beside work in progress.
    watched: Duration,
    /// For the owner's rules.
    ruled: Duration,
}

const INTERVALS: Intervals = Intervals {
    watched: Duration::from_secs(1),
    ruled: Duration::from_secs(2),
};
/// So long nobody must have watched before readers rest: they need a moment to wake again.
const REST_AFTER: Duration = Duration::from_mins(1);
const KEPT_MS: i64 = 10 * 60 * 1000;
/// What the sensor of a chip that works may say, and where a driver may begin to slow it down.
const CHIP_CELSIUS: std::ops::RangeInclusive<f32> = -40.0..=150.0;
const LEAST_LIMIT_CELSIUS: f32 = 50.0;
/// Samples that a slow receiver may leave waiting.
const WAITING_SAMPLES: usize = 16;

impl Telemetry {
    /// The first of several readers that knows a figure of an adapter is believed.
    pub fn start(readers: Vec<Box<dyn GpuReader>>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::start_every(INTERVALS, readers, clock)
    }

    fn start_every(
        intervals: Intervals,
        readers: Vec<Box<dyn GpuReader>>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            samples: broadcast::Sender::new(WAITING_SAMPLES),
            seen: watch::Sender::default(),
            clock,
            intervals,
        });
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("gpu-telemetry".to_owned())
            .spawn(move || of_thread.run(readers))?;
        Ok(Self {
            handle: Arc::new(Handle { shared }),
        })
    }

    /// Has samples taken every second for as long as the guard is held: by a window that shows them,
    /// or by work in progress.
    pub fn watch(&self) -> Watch {
        self.begin_watch(false)
    }

    /// The same for the owner's rules, which need it half as often.
    pub fn watch_for_rules(&self) -> Watch {
        self.begin_watch(true)
    }

    fn begin_watch(&self, for_rules: bool) -> Watch {
        *self.shared().lock().watchers(for_rules) += 1;
        self.shared().changed.notify_all();
        Watch {
            telemetry: self.clone(),
            for_rules,
        }
    }

    /// What the owner's rules look at. One entry for each adapter that tells anything; empty while
    /// nobody watches.
    pub fn seen(&self) -> watch::Receiver<Vec<GpuSeen>> {
        self.shared().seen.subscribe()
    }

    /// Each sample as it is taken.
    pub fn samples(&self) -> broadcast::Receiver<GpuSample> {
        self.shared().samples.subscribe()
    }

    /// What was measured in the last ten minutes, without asking an adapter.
    pub fn history(&self) -> GpuHistory {
        let now_ms = self.shared().clock.now_ms();
        self.shared().lock().history.view(now_ms)
    }

    /// Whether adapters have been asked at all, whatever they told.
    pub fn has_looked(&self) -> bool {
        self.shared().lock().looked
    }

    /// Under which [`super::Adapter::id`] to show a card that goes by another
    /// ([`super::card_names`]).
    pub fn set_names(&self, names: HashMap<String, String>) {
        self.shared().lock().names = names;
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let shared = self.telemetry.shared();
        let mut state = shared.lock();
        *state.watchers(self.for_rules) -= 1;
        if !state.is_watched() {
            // What was seen then says nothing of later.
            shared.see(Vec::new());
        }
        drop(state);
        shared.changed.notify_all();
    }
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A thread that hangs in a driver is not waited for.
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

struct Shared {
    state: Mutex<SharedState>,
    changed: Condvar,
    samples: broadcast::Sender<GpuSample>,
    /// Changed with the state locked, so that nothing is seen after the last watcher.
    seen: watch::Sender<Vec<GpuSeen>>,
    clock: Arc<dyn Clock>,
    intervals: Intervals,
}

#[derive(Default)]
struct SharedState {
    watchers: usize,
    watchers_for_rules: usize,
    closed: bool,
    looked: bool,
    history: History,
    names: HashMap<String, String>,
}

/// What the thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Read,
    Rest,
    /// Until something changes, or for so long.
    Wait(Option<Duration>),
    End,
}

impl Shared {
    fn run(&self, mut readers: Vec<Box<dyn GpuReader>>) {
        let mut last = None;
        let mut rest_at = None;
        loop {
            match self.next(last, rest_at) {
                Step::End => return,
                Step::Rest => {
                    rest_at = None;
                    for reader in &mut readers {
                        reader.rest();
                    }
                }
                Step::Read | Step::Wait(_) => {
                    let now = Instant::now();
                    last = Some(now);
                    rest_at = Some(now + REST_AFTER);
                    let readings = merge(readers.iter_mut().map(|reader| reader.read()));
                    self.publish(readings);
                }
            }
        }
    }

    /// Waits for what is to be done.
    fn next(&self, last: Option<Instant>, rest_at: Option<Instant>) -> Step {
        let mut state = self.lock();
        loop {
            let step = state.step(Instant::now(), last, rest_at, self.intervals);
            state = match step {
                Step::Wait(None) => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Step::Wait(Some(time)) => {
                    self.changed
                        .wait_timeout(state, time)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                step => return step,
            };
        }
    }

    fn publish(&self, mut readings: Vec<GpuReading>) {
        let mut state = self.lock();
        state.looked = true;
        for reading in &mut readings {
            reading.leave_out_nonsense();
            if let Some(name) = state.names.get(&reading.adapter) {
                reading.adapter.clone_from(name);
            }
        }
        if state.is_watched() {
            self.see(readings.iter().map(GpuSeen::from).collect());
        }
        if readings.is_empty() {
            return;
        }
        let sample = GpuSample {
            at_ms: self.clock.now_ms(),
            readings,
        };
        state.history.push(sample.clone());
        drop(state);
        // Nobody may be listening.
        let _ = self.samples.send(sample);
    }

    fn see(&self, seen: Vec<GpuSeen>) {
        self.seen.send_if_modified(|current| {
            let changed = *current != seen;
            *current = seen;
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, SharedState> {
        // Each change is done at once: nothing is half-written after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedState {
    fn step(
        &self,
        now: Instant,
        last: Option<Instant>,
        rest_at: Option<Instant>,
        intervals: Intervals,
    ) -> Step {
        if self.closed {
            return Step::End;
        }
        if !self.is_watched() {
            return match rest_at {
                Some(at) if at <= now => Step::Rest,
                at => Step::Wait(at.map(|at| at - now)),
            };
        }
        let interval = if self.watchers > 0 {
            intervals.watched
        } else {
            intervals.ruled
        };
        match last.map(|last| last + interval) {
            Some(due) if due > now => Step::Wait(Some(due - now)),
            _ => Step::Read,
        }
    }

    fn is_watched(&self) -> bool {
        self.watchers + self.watchers_for_rules > 0
    }

    fn watchers(&mut self, for_rules: bool) -> &mut usize {
        if for_rules {
            &mut self.watchers_for_rules
        } else {
            &mut self.watchers
        }
    }
}

/// The samples of the last ten minutes, oldest first.
#[derive(Debug, Default)]
struct History {
    samples: VecDeque<GpuSample>,
}

impl History {
    fn push(&mut self, sample: GpuSample) {
        // A clock that was put back: what it dated later is not in order any more.
        while self
            .samples
            .back()
            .is_some_and(|last| last.at_ms >= sample.at_ms)
        {
            self.samples.pop_back();
        }
        self.forget(sample.at_ms);
        self.samples.push_back(sample);
    }

    fn view(&mut self, now_ms: i64) -> GpuHistory {
        self.forget(now_ms);
        GpuHistory {
            samples: self.samples.iter().cloned().collect(),
        }
    }

    fn forget(&mut self, now_ms: i64) {
        let oldest = now_ms.saturating_sub(KEPT_MS);
        while self
            .samples
            .front()
            .is_some_and(|first| first.at_ms < oldest)
        {
            self.samples.pop_front();
        }
    }
}

/// One reading for each adapter.
fn merge(readings: impl Iterator<Item = Vec<GpuReading>>) -> Vec<GpuReading> {
    let mut merged: Vec<GpuReading> = Vec::new();
    for reading in readings.flatten() {
        match merged.iter_mut().find(|one| one.adapter == reading.adapter) {
            Some(known) => fill(known, &reading),
            None => merged.push(reading),
        }
    }
    merged
}

impl GpuReading {
    /// What a driver cannot mean is not reported: a share of more than all, more memory held than
    /// there is, a heat that no chip survives. What other programs hold of the memory follows from
    /// the rest.
    fn leave_out_nonsense(&mut self) {
        let share = |percent: &f32| (0.0..=100.0).contains(percent);
        self.load_percent = self.load_percent.filter(share);
        self.load_others_percent = self.load_others_percent.filter(share);
        self.fan_percent = self.fan_percent.filter(|percent| *percent >= 0.0);
        let heat = |celsius: &f32| CHIP_CELSIUS.contains(celsius);
        self.temperature_celsius = self.temperature_celsius.filter(heat);
        self.temperature_limit_celsius = self
            .temperature_limit_celsius
            .filter(|celsius| heat(celsius) && *celsius >= LEAST_LIMIT_CELSIUS);
        self.vram_total_bytes = self.vram_total_bytes.filter(|bytes| *bytes > 0);
        let total = self.vram_total_bytes.unwrap_or(u64::MAX);
        self.vram_used_bytes = self.vram_used_bytes.filter(|bytes| *bytes <= total);
        let used = self.vram_used_bytes.unwrap_or(total);
        self.vram_ours_bytes = self.vram_ours_bytes.filter(|bytes| *bytes <= used);
        self.vram_others_bytes = self.vram_others_bytes.filter(|bytes| *bytes <= used).or(
            // Only what all of it adds up to tells of those whose files nobody may read.
            self.vram_used_bytes
                .zip(self.vram_ours_bytes)
                .map(|(used, ours)| used - ours),
        );
    }
}

/// Adds what is not known yet.
fn fill(known: &mut GpuReading, other: &GpuReading) {
    let GpuReading {
        adapter: _,
        load_percent,
        load_others_percent,
        vram_ours_bytes,
        vram_others_bytes,
        vram_used_bytes,
        vram_total_bytes,
        temperature_celsius,
        temperature_limit_celsius,
        power_watts,
        power_limit_watts,
        core_megahertz,
        memory_megahertz,
        fan_percent,
    } = *other;
    known.load_percent = known.load_percent.or(load_percent);
    known.load_others_percent = known.load_others_percent.or(load_others_percent);
    known.vram_ours_bytes = known.vram_ours_bytes.or(vram_ours_bytes);
    known.vram_others_bytes = known.vram_others_bytes.or(vram_others_bytes);
    known.vram_used_bytes = known.vram_used_bytes.or(vram_used_bytes);
    known.vram_total_bytes = known.vram_total_bytes.or(vram_total_bytes);
    known.temperature_celsius = known.temperature_celsius.or(temperature_celsius);
    known.temperature_limit_celsius = known
        .temperature_limit_celsius
        .or(temperature_limit_celsius);
    known.power_watts = known.power_watts.or(power_watts);
    known.power_limit_watts = known.power_limit_watts.or(power_limit_watts);
    known.core_megahertz = known.core_megahertz.or(core_megahertz);
    known.memory_megahertz = known.memory_megahertz.or(memory_megahertz);
    known.fan_percent = known.fan_percent.or(fan_percent);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::sync::mpsc;

    use super::*;

    fn reading(adapter: &str, load: f32) -> GpuReading {
        GpuReading {
            adapter: adapter.to_owned(),
            load_percent: Some(load),
            ..GpuReading::default()
        }
    }

    fn sample(at_ms: i64) -> GpuSample {
        GpuSample {
            at_ms,
            readings: vec![reading("a", 1.0)],
        }
    }

    fn times(history: &GpuHistory) -> Vec<i64> {
        history.samples.iter().map(|sample| sample.at_ms).collect()
    }

    #[test]
    fn the_ring_keeps_ten_minutes_and_leaves_gaps() {
        let mut history = History::default();
        for second in 0..700 {
            if !(300..400).contains(&second) {
                history.push(sample(second * 1000));
            }
        }
        let view = history.view(699_000);
        assert_eq!(view.samples.len(), 501);
        assert_eq!(view.samples[0].at_ms, 99_000);
        let gap = view
            .samples
            .windows(2)
            .map(|pair| pair[1].at_ms - pair[0].at_ms)
            .max();
        assert_eq!(gap, Some(101_000));
        assert!(history.view(699_000 + KEPT_MS + 1).samples.is_empty());
    }

    #[test]
    fn a_clock_that_is_put_back_leaves_the_samples_in_order() {
        let mut history = History::default();
        for at_ms in [1000, 2000, 3000, 1500, 2500] {
            history.push(sample(at_ms));
        }
        assert_eq!(times(&history.view(2500)), [1000, 1500, 2500]);
    }

    #[test]
    fn the_next_step_as_a_table() {
        let Intervals { watched, ruled } = INTERVALS;
        let now = Instant::now() + REST_AFTER;
        let ago = |time| now.checked_sub(time);
        let (soon, before) = (now + watched, ago(watched).unwrap());
        let cases = [
            (0, 0, false, ago(ruled), None, Step::Wait(None)),
            (
                0,
                0,
                false,
                ago(ruled),
                Some(soon),
                Step::Wait(Some(watched)),
            ),
            (0, 0, false, ago(ruled), Some(before), Step::Rest),
            (1, 0, false, None, None, Step::Read),
            (2, 0, false, ago(watched), Some(before), Step::Read),
            (
                1,
                0,
                false,
                ago(watched / 2),
                Some(soon),
                Step::Wait(Some(watched / 2)),
            ),
            (1, 1, false, ago(watched), None, Step::Read),
            (0, 1, false, None, None, Step::Read),
            (0, 1, false, ago(watched), None, Step::Wait(Some(watched))),
            (0, 1, false, ago(ruled), None, Step::Read),
            (1, 0, true, None, None, Step::End),
            (0, 0, true, None, None, Step::End),
        ];
        for (watchers, watchers_for_rules, closed, last, rest_at, expected) in cases {
            let state = SharedState {
                watchers,
                watchers_for_rules,
                closed,
                ..SharedState::default()
            };
            let step = state.step(now, last, rest_at, INTERVALS);
            assert_eq!(step, expected, "{watchers} {watchers_for_rules}");
        }
    }

    #[test]
    fn what_a_driver_cannot_mean_is_not_reported() {
        const GB: u64 = 1 << 30;
        let said = |change: fn(&mut GpuReading)| {
            let mut reading = GpuReading {
                load_percent: Some(63.0),
                load_others_percent: Some(40.0),
                vram_ours_bytes: Some(3 * GB),
                vram_used_bytes: Some(5 * GB),
                vram_total_bytes: Some(8 * GB),
                temperature_celsius: Some(61.0),
                temperature_limit_celsius: Some(90.0),
                ..GpuReading::default()
            };
            change(&mut reading);
            reading.leave_out_nonsense();
            reading
        };
        assert_eq!(said(|_| ()).vram_others_bytes, Some(2 * GB));
        for load in [101.0, -1.0, f32::NAN, f32::INFINITY] {
            let mut reading = reading("a", load);
            reading.load_others_percent = Some(load);
            reading.leave_out_nonsense();
            let loads = (reading.load_percent, reading.load_others_percent);
            assert_eq!(loads, (None, None), "{load}");
        }
        let more_ours = said(|reading| reading.vram_ours_bytes = Some(6 * GB));
        assert_eq!(more_ours.vram_ours_bytes, None, "more than all hold");
        assert_eq!(more_ours.vram_others_bytes, None);
        let more_used = said(|reading| reading.vram_used_bytes = Some(9 * GB));
        assert_eq!(more_used.vram_used_bytes, None, "more than there is");
        assert_eq!(more_used.vram_others_bytes, None);
        let none = said(|reading| reading.vram_total_bytes = Some(0));
        assert_eq!(none.vram_total_bytes, None);
        let unknown = said(|reading| reading.vram_ours_bytes = None);
        assert_eq!(unknown.vram_others_bytes, None, "ours may be in it");
        for heat in [-300.0, 511.0, f32::NAN] {
            let mut reading = said(|_| ());
            reading.temperature_celsius = Some(heat);
            reading.temperature_limit_celsius = Some(heat);
            reading.leave_out_nonsense();
            let heats = (
                reading.temperature_celsius,
                reading.temperature_limit_celsius,
            );
            assert_eq!(heats, (None, None), "{heat}");
        }
        let limit = said(|reading| reading.temperature_limit_celsius = Some(0.0));
        assert_eq!(limit.temperature_limit_celsius, None);
        assert_eq!(limit.temperature_celsius, Some(61.0));
    }

    #[test]
    fn the_first_reader_that_knows_is_believed() {
        let first = vec![reading("a", 1.0)];
        let second = vec![
            GpuReading {
                power_watts: Some(7.0),
                ..reading("a", 2.0)
            },
            reading("b", 3.0),
        ];
        let merged = merge([first, second].into_iter());
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0].load_percent, Some(1.0));
        assert_eq!(merged[0].power_watts, Some(7.0));
        assert_eq!(merged[0].fan_percent, None);
    }

    /// Says when it is asked, and answers what the test gives it.
    struct Scripted {
        asked: mpsc::Sender<()>,
        answers: mpsc::Receiver<Vec<GpuReading>>,
    }

    impl GpuReader for Scripted {
        fn read(&mut self) -> Vec<GpuReading> {
            self.asked.send(()).unwrap();
            self.answers.recv().unwrap_or_default()
        }
    }

    #[derive(Default)]
    struct Counting(AtomicI64);

    impl Clock for Counting {
        fn now_ms(&self) -> i64 {
            self.0.fetch_add(1000, Ordering::Relaxed)
        }

        fn describe(&self, unix_ms: i64) -> String {
            unix_ms.to_string()
        }
    }

    const AT_ONCE: Intervals = Intervals {
        watched: Duration::ZERO,
        ruled: Duration::ZERO,
    };

    #[test]
    fn the_rules_see_what_was_read_and_nothing_once_nobody_watches() {
        let (asked, was_asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let reader: Box<dyn GpuReader> = Box::new(Scripted { asked, answers });
        let telemetry =
            Telemetry::start_every(AT_ONCE, vec![reader], Arc::new(Counting::default())).unwrap();
        let mut samples = telemetry.samples();
        let seen = telemetry.seen();
        assert_eq!(*seen.borrow(), []);
        let watching = telemetry.watch_for_rules();
        let mut others = |percent: f32| {
            was_asked.recv().unwrap();
            answer
                .send(vec![GpuReading {
                    load_others_percent: Some(percent),
                    ..reading("a", percent)
                }])
                .unwrap();
            samples.blocking_recv().unwrap();
        };
        others(41.0);
        assert_eq!(seen.borrow()[0].load_others_percent, Some(40));
        let mut changes = telemetry.seen();
        others(43.0);
        assert!(!changes.has_changed().unwrap(), "it is the same step");
        others(50.0);
        assert!(changes.has_changed().unwrap());
        assert_eq!(changes.borrow_and_update()[0].load_others_percent, Some(50));
        // The GPU has gone: no sample, and nothing seen of it.
        was_asked.recv().unwrap();
        answer.send(Vec::new()).unwrap();
        was_asked.recv().unwrap();
        assert_eq!(*seen.borrow(), []);
        answer.send(vec![reading("a", 1.0)]).unwrap();
        was_asked.recv().unwrap();
        assert_eq!(seen.borrow().len(), 1);
        drop(watching);
        assert_eq!(*seen.borrow(), []);
        // What is read just then is not seen any more.
        answer.send(vec![reading("a", 1.0)]).unwrap();
        for _ in 0..2 {
            samples.blocking_recv().unwrap();
        }
        assert_eq!(*seen.borrow(), []);
    }

    #[test]
    fn samples_are_taken_while_somebody_watches_and_no_longer() {
        let (asked, was_asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let reader: Box<dyn GpuReader> = Box::new(Scripted { asked, answers });
        let telemetry =
            Telemetry::start_every(AT_ONCE, vec![reader], Arc::new(Counting::default())).unwrap();
        let mut samples = telemetry.samples();
        telemetry.set_names(HashMap::from([("card".to_owned(), "Apple M2".to_owned())]));
        assert!(was_asked.try_recv().is_err() && !telemetry.has_looked());
        let (one, other) = (telemetry.watch(), telemetry.watch());
        was_asked.recv().unwrap();
        answer.send(vec![reading("card", 1.0)]).unwrap();
        assert_eq!(
            samples.blocking_recv().unwrap().readings,
            [reading("Apple M2", 1.0)]
        );
        assert!(telemetry.has_looked());
        drop(one);
        was_asked.recv().unwrap();
        // Nothing was measured: a gap.
        answer.send(Vec::new()).unwrap();
        was_asked.recv().unwrap();
        drop(other);
        answer.send(vec![reading("card", 3.0)]).unwrap();
        let last = samples.blocking_recv().unwrap();
        assert_eq!(last.readings[0].load_percent, Some(3.0));
        // The thread has seen that nobody watches once it answers to the next one only.
        let again = telemetry.watch();
        was_asked.recv().unwrap();
        assert!(was_asked.try_recv().is_err());
        assert_eq!(telemetry.history().samples.len(), 2);
        answer.send(vec![reading("card", 4.0)]).unwrap();
        samples.blocking_recv().unwrap();
        drop((again, answer));
        // With the last handle the thread ends, and with it the reader.
        drop(telemetry);
        while was_asked.recv().is_ok() {}
    }
}
