//! The scheduler over a model that is only arithmetic: what a sequence sees depends on nothing but
//! its own tokens, so every schedule must give the same output.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use infera_engine::duty::{Duty, LONGEST_GAP};
use infera_engine::forward::{BLOCK_TOKENS, Forward, Segment};
use infera_engine::message::{Event, Failure, FailureCode, Generate, PREFILLED_EVERY, Score};
use infera_engine::scheduler::{Endings, Scheduler, StopWatch};
use infera_protocol::{FinishReason, JobSeed, LogProbabilities, ModelId, Sampling, Task, Writing};
use proptest::prelude::*;

const MODEL: ModelId = ModelId::from_bytes([1; 32]);
const VOCABULARY: usize = 50;
const END: u32 = 0;

/// Logits are a hash of all tokens before, read back from the KV blocks; a row takes a
/// millisecond.
struct Arithmetic {
    cells: Vec<u32>,
    fed: Rc<Cell<usize>>,
    fails: Rc<Cell<bool>>,
    /// From this position on all logits are undefined, as an infinity or a NaN among a model's
    /// numbers makes them.
    undefined_from: Rc<Cell<usize>>,
}

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn now() -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START + NOW.get()
}

impl Arithmetic {
    fn new(blocks: usize) -> Self {
        Self {
            cells: vec![u32::MAX; blocks * BLOCK_TOKENS],
            fed: Rc::default(),
            fails: Rc::default(),
            undefined_from: Rc::new(Cell::new(usize::MAX)),
        }
    }
}

impl Forward for Arithmetic {
    fn name(&self) -> &'static str {
        "Arithmetic"
    }

    fn vocabulary(&self) -> usize {
        VOCABULARY
    }

    fn context(&self) -> usize {
        300
    }

    fn blocks(&self) -> usize {
        self.cells.len() / BLOCK_TOKENS
    }

    fn block_bytes(&self) -> u64 {
        1
    }

    fn forward(&mut self, segments: &[Segment<'_>]) -> Result<Vec<f32>, Failure> {
        let mut rows = Vec::new();
        for segment in segments {
            assert!(
                !segment.tokens.is_empty(),
                "a segment without tokens is wasted work"
            );
            let cell = |position: usize| {
                segment.blocks[position / BLOCK_TOKENS] as usize * BLOCK_TOKENS
                    + position % BLOCK_TOKENS
            };
            for (index, token) in segment.tokens.iter().enumerate() {
                let position = segment.start + index;
                self.cells[cell(position)] = *token;
                if segment.wanted.contains(&index) {
                    let history: Vec<u32> = (0..=position).map(|at| self.cells[cell(at)]).collect();
                    let mut logits = logits(&history);
                    if position >= self.undefined_from.get() {
                        let undefined = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
                        logits.fill(undefined[position % 3]);
                    }
                    rows.extend(logits);
                }
            }
            self.fed.set(self.fed.get() + segment.tokens.len());
            NOW.set(NOW.get() + Duration::from_millis(segment.tokens.len() as u64));
        }
        if self.fails.get() {
            return Err(Failure {
                code: FailureCode::Internal,
                message: "lost".to_owned(),
            });
        }
        Ok(rows)
    }
}

fn logits(history: &[u32]) -> Vec<f32> {
    let mut state = history.iter().fold(17_u32, |state, token| {
        state.wrapping_mul(31).wrapping_add(token + 1)
    });
    (0..VOCABULARY)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as f32 / 16384.0
        })
        .collect()
}

fn scheduler(slots: usize) -> Scheduler<Arithmetic> {
    over(Arithmetic::new(10 * slots), slots)
}

fn over(model: Arithmetic, slots: usize) -> Scheduler<Arithmetic> {
    // The stop string is written as the token ids it ends with.
    let watch = |_: &[u32], stop: &[String]| -> StopWatch {
        let wanted: Vec<u32> = stop.iter().filter_map(|text| text.parse().ok()).collect();
        Box::new(move |token| wanted.contains(&token))
    };
    Scheduler::new(
        model,
        Endings {
            tokens: vec![END],
            watch: Box::new(watch),
        },
        slots,
        now,
    )
}

