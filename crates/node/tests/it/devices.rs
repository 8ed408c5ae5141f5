//! A node that computes on several devices.

use std::time::Duration;

use infera_engine::message::DeviceChoice;
use infera_node::governor::rules::{Rule, Why};
use infera_node::governor::{Mode, Reason};
use infera_node::state::{DeviceStatus, EngineStatus, StateKind};
use infera_protocol::requirements::{Gpu, GpuKind};

use infera_node::gpu::GpuSeen;

use crate::fakes::{FakeBalancer, FakeEngine, MODEL, Rig, model_config, model_in};

const FIRST: &str = "0000:01:00.0";
const SECOND: &str = "0000:02:00.0";

fn card(pci_id: &str) -> Gpu {
    Gpu {
        name: "Card".to_owned(),
        kind: GpuKind::Discrete,
        api: "Vulkan".to_owned(),
        driver: String::new(),
        pci_id: Some(pci_id.to_owned()),
        vram_bytes: Some(8 << 30),
    }
}

fn exactly(id: &str) -> DeviceChoice {
    DeviceChoice::Adapter(id.to_owned())
}

impl Rig {
    /// Two cards of one name, each with the model.
    async fn with_two_cards() -> Self {
        let rig = Self::start_on(
            vec![exactly(FIRST), exactly(SECOND)],
            vec![card(FIRST), card(SECOND)],
            vec![model_config("tiny.gguf", None)],
            FakeBalancer::default(),
            FakeEngine::default(),
        )
        .await;
        rig.until_slots(4).await;
        rig
    }

    async fn until_slots(&self, slots: u32) {
        self.until("so many jobs may come", || {
            let books = self.balancer.books();
            books
                .states
                .last()
                .is_some_and(|state| state.free_slots == slots)
        })
        .await;
    }

    /// Waits until a device is shown so.
    async fn until_device(&self, id: &str, what: &str, is_so: impl Fn(&DeviceStatus) -> bool) {
        let snapshots = self.node.snapshots();
        self.until(what, || {
            let snapshot = snapshots.borrow();
            let mut devices = snapshot.devices.iter();
            devices.any(|device| device.id == id && is_so(device))
        })
        .await;
    }

    /// What runs, as words of device and file, and what each was told that it may take of its
    /// device, in GiB.
    fn runs(&self) -> Vec<(String, u64)> {
        let script = self.engine.script();
        let loads = script.loads.values().map(|load| {
            let device = match &load.device {
                DeviceChoice::Adapter(id) => id.clone(),
                other => format!("{other:?}"),
            };
            let place = format!("{device} {}", load.path.display());
            (place, load.memory_bytes.unwrap() >> 30)
        });
        let mut loads: Vec<_> = loads.collect();
        loads.sort();
        loads
    }

    async fn until_runs(&self, what: &str, expected: &[(&str, &str, u64)]) {
        let words = expected.iter();
        let expected: Vec<_> = words
            .map(|(device, file, memory)| (format!("{device} {file}"), *memory))
            .collect();
        self.until(what, || self.runs() == expected).await;
    }

    /// What engines were told to load their models on.
    fn loaded_on(&self) -> Vec<DeviceChoice> {
        let mut devices = self.engine.script().devices.clone();
        devices.sort_by_key(|device| format!("{device:?}"));
        devices
    }
}

