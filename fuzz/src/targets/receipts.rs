//! What is signed: ends of outputs, claims, commitments of references. And the ids in them.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use infera_protocol::audit::audit_commit_digest;
use infera_protocol::node_api::claim_digest;
use infera_protocol::{
    AuditId, Finish, FinishReason, Hash, JobId, JobSeed, ModelId, NodeId, NodeKey, Signature,
    Vector,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bytes::Bytes;

const REASONS: [FinishReason; 5] = [
    FinishReason::EndOfText,
    FinishReason::Stop,
    FinishReason::Length,
    FinishReason::Cancelled,
    FinishReason::Embedded,
];

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    match bytes.up_to(7) {
        0 => finish(&mut bytes),
        1 => claims(&mut bytes),
        2 => signature(&mut bytes),
        choice => ids(choice, &String::from_utf8_lossy(bytes.rest())),
    }
}

/// A signed end holds for what was signed, and for nothing else.
fn finish(bytes: &mut Bytes<'_>) {
    let key = NodeKey::from_secret(&[bytes.u8(); 32]);
    let job = JobId::from_bytes(bytes.array());
    let attempt = bytes.u32();
    let signed = if bytes.bool() {
        let vectors = vec![Vector(vec![bytes.f32(), bytes.f32()])];
        Finish::sign_vectors(&key, job, attempt, vectors, bytes.u32())
    } else {
        let reason = bytes.of(&REASONS);
        let head = Hash::from_bytes(bytes.array());
        Finish::sign(&key, job, attempt, reason, bytes.u32(), head, (1, 2))
    };
    assert_eq!(signed.verify(&key.id(), job, attempt), Ok(()));
    let mut other = signed.clone();
    let (mut other_job, mut other_attempt) = (job, attempt);
    match bytes.up_to(4) {
        0 => other.reason = bytes.of(&REASONS),
        1 => other.end = bytes.u32(),
        2 => other.head = Hash::from_bytes(bytes.array()),
        3 => other_job = JobId::from_bytes(bytes.array()),
        _ => other_attempt = bytes.u32(),
    }
    let same = (other.reason, other.end, other.head) == (signed.reason, signed.end, signed.head)
        && (other_job, other_attempt) == (job, attempt);
    let verified = other.verify(&key.id(), other_job, other_attempt).is_ok();
    assert_eq!(verified, same);
}

fn claims(bytes: &mut Bytes<'_>) {
    let key = NodeKey::from_secret(&bytes.array());
    let (job, nonce) = (
        JobId::from_bytes(bytes.array()),
        Hash::from_bytes(bytes.array()),
    );
    let attempt = bytes.u32();
    let claim = claim_digest(job, attempt, &key.id(), &nonce);
    let commit = audit_commit_digest(AuditId::from_bytes(*job.as_bytes()), nonce);
    assert_ne!(claim, commit);
    let signature = key.sign(claim);
    assert_eq!(signature.verify(&key.id(), claim), Ok(()));
    assert!(signature.verify(&key.id(), commit).is_err());
    let other = NodeId::from_bytes(bytes.array());
    assert_eq!(
        signature.verify(&other, claim).is_ok(),
        other == key.id(),
        "another key signs the same"
    );
}

/// Only one signature of a message verifies with a key: a changed one never does.
fn signature(bytes: &mut Bytes<'_>) {
    let key = NodeKey::from_secret(&[3; 32]);
    let digest = Hash::from_bytes(bytes.array());
    let signature = key.sign(digest);
    let mut changed = signature.to_bytes();
    for _ in 0..=bytes.up_to(2) {
        changed[usize::from(bytes.u8()) % 64] ^= bytes.u8();
    }
    let text = serde_json::Value::from(hex::encode(changed));
    let Ok(other) = serde_json::from_value::<Signature>(text) else {
        panic!("128 digits are a signature");
    };
    assert_eq!(
        other.verify(&key.id(), digest).is_ok(),
        changed == signature.to_bytes()
    );
    // Any bytes as key.
    let node = NodeId::from_bytes(bytes.array());
    let _ = other.verify(&node, digest);
}

fn ids(choice: usize, text: &str) {
    match choice {
        3 => id::<JobId>(text, 32),
        4 => id::<NodeId>(text, 64),
        5 => id::<ModelId>(text, 64),
        6 => id::<AuditId>(text, 32),
        _ => id::<JobSeed>(text, 64),
    }
}

/// An id that is taken is written as it was, in lower case; one that is not is refused in short.
fn id<T>(text: &str, digits: usize)
where
    T: FromStr<Err: Display> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let json = serde_json::Value::from(text);
    let read = serde_json::from_value::<T>(json);
    match text.parse::<T>() {
        Ok(id) => {
            assert_eq!(text.len(), digits);
            assert_eq!(id.to_string(), text.to_ascii_lowercase());
            assert!(read.is_ok_and(|read| read == id));
            let _ = format!("{id:?}");
        }
        Err(error) => {
            assert!(read.is_err());
            assert!(error.to_string().len() < 500);
        }
    }
}