fn request(id: u64, prompt: &[u32], max_tokens: u32) -> Generate {
    let sampling = Sampling {
        temperature: 1.0,
        ..Sampling::GREEDY
    };
    let writing = Writing::new(sampling, max_tokens, JobSeed::from_bytes([id as u8; 32]));
    Generate {
        id,
        task: Task::write(MODEL, prompt.to_vec(), writing),
        output: Vec::new(),
    }
}

fn with(mut request: Generate, change: impl FnOnce(&mut Writing)) -> Generate {
    change(request.task.writing_mut().unwrap());
    request
}

fn run(scheduler: &mut Scheduler<Arithmetic>, events: &mut Vec<Event>) {
    for _ in 0..10_000 {
        if scheduler.is_idle() {
            return;
        }
        scheduler.step(&mut |event| events.push(event));
    }
    panic!("the scheduler does not come to an end");
}

fn output(events: &[Event], wanted: u64) -> (Vec<u32>, Option<FinishReason>) {
    let mut tokens = Vec::new();
    let mut reason = None;
    for event in events {
        match event {
            Event::Tokens { id, tokens: new } if *id == wanted => {
                assert_eq!(reason, None, "tokens after the end");
                tokens.extend(new.iter().map(|token| token.id));
            }
            Event::Finished(finished) if finished.id == wanted => {
                assert_eq!(reason, None, "two ends");
                reason = Some(finished.reason);
            }
            _ => {}
        }
    }
    (tokens, reason)
}

/// A request id, and so a seed, whose output has at least so many tokens.
fn long_output(prompt: &[u32], tokens: u32) -> u64 {
    (0..200)
        .find(|id| alone(&request(*id, prompt, tokens)).1 == Some(FinishReason::Length))
        .unwrap()
}

fn alone(request: &Generate) -> (Vec<u32>, Option<FinishReason>) {
    let (mut scheduler, mut events, id) = (scheduler(1), Vec::new(), request.id);
    scheduler.generate(request, &mut |event| events.push(event));
    run(&mut scheduler, &mut events);
    output(&events, id)
}

#[test]
fn an_output_goes_on_where_another_engine_stopped() {
    let id = long_output(&[1, 2, 3], 40);
    let (whole, reason) = alone(&request(id, &[1, 2, 3], 60));
    for split in 0..=whole.len() {
        let mut rest = request(id, &[1, 2, 3], 60);
        rest.output = whole[..split].to_vec();
        let (tokens, end) = alone(&rest);
        assert_eq!(
            [&whole[..split], &tokens].concat(),
            whole,
            "split at {split}"
        );
        assert_eq!(end, reason, "split at {split}");
    }
}

#[test]
fn ends_are_told_apart() {
    let id = long_output(&[1], 5);
    let (tokens, reason) = alone(&request(id, &[1], 5));
    assert_eq!((tokens.len(), reason), (5, Some(FinishReason::Length)));
    let stop = vec![tokens[2].to_string()];
    let stopping = with(request(id, &[1], 5), |it| it.stop = stop);
    assert_eq!(
        alone(&stopping),
        (tokens[..3].to_vec(), Some(FinishReason::Stop))
    );
    let ended = (0..200)
        .map(|id| alone(&request(id, &[1], 200)))
        .find(|(_, reason)| *reason == Some(FinishReason::EndOfText));
    assert_eq!(ended.unwrap().0.last(), Some(&END));
    let id = long_output(&[3; 298], 2);
    let (tokens, reason) = alone(&request(id, &[3; 298], 100));
    assert_eq!(
        (tokens.len(), reason),
        (2, Some(FinishReason::Length)),
        "the context holds 300"
    );
}

