//! Reference nodes that do not do their work, and how it comes out.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use infera_balancer::{Config, NodeRow, list_nodes, trial_balance};
use infera_protocol::digest::Digest;
use infera_protocol::node_api::{NodeEvent, RefusalCode};
use infera_protocol::{AuditReport, AuditSpec, Hash, LogProbabilities, Mismatch, NodeId};
use infera_testing::{Network, SimNode, Work, code, head, honest_report, key, patient, until};
use serde_json::{Value, json};

/// How a reference saves itself the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Laziness {
    /// Finds nothing wrong, with probabilities as they might be.
    Invents,
    /// Finds nothing wrong, with what it computed once. No two have the same of it, also where
    /// both began with the same audit: two that agree verify, whatever they agree on.
    Copies,
    /// Computes every other position.
    Half,
    /// Computes all, and never says that anything is wrong.
    Overlooks,
}

/// What a lazy reference answers.
fn lazy(laziness: Laziness, number: u8) -> impl FnMut(&AuditSpec) -> AuditReport + Send + 'static {
    let mut once: Option<LogProbabilities> = None;
    move |task| {
        let honest = honest_report(task);
        let positions = task.output.len();
        let log_probabilities = match laziness {
            Laziness::Overlooks => honest.log_probabilities.clone(),
            Laziness::Invents => (0..positions)
                .map(|position| {
                    let drawn = Digest::new("test/invented/v1")
                        .fixed(task.audit.as_bytes())
                        .u8(number)
                        .u32(position as u32)
                        .finish();
                    // Nearly certain of most, as the simulated model is.
                    let drawn = drawn.as_bytes();
                    let open = f64::from(drawn[0]) / 256.0;
                    -(if drawn[1] < 192 { 0.02 * open } else { open })
                })
                .collect(),
            Laziness::Copies => {
                let once = once.get_or_insert_with(|| honest.log_probabilities.clone());
                let known = once.0.iter().copied().cycle().skip(number.into());
                LogProbabilities(known.take(positions).collect())
            }
            Laziness::Half => {
                let known = &honest.log_probabilities.0;
                let values = (0..positions).map(|at| {
                    if at % 2 == 0 {
                        known[at]
                    } else {
                        known[at - 1].midpoint(known[(at + 1) % positions])
                    }
                });
                LogProbabilities(values.collect())
            }
        };
        let mismatches = match laziness {
            Laziness::Half => {
                let found = honest.mismatches.iter().copied();
                found.filter(|one| one.position % 2 == 0).collect()
            }
            _ => Vec::new(),
        };
        AuditReport {
            mismatches,
            log_probabilities,
            ..honest
        }
    }
}

async fn join_lazy(network: &Network, number: u8, laziness: Laziness) -> NodeId {
    let node = SimNode::reference(network, number).await;
    let id = node.id;
    node.spawn_reference_as(lazy(laziness, number));
    id
}

async fn honest_references(network: &Network, numbers: &[u8]) {
    for number in numbers {
        SimNode::reference(network, *number).await.spawn_reference();
    }
}

/// Asks until a node is no reference any more, in fewer than so many jobs. All are verified.
async fn verified_until_the_role_is_lost(network: &Network, id: NodeId, most: usize) {
    let mut jobs = 0;
    while row(network, id).await.reference {
        jobs += 1;
        assert!(jobs < most, "it is still a reference");
        let job = ask(network).await;
        assert_eq!(network.settled(&job).await["verdict"], "verified");
    }
}

async fn row(network: &Network, node: NodeId) -> NodeRow {
    let rows = list_nodes(&network.database).await.unwrap();
    rows.into_iter().find(|row| row.node == node).unwrap()
}

/// Asks once, and gives the job's id.
async fn ask(network: &Network) -> String {
    let (status, answer) = network.chat(&json!({})).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    answer["infera"]["job_id"].as_str().unwrap().to_owned()
}