#[tokio::test]
async fn jobs_are_spread_over_the_devices() {
    let rig = Rig::with_two_cards().await;
    assert_eq!(rig.loaded_on(), [exactly(FIRST), exactly(SECOND)]);
    assert_eq!(
        rig.engine.script().memory_bytes,
        [Some(8 << 30), Some(8 << 30)]
    );
    // The model is one, however many engines have it.
    assert_eq!(rig.balancer.books().states.last().unwrap().models.len(), 1);
    assert_eq!(rig.node.snapshots().borrow().models.len(), 1);
    let jobs = [1, 2].map(|number| rig.balancer.book(number, 200));
    for job in jobs {
        rig.balancer.offer(job);
    }
    for device in [FIRST, SECOND] {
        rig.until_device(device, "it has one", |device| device.jobs == 1)
            .await;
    }
    for job in jobs {
        rig.until_finished(job).await;
    }
    for device in [FIRST, SECOND] {
        rig.until_device(device, "it is done", |device| device.jobs == 0)
            .await;
    }
    let mut devices: Vec<_> = rig
        .history()
        .await
        .into_iter()
        .filter_map(|row| row.device)
        .collect();
    devices.sort();
    assert_eq!(devices, [FIRST, SECOND]);
}

#[tokio::test]
async fn one_device_is_left_alone_and_the_other_goes_on() {
    let rig = Rig::with_two_cards().await;
    let jobs = [1, 2].map(|number| rig.balancer.book(number, 1000));
    for job in jobs {
        rig.balancer.offer(job);
        rig.until_tokens(job, 5).await;
    }
    let snapshot = rig.node.pause_device(FIRST.to_owned(), true).await.unwrap();
    assert_eq!(snapshot.decision.mode, Mode::Run);
    assert_eq!(snapshot.state.kind, StateKind::Working);
    rig.until("its engine is gone", || rig.engine.script().running == 1)
        .await;
    rig.until_device(FIRST, "it rests", |device| {
        let reason = matches!(device.reason, Some(Reason::Paused { .. }));
        reason && device.paused && device.mode == Mode::ReleaseGpu && device.jobs == 0
    })
    .await;
    let released = |job| rig.balancer.books().jobs[&job].released.clone();
    rig.until("its job is somebody else's", || {
        jobs.into_iter().filter_map(released).count() == 1
    })
    .await;
    rig.until_device(SECOND, "it works on", |device| device.jobs == 1)
        .await;
    // All of them paused is the node paused.
    let snapshot = rig
        .node
        .pause_device(SECOND.to_owned(), true)
        .await
        .unwrap();
    assert!(matches!(
        snapshot.decision.reason,
        Some(Reason::Paused { .. })
    ));
    assert_eq!(snapshot.state.kind, StateKind::Paused);
    rig.until("the GPUs are free", || rig.engine.script().running == 0)
        .await;
    // To resume the node is to resume them.
    let snapshot = rig.node.resume().await.unwrap();
    assert_eq!(snapshot.decision.mode, Mode::Run);
    rig.until_slots(4).await;
    for device in [FIRST, SECOND] {
        rig.node
            .pause_device(device.to_owned(), true)
            .await
            .unwrap();
    }
    // It outlives the program, once it is written.
    rig.after(Duration::from_secs(1)).await;
    let rig = rig.crash_and_restart().await;
    for device in [FIRST, SECOND] {
        rig.until_device(device, "it is paused still", |device| device.paused)
            .await;
    }
    rig.node
        .pause_device(SECOND.to_owned(), false)
        .await
        .unwrap();
    rig.until_slots(2).await;
    assert_eq!(rig.loaded_on(), [exactly(SECOND)]);
}

#[tokio::test]
async fn a_device_that_vanishes_leaves_the_others_at_work() {
    let rig = Rig::with_two_cards().await;
    let jobs = [1, 2].map(|number| rig.balancer.book(number, 400));
    for job in jobs {
        rig.balancer.offer(job);
        rig.until_tokens(job, 5).await;
    }
    rig.machine.0.lock().unwrap().gpus.remove(1);
    rig.engine.script().gone.push(exactly(SECOND));
    rig.until_device(SECOND, "it is missing", |device| device.missing)
        .await;
    let released = |job| rig.balancer.books().jobs[&job].released.clone();
    rig.until("its job is somebody else's", || {
        jobs.into_iter().filter_map(released).count() == 1
    })
    .await;
    rig.until("the other is done", || {
        let finished = |job| rig.balancer.books().jobs[&job].finish.is_some();
        jobs.into_iter().any(finished)
    })
    .await;
    rig.until_slots(2).await;
    let snapshot = rig.node.snapshot().await.unwrap();
    assert_eq!(snapshot.models[0].engine, EngineStatus::Ready);
    assert_eq!(snapshot.state.kind, StateKind::Waiting);
    // It is plugged in again.
    rig.machine.0.lock().unwrap().gpus.push(card(SECOND));
    rig.engine.script().gone.clear();
    rig.node.check().await.unwrap();
    rig.until_slots(4).await;
    rig.until_device(SECOND, "it is back", |device| !device.missing)
        .await;
}