/// Beside probabilities, which need whole rows, a sequence is what it is alone.
#[test]
fn tokens_are_the_same_with_and_without_probabilities() {
    let (mut scheduler, mut events) = (scheduler(2), Vec::new());
    let id = long_output(&[1, 2], 20);
    let told = Generate {
        id: id + 1000,
        ..with(request(id, &[1, 2], 20), |it| it.logprobs = Some(2))
    };
    let silent = request(id + 1, &[3], 30);
    for request in [&told, &silent] {
        scheduler.generate(request, &mut |event| events.push(event));
    }
    run(&mut scheduler, &mut events);
    assert_eq!(
        output(&events, told.id).0,
        alone(&request(id, &[1, 2], 20)).0
    );
    assert_eq!(output(&events, silent.id), alone(&silent));
    let outputs = events.iter().filter_map(|event| match event {
        Event::Tokens { id, tokens } => Some((*id, tokens)),
        _ => None,
    });
    for (id, tokens) in outputs {
        let alternatives = if id == told.id { 2 } else { 0 };
        for token in tokens {
            assert_eq!(token.logprob.is_some(), id == told.id);
            assert_eq!(token.alternatives.len(), alternatives);
        }
    }
}

#[test]
fn a_cancelled_request_ends_with_the_next_step() {
    let (mut scheduler, mut events) = (scheduler(1), Vec::new());
    let (first, second) = (long_output(&[1], 10), long_output(&[2], 3) + 1000);
    scheduler.generate(&request(first, &[1], 200), &mut |event| events.push(event));
    scheduler.generate(
        &Generate {
            id: second,
            ..request(second - 1000, &[2], 3)
        },
        &mut |event| events.push(event),
    );
    scheduler.step(&mut |event| events.push(event));
    scheduler.cancel(first);
    scheduler.cancel(99_999);
    scheduler.step(&mut |event| events.push(event));
    let (tokens, reason) = output(&events, first);
    assert_eq!((tokens.len(), reason), (1, Some(FinishReason::Cancelled)));
    run(&mut scheduler, &mut events);
    assert_eq!(
        output(&events, second).0.len(),
        3,
        "the one that waited got its turn"
    );
}

#[test]
fn scoring_finds_exactly_the_changed_tokens() {
    let honest = request(long_output(&[4, 5, 6], 40), &[4, 5, 6], 100);
    let (mut tokens, _) = alone(&honest);
    let score = |output: &[u32]| {
        let (mut scheduler, mut events) = (scheduler(1), Vec::new());
        let task = Score {
            id: 1,
            task: honest.task.clone(),
            output: output.to_vec(),
        };
        scheduler.score(task, &mut |event| events.push(event));
        run(&mut scheduler, &mut events);
        match events.as_slice() {
            [Event::Scored(scored)] => scored.clone(),
            other => panic!("{other:?}"),
        }
    };
    let clean = score(&tokens);
    assert_eq!(
        (clean.positions as usize, clean.mismatches.len()),
        (tokens.len(), 0)
    );
    let computed = clean.log_probabilities.surprises();
    assert_eq!(computed.len(), tokens.len());
    for (position, surprise) in computed.enumerate() {
        let context = [honest.task.input.as_slice(), &tokens[..position]].concat();
        let logits = logits(&context);
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let expected = sum.ln() - f64::from(logits[tokens[position] as usize]);
        let rounding = LogProbabilities::rounding(clean.log_probabilities.0[position]);
        let off = (surprise - expected).abs();
        assert!(
            off <= rounding + 1e-6,
            "{position}: {surprise} for {expected}"
        );
    }
    let last = tokens.len() - 1;
    let own = tokens[last];
    tokens[last] = (own + 1) % VOCABULARY as u32;
    let changed = score(&tokens);
    assert_eq!(changed.mismatches.len(), 1);
    assert_eq!(
        (
            changed.mismatches[0].position as usize,
            changed.mismatches[0].token
        ),
        (last, own)
    );
    let (before, of_changed) = (&clean.log_probabilities.0, &changed.log_probabilities.0);
    assert_eq!(before[..last], of_changed[..last]);
    assert_ne!(before[last], of_changed[last]);
}

#[test]
fn bad_requests_are_answered_and_leave_nothing_behind() {
    let good = request(1, &[1], 5);
    let bad = [
        request(1, &[], 5),
        request(1, &[VOCABULARY as u32], 5),
        request(1, &[1; 301], 5),
        with(good.clone(), |it| it.sampling.temperature = f32::NAN),
    ];
    for request in bad {
        let (mut scheduler, mut events) = (scheduler(1), Vec::new());
        scheduler.generate(&request, &mut |event| events.push(event));
        assert!(
            matches!(&events[..], [Event::Failed { id: Some(1), error }] if error.code == FailureCode::BadRequest),
            "{events:?}"
        );
        assert!(scheduler.is_idle());
    }
}