async fn reported(network: &Network, job: &str, count: usize) -> Value {
    until("the reports", async || {
        let receipt = network.get(&format!("/v1/jobs/{job}/receipt")).await;
        let references = receipt["references"].as_array().unwrap();
        let reported = references.iter().filter(|one| one["step"] == "reported");
        (reported.count() == count).then_some(receipt)
    })
    .await
}

/// Every answer is audited, and every audit brings a canary with it.
fn watchful() -> Config {
    Config {
        canary_rate: 0.5,
        ..patient()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn references_that_computed_nothing_verify_nothing() {
    let network = Network::start(patient()).await;
    let lazy = [
        join_lazy(&network, 201, Laziness::Invents).await,
        join_lazy(&network, 202, Laziness::Invents).await,
    ];
    SimNode::worker(&network, 1).await.spawn_worker(Work::cheat);
    let job = ask(&network).await;
    let receipt = reported(&network, &job, 2).await;
    assert_eq!(receipt["verdict"], "pending", "they agree on nothing");
    honest_references(&network, &[203, 204]).await;
    let receipt = network.settled(&job).await;
    assert_eq!(receipt["verdict"], "failed");
    let references = receipt["references"].as_array().unwrap();
    assert_eq!(references.len(), 4);
    for reference in references {
        let fault = &reference["figures"]["fault"];
        if lazy
            .iter()
            .any(|node| reference["node"] == node.to_string())
        {
            assert_eq!(reference["pay"], 0);
            assert!(fault.as_str().unwrap().contains("log-probabilities"));
        } else {
            assert!(reference["pay"].as_i64().unwrap() > 0);
            assert!(fault.is_null());
        }
    }
    let balances = network.balances().await;
    for node in lazy {
        assert_eq!(row(&network, node).await.outvoted, 1);
        assert!(!balances.contains_key(&format!("node:{node}:held")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_the_others_contradict_again_and_again_loses_its_role() {
    let network = Network::start(Config {
        most_outvoted: 2,
        ..patient()
    })
    .await;
    let id = join_lazy(&network, 201, Laziness::Half).await;
    honest_references(&network, &[202, 203]).await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    verified_until_the_role_is_lost(&network, id, 40).await;
    let row = row(&network, id).await;
    assert_eq!(row.outvoted, 2);
    assert_eq!(
        row.role_lost.unwrap(),
        "The other reference nodes contradicted it 2 times."
    );
    let job = ask(&network).await;
    let receipt = network.settled(&job).await;
    let asked = receipt["references"].as_array().unwrap();
    assert_eq!(asked.len(), 2, "nobody asks it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_references_meet_every_canary_and_are_paid_for_it() {
    let network = Network::start(watchful()).await;
    let honest: Vec<_> = (201..=206).collect();
    honest_references(&network, &honest).await;
    for number in 1..=2 {
        SimNode::worker(&network, number)
            .await
            .spawn_worker(Work::honest);
    }
    // There are canaries of both kinds, and enough to see that none is missed.
    let mut jobs = 0;
    loop {
        let (changed, all): (i64, i64) =
            sqlx::query_as("SELECT count(changed), count(*) FROM canaries")
                .fetch_one(network.database.read())
                .await
                .unwrap();
        if changed > 3 && all - changed > 0 {
            break;
        }
        jobs += 1;
        assert!(jobs < 300, "{changed} of {all} canaries are changed");
        let job = ask(&network).await;
        network.settled(&job).await;
    }
    until("the canaries to be met", async || {
        let rows = list_nodes(&network.database).await.unwrap();
        let met: i64 = rows.iter().map(|row| row.canaries_met).sum();
        (met > 4).then_some(())
    })
    .await;
    let balances = network.balances().await;
    let mut confirmed = 0;
    for row in list_nodes(&network.database).await.unwrap() {
        assert_eq!((row.canaries_missed, row.outvoted), (0, 0), "{row:?}");
        assert_eq!(row.role_lost, None);
        let balance = |kind| {
            let account = format!("node:{}:{kind}", row.node);
            balances.get(&account).copied().unwrap_or(0)
        };
        if row.canaries_met > 0 {
            confirmed += balance("confirmed");
        } else if row.reference {
            assert_eq!(balance("confirmed"), 0, "held until a canary is met");
        }
    }
    assert!(confirmed > 0);
    // Nothing that a client wrote is among it.
    let prompts: Vec<Vec<u8>> = sqlx::query_scalar("SELECT prompt FROM canary_stock")
        .fetch_all(network.database.read())
        .await
        .unwrap();
    assert!(!prompts.is_empty());
    let own = &network.config.canary_prompts;
    for prompt in prompts {
        let ids: Vec<u32> = prompt
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u32::from_le_bytes(*bytes))
            .collect();
        let text = head().tokenizer().decode(&[], &ids);
        assert!(own.iter().any(|one| text.contains(one)), "{text}");
    }
    let spent = -balances.get("client:#canaries").copied().unwrap_or(0);
    assert_eq!(spent, 0, "the network pays for its own prompts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_misses_a_canary_loses_its_role_and_what_was_held() {
    let network = Network::start(watchful()).await;
    // Nobody contradicts it: what clients get is right.
    let id = join_lazy(&network, 200, Laziness::Overlooks).await;
    honest_references(&network, &[201, 202, 203, 204]).await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let held = async || {
        let balances = network.balances().await;
        let held = balances.get(&format!("node:{id}:held"));
        held.copied().unwrap_or(0)
    };
    let mut jobs = 0;
    let mut last = 0;
    while row(&network, id).await.reference {
        last = held().await;
        jobs += 1;
        assert!(jobs < 300, "it has missed no canary");
        let job = ask(&network).await;
        network.settled(&job).await;
    }
    let lost = row(&network, id).await;
    assert_eq!(lost.canaries_missed, 1);
    assert_eq!(
        lost.role_lost.as_deref(),
        Some("It missed a canary: it did not find the wrong token that was put into an output.")
    );
    assert_eq!(held().await, 0, "{last} were held before");
    until("the end of its session", async || {
        let again = SimNode::join(&network, 200, 4, infera_testing::hardware()).await;
        (!again.session.reference).then_some(())
    })
    .await;
    let worker = SimNode::join(&network, 200, 4, infera_testing::hardware()).await;
    let points = worker.points().await;
    assert_eq!(points.pending, 0);
    assert!(points.forfeited >= 0);
    // The operator may give it another chance.
    network.trust(id).await;
    assert_eq!(row(&network, id).await.role_lost, None);
}

/// A spec's fields, with all of a value that does not depend on what was asked.
fn shape(spec: &AuditSpec) -> Vec<String> {
    let shown = serde_json::to_value(spec).unwrap();
    let fields = shown.as_object().unwrap().iter();
    let mut fields: Vec<_> = fields
        .map(|(name, value)| match (name.as_str(), value) {
            ("model" | "version" | "deadline_ms", value) => format!("{name}: {value}"),
            (_, Value::String(text)) => format!("{name}: {} letters", text.len()),
            (_, Value::Array(_)) => format!("{name}: a list"),
            (_, Value::Object(fields)) => format!("{name}: {} fields", fields.len()),
            _ => name.clone(),
        })
        .collect();
    fields.sort();
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_looks_like_any_other_audit() {
    let network = Network::start(watchful()).await;
    let seen: Arc<Mutex<Vec<AuditSpec>>> = Arc::default();
    for number in 201..=204 {
        let seen = Arc::clone(&seen);
        let curious = SimNode::reference(&network, number).await;
        curious.spawn_reference_as(move |task| {
            seen.lock().unwrap().push(task.clone());
            honest_report(task)
        });
    }
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let mut shapes: HashMap<bool, HashSet<Vec<String>>> = HashMap::new();
    let mut jobs = 0;
    while shapes.len() < 2 {
        jobs += 1;
        assert!(jobs < 200, "no canary ever came");
        let job = ask(&network).await;
        network.settled(&job).await;
        let tasks = std::mem::take(&mut *seen.lock().unwrap());
        for task in tasks {
            let canary: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM canaries JOIN audits USING (job)
                 WHERE audits.id = ?)",
            )
            .bind(task.audit.to_string())
            .fetch_one(network.database.read())
            .await
            .unwrap();
            shapes.entry(canary).or_default().insert(shape(&task));
        }
    }
    assert_eq!(shapes[&true].len(), 1);
    assert_eq!(shapes[&true], shapes[&false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pay_that_no_canary_can_confirm_is_confirmed_in_time() {
    let mut network = Network::start(Config {
        hold_without_canary: Duration::ZERO,
        ..patient()
    })
    .await;
    let references = network.references().await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let job = ask(&network).await;
    network.settled(&job).await;
    let account = |kind: &str| format!("node:{}:{kind}", references[0]);
    let held = network.balances().await[&account("held")];
    assert!(held > 0);
    // It looks when it starts, and every minute.
    tokio::time::sleep(Duration::from_millis(2)).await;
    network.kill();
    network.revive().await;
    until("the pay to be confirmed", async || {
        let balances = network.balances().await;
        (balances[&account("held")] == 0).then_some(())
    })
    .await;
    assert_eq!(network.balances().await[&account("confirmed")], held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_without_log_probabilities_is_refused() {
    let network = Network::start(patient()).await;
    let mut one = SimNode::reference(&network, 201).await;
    SimNode::reference(&network, 202).await.spawn_reference();
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    ask(&network).await;
    let event = one
        .event_where(|event| matches!(event, NodeEvent::Audit { .. }))
        .await;
    let NodeEvent::Audit { audit, .. } = event else {
        panic!("an audit")
    };
    let task = one.accept(audit).await.unwrap();
    let mut report = honest_report(&task);
    report.log_probabilities = LogProbabilities::default();
    let salt = Hash::from_bytes([1; 32]);
    one.commit(&report, &salt).await.unwrap();
    one.event_where(|event| *event == NodeEvent::Reveal { audit })
        .await;
    assert_eq!(
        code(one.reveal(&report, &salt).await),
        RefusalCode::Malformed
    );
}

/// What came of some jobs, about half of them answered with rubbish.
#[derive(Debug, Default)]
struct Outcome {
    rubbish: usize,
    rubbish_verified: usize,
    honest_failed: usize,
    unsettled: usize,
    /// For each lazy reference, after how many jobs it lost its role, and why.
    lost_after: Vec<Option<(usize, String)>>,
    honest_lost: usize,
}

/// Asks at least `jobs.start()` times, and then until there was rubbish and every lazy reference
/// has lost its role, at most `jobs.end()` times.
async fn play(
    laziness: Laziness,
    lazy_ones: u8,
    honest_ones: u8,
    jobs: RangeInclusive<usize>,
    config: Config,
) -> Outcome {
    let network = Network::start(Config {
        // The cheat goes on.
        ban: Duration::ZERO,
        // Alone, lazy references never decide.
        keep_text: Duration::from_millis(if honest_ones == 0 { 300 } else { 15_000 }),
        ..config
    })
    .await;
    let mut lazy = Vec::new();
    for number in 0..lazy_ones {
        lazy.push(join_lazy(&network, 200 + number, laziness).await);
    }
    let honest: Vec<_> = (100..100 + honest_ones).collect();
    honest_references(&network, &honest).await;
    let cheat = key(2).id().to_string();
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    SimNode::worker(&network, 2).await.spawn_worker(Work::cheat);
    let mut outcome = Outcome {
        lost_after: vec![None; lazy.len()],
        ..Outcome::default()
    };
    for number in 1..=*jobs.end() {
        let shown = outcome.rubbish > 0 && outcome.lost_after.iter().all(Option::is_some);
        if shown && number > *jobs.start() {
            break;
        }
        let job = ask(&network).await;
        let receipt = network.settled(&job).await;
        let rubbish = receipt["attempts"][0]["node"] == cheat;
        outcome.rubbish += usize::from(rubbish);
        match receipt["verdict"].as_str().unwrap() {
            "verified" => outcome.rubbish_verified += usize::from(rubbish),
            "failed" => outcome.honest_failed += usize::from(!rubbish),
            _ => outcome.unsettled += 1,
        }
        for (at, node) in lazy.iter().enumerate() {
            let row = row(&network, *node).await;
            if outcome.lost_after[at].is_none()
                && let Some(why) = row.role_lost
            {
                outcome.lost_after[at] = Some((number, why));
            }
        }
    }
    for number in honest {
        let row = row(&network, key(number).id()).await;
        outcome.honest_lost += usize::from(row.role_lost.is_some());
    }
    assert_eq!(trial_balance(&network.database).await.unwrap().sum, 0);
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn lazy_references_verify_no_rubbish_and_honest_ones_keep_their_role() {
    for laziness in [Laziness::Invents, Laziness::Copies, Laziness::Half] {
        let outcome = play(laziness, 2, 3, 12..=120, watchful()).await;
        assert!(outcome.rubbish > 0, "{laziness:?}: {outcome:?}");
        assert_eq!(
            (
                outcome.rubbish_verified,
                outcome.honest_failed,
                outcome.honest_lost
            ),
            (0, 0, 0),
            "{laziness:?}: {outcome:?}"
        );
        assert!(
            outcome.lost_after.iter().all(Option::is_some),
            "{laziness:?}: {outcome:?}"
        );
    }
}

/// The figures of `docs/verification.md`: `cargo nextest run -p infera-balancer --run-ignored only
/// --no-capture figures_of_lazy_references`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, for minutes"]
async fn figures_of_lazy_references() {
    let default = Config {
        canary_rate: Config::default().canary_rate,
        ..patient()
    };
    let canaries_alone = Config {
        most_outvoted: u32::MAX,
        ..default.clone()
    };
    println!(
        "| references | pool | jobs | rubbish answers | verified | honest failed | undecided | role lost after jobs | honest roles lost |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for laziness in [
        Laziness::Invents,
        Laziness::Copies,
        Laziness::Half,
        Laziness::Overlooks,
    ] {
        for (name, lazy_ones, honest_ones, config) in [
            ("2 lazy, 4 honest", 2, 4, &default),
            ("2 lazy, 4 honest; canaries alone", 2, 4, &canaries_alone),
            ("2 lazy alone", 2, 0, &default),
        ] {
            let outcome = play(laziness, lazy_ones, honest_ones, 100..=100, config.clone()).await;
            let lost: Vec<_> = outcome
                .lost_after
                .iter()
                .map(|lost| match lost {
                    Some((jobs, why)) if why.contains("canary") => format!("{jobs} (canary)"),
                    Some((jobs, _)) => format!("{jobs} (contradicted)"),
                    None => "not".to_owned(),
                })
                .collect();
            println!(
                "| {laziness:?} | {name} | 100 | {} | {} | {} | {} | {} | {} |",
                outcome.rubbish,
                outcome.rubbish_verified,
                outcome.honest_failed,
                outcome.unsettled,
                lost.join(", "),
                outcome.honest_lost
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_cries_wrong_at_everything_loses_its_role() {
    let network = Network::start(watchful()).await;
    honest_references(&network, &[201, 202, 203]).await;
    let crier = SimNode::reference(&network, 200).await;
    let id = crier.id;
    crier.spawn_reference_with(|report| {
        if report.mismatches.iter().all(|one| one.position > 0) {
            report.mismatches.insert(
                0,
                Mismatch {
                    position: 0,
                    token: 0,
                    margin: 9.0,
                },
            );
        }
    });
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    verified_until_the_role_is_lost(&network, id, 60).await;
    assert!(row(&network, id).await.role_lost.is_some());
}