#[tokio::test]
async fn a_device_that_was_never_there_is_shown_and_the_others_work() {
    let rig = Rig::start_on(
        vec![
            exactly("0000:05:00.0"),
            exactly(FIRST),
            DeviceChoice::Named("card".to_owned()),
        ],
        vec![card(FIRST)],
        vec![model_config("tiny.gguf", None)],
        FakeBalancer::default(),
        FakeEngine::default(),
    )
    .await;
    rig.until_slots(2).await;
    rig.until_device(FIRST, "it is shown", |device| !device.missing)
        .await;
    // What names the same card twice is one device.
    let devices = rig.node.snapshots().borrow().devices.clone();
    let shown: Vec<_> = devices
        .iter()
        .map(|device| (&*device.id, device.missing))
        .collect();
    assert_eq!(shown, [("0000:05:00.0", true), (FIRST, false)]);
    assert_eq!(rig.loaded_on(), [exactly(FIRST)]);
}

#[tokio::test]
async fn where_no_device_is_there_the_engine_says_so() {
    let engine = FakeEngine::default();
    engine.script().gone.push(exactly(FIRST));
    let rig = Rig::start_on(
        vec![exactly(FIRST)],
        Vec::new(),
        vec![model_config("tiny.gguf", None)],
        FakeBalancer::default(),
        engine,
    )
    .await;
    let snapshot = rig.until_sentence("It is not there").await;
    assert_eq!(snapshot.state.kind, StateKind::NeedsYou);
    assert!(snapshot.devices[0].missing);
}

#[tokio::test]
async fn other_programs_take_one_gpu_and_the_other_goes_on() {
    let rig = Rig::with_two_cards().await;
    let seen = |load| GpuSeen {
        adapter: FIRST.to_owned(),
        load_others_percent: Some(load),
        ..GpuSeen::default()
    };
    rig.gpus.send_replace(vec![seen(90)]);
    rig.until_device(FIRST, "it is left to them", |device| {
        let reason = matches!(
            &device.reason,
            Some(Reason::Rule {
                why: Why::GpuBusy,
                ..
            })
        );
        reason && device.mode == Mode::ReleaseGpu
    })
    .await;
    rig.until("its engine is gone", || rig.engine.script().running == 1)
        .await;
    let snapshot = rig.node.snapshot().await.unwrap();
    assert_eq!(snapshot.decision.mode, Mode::Run);
    assert_eq!(snapshot.state.kind, StateKind::Waiting);
    // On both of them it is the node's own reason, and the rule is still looked at.
    let second = GpuSeen {
        adapter: SECOND.to_owned(),
        ..seen(90)
    };
    rig.gpus.send_replace(vec![seen(90), second]);
    let snapshot = rig.until_sentence("other programs use the GPU").await;
    assert!(
        snapshot
            .decision
            .held
            .iter()
            .any(|held| held.rule == Rule::GpuLoad)
    );
    rig.node.work_anyway(Duration::from_hours(1)).await.unwrap();
    rig.until_slots(4).await;
    rig.node.work_anyway(Duration::ZERO).await.unwrap();
    rig.until_sentence("other programs use the GPU").await;
    rig.gpus.send_replace(Vec::new());
    rig.until_slots(4).await;
}