#[test]
fn a_common_beginning_is_computed_once() {
    let model = Arithmetic::new(40);
    let fed = Rc::clone(&model.fed);
    let mut scheduler = over(model, 2);
    let prompt: Vec<u32> = (0..100).map(|index| index % 40 + 1).collect();
    let mut cost = |id: u64, prompt: &[u32]| {
        let (mut events, before) = (Vec::new(), fed.get());
        scheduler.generate(&request(id, prompt, 1), &mut |event| events.push(event));
        run(&mut scheduler, &mut events);
        assert_eq!(output(&events, id), alone(&request(id, prompt, 1)));
        fed.get() - before
    };
    assert_eq!(cost(1, &prompt), 100);
    assert_eq!(cost(2, &prompt), 4, "three full blocks are known");
    assert_eq!(
        cost(3, &prompt[..96]),
        32,
        "the last token's logits are wanted"
    );
    let mut other = prompt.clone();
    other[40] = 0;
    assert_eq!(cost(4, &other), 68, "the first block is the same");
}

#[test]
fn a_long_prompt_neither_holds_up_a_stream_nor_a_short_one() {
    let mut scheduler = scheduler(3);
    let mut events = Vec::new();
    let stream = long_output(&[1], 60);
    scheduler.generate(&request(stream, &[1], 60), &mut |event| events.push(event));
    scheduler.step(&mut |event| events.push(event));
    scheduler.generate(&request(501, &[2; 290], 1), &mut |event| events.push(event));
    scheduler.generate(&request(502, &[3; 20], 1), &mut |event| events.push(event));
    let mut steps = 0;
    while output(&events, 501).1.is_none() {
        let begun = NOW.get();
        scheduler.step(&mut |event| events.push(event));
        steps += 1;
        assert_eq!(output(&events, stream).0.len(), steps + 1, "a token a step");
        assert!(NOW.get() <= begun + Duration::from_millis(60));
        if steps == 2 {
            assert!(output(&events, 502).1.is_some(), "the short one is done");
        }
    }
    assert!((6..=12).contains(&steps), "{steps}");
}

/// For each request, how many tokens it was told to have gone through, and when.
fn prefilled(scheduler: &mut Scheduler<Arithmetic>) -> HashMap<u64, Vec<(Duration, u32)>> {
    let mut told: HashMap<u64, Vec<_>> = HashMap::new();
    for _ in 0..10_000 {
        let mut events = Vec::new();
        scheduler.step(&mut |event| events.push(event));
        for event in events {
            if let Event::Prefilled { id, tokens } = event {
                told.entry(id).or_default().push((NOW.get(), tokens));
            }
        }
        if scheduler.is_idle() {
            break;
        }
    }
    told
}

#[test]
fn a_long_prompt_tells_how_far_it_is_and_a_known_beginning_counts() {
    let mut scheduler = over(Arithmetic::new(80), 3);
    let ignore = &mut |_| ();
    let long: Vec<u32> = (0..290).map(|index| index % 40 + 1).collect();
    scheduler.generate(&request(900, &long, 1), ignore);
    let told = prefilled(&mut scheduler).remove(&900).unwrap();
    assert!(told.iter().all(|(_, tokens)| *tokens < 290), "{told:?}");

    let stream = long_output(&[1], 60);
    scheduler.generate(&request(stream, &[1], 60), ignore);
    scheduler.step(ignore);
    let known: Vec<u32> = [&long[..96], &[7; 190]].concat();
    scheduler.generate(&request(901, &known, 1), ignore);
    scheduler.generate(&request(902, &[8; 290], 1), ignore);
    let begun = NOW.get();
    let told = prefilled(&mut scheduler);
    assert!(told[&901][0].1 > 96, "{told:?}");
    assert!(!told.contains_key(&stream), "it is written already");
    for told in told.values() {
        assert!(
            told[0].0.saturating_sub(begun) >= PREFILLED_EVERY,
            "{told:?}"
        );
        for pair in told.windows(2) {
            assert!(pair[0].1 < pair[1].1, "{told:?}");
            assert!(
                pair[1].0.saturating_sub(pair[0].0) >= PREFILLED_EVERY,
                "{told:?}"
            );
        }
    }
}

