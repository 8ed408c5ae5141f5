//! Every message between node and balancer, from JSON.

use std::fmt::Debug;

use infera_protocol::audit::audit_commit_digest;
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Challenge, ChallengeRequest, Claim, Decline, ModelOffer, NodeEvent,
    NodeState, Offer, Points, Refusal, Release, Session, SessionRequest, WorkRecord, claim_digest,
    session_digest, work_is_done,
};
use infera_protocol::output::OutputAck;
use infera_protocol::requirements::{Hardware, Policy, Requirement, check, met};
use infera_protocol::vector::vectors_hash;
use infera_protocol::{
    AuditReport, AuditSpec, ChunkChain, Finish, JobId, JobSpec, NodeId, OutputBatch, Sampling,
    Vector, Work, job_seed,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn run(data: &[u8]) {
    let Some((kind, json)) = data.split_first() else {
        return;
    };
    match kind % 24 {
        0 => drop(read::<ChallengeRequest>(json)),
        1 => drop(read::<Challenge>(json)),
        2 => session_request(json),
        3 => session(json),
        4 => drop(read::<NodeState>(json)),
        5 => drop(read::<NodeEvent>(json)),
        6 => drop(read::<Vec<ModelOffer>>(json)),
        7 => policy_and_hardware(json),
        8 => claim(json),
        9 => job_spec(json),
        10 => output(json),
        11 => drop(read::<OutputAck>(json)),
        12 => drop(read::<Release>(json)),
        13 => drop(read::<Decline>(json)),
        14 => audit_task(json),
        15 => audit_commit(json),
        16 => audit_reveal(json),
        17 => drop(read::<Points>(json)),
        18 => drop(read::<Vec<WorkRecord>>(json)),
        19 => drop(read::<Refusal>(json).map(|refusal| refusal.code.status())),
        20 => finish(json),
        21 => drop(read::<Vec<Vector>>(json).map(|vectors| vectors_hash(&vectors))),
        22 => drop(read::<Offer>(json)),
        _ => drop(read::<Sampling>(json).map(|sampling| sampling.validate())),
    }
}

/// A message that is taken is the same when it is sent on.
pub(super) fn read<T: Serialize + DeserializeOwned + Debug>(json: &[u8]) -> Option<T> {
    let message: T = serde_json::from_slice(json).ok()?;
    let text = written(&message);
    match serde_json::from_str::<T>(&text) {
        Ok(again) => assert_eq!(written(&again), text),
        Err(error) => panic!("{message:?} was taken and is not read again: {error}"),
    }
    Some(message)
}

pub(super) fn written<T: Serialize + Debug>(message: &T) -> String {
    match serde_json::to_string(message) {
        Ok(text) => text,
        Err(error) => panic!("{message:?} was taken and is not written: {error}"),
    }
}

fn session_request(json: &[u8]) {
    if let Some(request) = read::<SessionRequest>(json) {
        let digest = session_digest(&request.node, &request.challenge);
        let _ = request.signature.verify(&request.node, digest);
        assert!(work_is_done(
            &request.node,
            &request.challenge,
            request.work,
            0
        ));
        rows(&Policy::public(), &request.hardware);
    }
}

fn session(json: &[u8]) {
    if let Some(session) = read::<Session>(json) {
        let _ = met(&session.requirements);
        sentences(&session.requirements);
        rows(&session.policy, &Hardware::default());
    }
}

fn policy_and_hardware(json: &[u8]) {
    if let Some((policy, hardware)) = read::<(Policy, Hardware)>(json) {
        rows(&policy, &hardware);
    }
}

fn rows(policy: &Policy, hardware: &Hardware) {
    let rows = check(policy, hardware);
    let _ = met(&rows);
    sentences(&rows);
}

fn sentences(rows: &[Requirement]) {
    for row in rows {
        let _ = format!("{row:?} {} {}", row.need, row.found);
    }
}

fn claim(json: &[u8]) {
    if let Some(claim) = read::<Claim>(json) {
        let node = NodeId::from_bytes([1; 32]);
        let job = JobId::from_bytes([2; 16]);
        let digest = claim_digest(job, claim.attempt, &node, &claim.nonce);
        assert!(claim.signature.verify(&node, digest).is_err());
    }
}

fn job_spec(json: &[u8]) {
    if let Some(spec) = read::<JobSpec>(json) {
        assert_eq!(spec.start() as usize, spec.output.len());
        let task = &spec.task;
        let _ = task.input_hash();
        match &task.work {
            Work::Write(writing) => {
                let entropy = writing.seed.as_bytes();
                let _ = job_seed(entropy, &task.model, &task.input, writing.sampling, 0);
                let checked = task.to_check(spec.start());
                assert_eq!(checked.writing().map(|to| to.seed), Some(writing.seed));
            }
            Work::Embed(embedding) => {
                if let Some(texts) = embedding.texts(&task.input) {
                    assert_eq!(texts.concat(), task.input);
                }
            }
        }
        if task.check(&spec.output).is_ok() {
            assert!(task.context_tokens() > 0 && !task.input.is_empty());
        }
    }
}

fn output(json: &[u8]) {
    if let Some(batch) = read::<OutputBatch>(json) {
        let job = JobId::from_bytes([2; 16]);
        // A balancer has checked that the batch follows on what it has.
        let mut chain = ChunkChain::new(job, batch.attempt, batch.position % 1000);
        let mut closed = 0;
        for token in &batch.tokens {
            closed += u32::from(chain.push(token.id).is_some());
        }
        closed += u32::from(chain.close_last().is_some());
        assert_eq!(chain.chunks(), closed);
        assert_eq!(chain.committed(), chain.position());
        if let Some(finish) = &batch.finish {
            let _ = finish.verify(&NodeId::from_bytes([1; 32]), job, batch.attempt);
        }
    }
}

fn audit_task(json: &[u8]) {
    if let Some(spec) = read::<AuditSpec>(json)
        && spec.is_sound()
    {
        assert_eq!(spec.output.is_empty(), spec.task.writing().is_none());
    }
}

fn audit_commit(json: &[u8]) {
    if let Some(commit) = read::<AuditCommit>(json) {
        let audit = infera_protocol::AuditId::from_bytes([3; 16]);
        let digest = audit_commit_digest(audit, commit.commitment);
        let node = NodeId::from_bytes([1; 32]);
        assert!(commit.signature.verify(&node, digest).is_err());
    }
}

fn audit_reveal(json: &[u8]) {
    if let Some(reveal) = read::<AuditReveal>(json) {
        let commitment = reveal.report.commitment(&reveal.salt);
        match serde_json::from_str::<AuditReport>(&written(&reveal.report)) {
            Ok(report) => assert_eq!(report.commitment(&reveal.salt), commitment),
            Err(error) => panic!("a report is not read again: {error}"),
        }
    }
}

fn finish(json: &[u8]) {
    if let Some(finish) = read::<Finish>(json) {
        let _ = vectors_hash(&finish.vectors);
        let node = NodeId::from_bytes([1; 32]);
        let _ = finish.verify(&node, JobId::from_bytes([2; 16]), 1);
    }
}