#[tokio::test]
async fn the_owners_duty_reaches_engines_that_run() {
    let rig = Rig::ready().await;
    assert_eq!(rig.engine.script().duties, [100]);
    rig.rules.send_modify(|rules| rules.gpu.duty_percent = 40);
    rig.until("the engine is told", || {
        rig.engine.script().duties == [100, 40]
    })
    .await;
}

#[tokio::test]
async fn a_model_that_comes_beside_another_takes_half_of_its_memory() {
    let rig = Rig::start_on(
        vec![exactly(FIRST), exactly(SECOND)],
        vec![card(FIRST), card(SECOND)],
        vec![
            model_config("tiny.gguf", Some(3 << 30)),
            model_config("other.gguf", Some(3 << 30)),
        ],
        FakeBalancer::default(),
        FakeEngine::default(),
    )
    .await;
    rig.until_runs(
        "only the one that the network serves has a copy",
        &[
            (FIRST, "tiny.gguf", 8),
            (SECOND, "other.gguf", 4),
            (SECOND, "tiny.gguf", 4),
        ],
    )
    .await;
    // Its prompt takes longer than it takes until models are placed anew.
    rig.engine.script().prefill = vec![(3, Duration::from_mins(8))];
    let job = rig.balancer.book(1, 20);
    rig.balancer.offer(job);
    rig.until_device(FIRST, "the first has it", |device| device.jobs == 1)
        .await;
    rig.balancer.books().served = Some(vec![MODEL, model_in("other.gguf".as_ref())]);
    rig.until_device(FIRST, "the other is to come", |device| {
        device.models.len() == 2
    })
    .await;
    // What is computed keeps its memory, and nothing comes beside it or after it before.
    rig.engine.script().prefill.clear();
    assert_eq!(rig.runs()[0], (format!("{FIRST} tiny.gguf"), 8));
    let next = rig.balancer.book(2, 20);
    rig.balancer.offer(next);
    rig.until_finished(next).await;
    let done = rig.history().await;
    assert_eq!(done[0].device.as_deref(), Some(SECOND));
    assert!(rig.balancer.books().jobs[&job].finish.is_none());
    assert_eq!(rig.runs().len(), 3);
    rig.until_finished(job).await;
    rig.until_runs(
        "they share it",
        &[
            (FIRST, "other.gguf", 4),
            (FIRST, "tiny.gguf", 4),
            (SECOND, "other.gguf", 4),
            (SECOND, "tiny.gguf", 4),
        ],
    )
    .await;
}

/// Three cards for two models that do not fit beside each other: the third is for the one that the
/// network asks for.
#[tokio::test]
async fn a_copy_moves_to_what_the_network_asks_for() {
    const THIRD: &str = "0000:03:00.0";
    let balancer = FakeBalancer::default();
    let other = model_in("other.gguf".as_ref());
    balancer.books().served = Some(vec![MODEL, other]);
    let rig = Rig::start_on(
        [FIRST, SECOND, THIRD].map(exactly).to_vec(),
        [FIRST, SECOND, THIRD].map(card).to_vec(),
        vec![
            model_config("tiny.gguf", Some(5 << 30)),
            model_config("other.gguf", Some(5 << 30)),
        ],
        balancer,
        FakeEngine::default(),
    )
    .await;
    rig.until_runs(
        "nothing is asked for yet",
        &[
            (FIRST, "tiny.gguf", 8),
            (SECOND, "other.gguf", 8),
            (THIRD, "tiny.gguf", 8),
        ],
    )
    .await;
    rig.until_slots(6).await;
    for number in 1..=4 {
        let job = rig.balancer.book_of(number, 50, other);
        rig.balancer.offer(job);
        rig.until_finished(job).await;
    }
    rig.until_runs(
        "the third goes to it",
        &[
            (FIRST, "tiny.gguf", 8),
            (SECOND, "other.gguf", 8),
            (THIRD, "other.gguf", 8),
        ],
    )
    .await;
}