#[test]
fn a_prompt_that_is_gone_through_again_is_no_progress() {
    // Room for one and a bit: the second gives way while it is fed.
    let model = Arithmetic::new(10);
    let fed = Rc::clone(&model.fed);
    let mut scheduler = over(model, 2);
    let ignore = &mut |_| ();
    scheduler.generate(&request(800, &[1; 250], 1), ignore);
    scheduler.generate(&request(801, &[2; 250], 1), ignore);
    let told = prefilled(&mut scheduler);
    assert!(fed.get() > 500, "{}", fed.get());
    for pair in told[&801].windows(2) {
        assert!(pair[0].1 < pair[1].1, "{told:?}");
    }
}

/// As the child does it, on this test's own clock.
#[test]
fn the_device_rests_for_its_share_and_no_stream_stalls() {
    let id = long_output(&[1], 60);
    for percent in [10, 25, 50, 80, 100] {
        let (mut scheduler, mut duty) = (scheduler(2), Duty::default());
        duty.set(percent);
        scheduler.keep_steps_below(duty.longest_step());
        let mut silent = |_| ();
        scheduler.generate(&request(id, &[1], 60), &mut silent);
        let prompt: Vec<u32> = (0..250).map(|at| at % 49 + 1).collect();
        scheduler.generate(&request(id + 1, &prompt, 20), &mut silent);
        let (begun, mut worked, mut said) = (now(), Duration::ZERO, now());
        while !scheduler.is_idle() {
            let (step, mut streams) = (now(), false);
            scheduler.step(&mut |event| {
                streams |= matches!(event, Event::Tokens { id: of, .. } if of == id);
            });
            if streams {
                assert!(now() - said <= LONGEST_GAP, "{percent} %");
                said = now();
            }
            duty.worked(step, now());
            worked += now() - step;
            NOW.set(NOW.get() + duty.rest(now()).unwrap_or_default());
        }
        let share = worked.as_secs_f64() / (now() - begun).as_secs_f64() * 100.0;
        let wanted = f64::from(percent);
        assert!(
            (wanted - 1.0..=wanted + 1.0).contains(&share),
            "{share} of {percent} %"
        );
    }
}

#[test]
fn a_failed_pass_fails_all_and_the_next_request_starts_afresh() {
    let model = Arithmetic::new(20);
    let (fails, fed) = (Rc::clone(&model.fails), Rc::clone(&model.fed));
    let mut scheduler = over(model, 2);
    let mut events = Vec::new();
    let prompt = [7; 64];
    scheduler.generate(&request(1, &prompt, 50), &mut |event| events.push(event));
    scheduler.step(&mut |event| events.push(event));
    fails.set(true);
    scheduler.step(&mut |event| events.push(event));
    assert!(
        matches!(events.last(), Some(Event::Failed { id: Some(1), .. })),
        "{events:?}"
    );
    assert!(scheduler.is_idle());
    assert_eq!(scheduler.stats().kv_bytes, 0);
    fails.set(false);
    let before = fed.get();
    scheduler.generate(&request(2, &prompt, 1), &mut |event| events.push(event));
    run(&mut scheduler, &mut events);
    assert_eq!(
        fed.get() - before,
        64,
        "what a lost device held is not read"
    );
}

/// Beside it others go on as if nothing had been.
#[test]
fn undefined_logits_fail_the_sequence_by_the_models_name() {
    let other = alone(&request(7, &[2], 30));
    for logprobs in [None, Some(3)] {
        let model = Arithmetic::new(40);
        model.undefined_from.set(20);
        let mut scheduler = over(model, 2);
        let mut events = Vec::new();
        let id = long_output(&[1, 2, 3], 40) + 1000;
        let long = Generate {
            id,
            ..with(request(id - 1000, &[1, 2, 3], 40), |it| {
                it.logprobs = logprobs;
            })
        };
        let short = request(7, &[2], 15);
        for request in [&long, &short] {
            scheduler.generate(request, &mut |event| events.push(event));
        }
        run(&mut scheduler, &mut events);
        let (tokens, reason) = output(&events, id);
        assert_eq!((tokens.len(), reason), (18, None));
        let failures: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Failed { id, error } => Some((*id, error)),
                _ => None,
            })
            .collect();
        let [(failed, error)] = failures.as_slice() else {
            panic!("{failures:?}");
        };
        assert_eq!((*failed, error.code), (Some(id), FailureCode::BadModel));
        assert!(error.message.contains("`Arithmetic`"), "{error}");
        let (tokens, reason) = output(&events, 7);
        assert_eq!(tokens, other.0[..tokens.len()]);
        assert!(reason.is_some());
        assert_eq!(scheduler.stats().kv_bytes, 0);
        assert!(scheduler.failure().is_none(), "the device is not to blame");
    }
}

#[test]
fn an_output_of_undefined_logits_is_not_scored() {
    let model = Arithmetic::new(40);
    let undefined_from = Rc::clone(&model.undefined_from);
    let mut scheduler = over(model, 1);
    let mut score = |id| {
        let mut events = Vec::new();
        let task = Score {
            id,
            task: with(request(1, &[1, 2, 3], 40), |it| {
                it.sampling = Sampling::GREEDY;
            })
            .task,
            // What a choice among undefined logits was: the lowest id, again and again.
            output: vec![END; 40],
        };
        scheduler.score(task, &mut |event| events.push(event));
        run(&mut scheduler, &mut events);
        events
    };
    assert!(matches!(score(1).as_slice(), [Event::Scored(_)]));
    for from in [0, 2, 30] {
        undefined_from.set(from);
        let events = score(2);
        assert!(
            matches!(&events[..], [Event::Failed { id: Some(2), error }] if error.code == FailureCode::BadModel),
            "{events:?}"
        );
    }
}

/// 100,000 decode steps with jobs coming and going: every block comes back.
#[test]
fn nothing_leaks_over_many_steps() {
    let mut scheduler = over(Arithmetic::new(24), 8);
    let mut steps = 0;
    let mut id = 0;
    while steps < 100_000 {
        while scheduler.stats().waiting < 2 {
            id += 1;
            let prompt: Vec<u32> = (0..=id % 70).map(|index| index as u32 % 9 + 1).collect();
            scheduler.generate(&request(id, &prompt, (id % 97) as u32 + 1), &mut |_| {});
        }
        if id % 5 == 0 {
            scheduler.cancel(id - 2);
        }
        scheduler.step(&mut |_| {});
        steps += scheduler.stats().running as usize;
    }
    run(&mut scheduler, &mut Vec::new());
    assert_eq!(scheduler.stats().kv_bytes, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_schedule_gives_each_sequence_its_own_output(
        slots in 1_usize..6,
        blocks in 10_usize..40,
        requests in proptest::collection::vec((1_usize..150, 1_u32..40, 0_usize..10), 1..12),
    ) {
        let mut scheduler = over(Arithmetic::new(blocks), slots);
        let mut events = Vec::new();
        let mut expected = HashMap::new();
        for (id, (prompt, max_tokens, steps)) in requests.into_iter().enumerate() {
            let prompt: Vec<u32> = (0..prompt).map(|index| (index * 7 + id % 3) as u32 % VOCABULARY as u32).collect();
            let request = request(id as u64, &prompt, max_tokens);
            expected.insert(id as u64, alone(&request));
            scheduler.generate(&request, &mut |event| events.push(event));
            for _ in 0..steps {
                scheduler.step(&mut |event| events.push(event));
                prop_assert!(scheduler.stats().running as usize <= slots);
            }
        }
        run(&mut scheduler, &mut events);
        for (id, output_alone) in expected {
            prop_assert_eq!(output(&events, id), output_alone);
        }
        prop_assert_eq!(scheduler.stats().kv_bytes, 0);
    }
}
