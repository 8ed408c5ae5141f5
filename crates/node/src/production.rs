//! One attempt at a job, from its spec to its signed end: what was produced, what the balancer
//! has of it, and what is to be sent next. No I/O.

use std::time::Duration;

use infera_engine::message::{Command, Generate};
use infera_protocol::output::OutputAck;
use infera_protocol::{
    ChunkChain, ChunkCommit, Finish, FinishReason, JobSpec, NodeKey, OutputBatch, TokenOutput,
    VERSION, Vector,
};
use tokio::time::Instant;

use crate::store::{OpenAttempt, StoredChunk};

/// More are sent with the next batch, so that one after a long break stays small.
const MAX_BATCH_TOKENS: usize = 512;
/// Before the first token the balancer hears at most so often how far the prompt is.
const PREFILLED_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Production {
    spec: JobSpec,
    chain: ChunkChain,
    /// What this attempt has written.
    tokens: Vec<TokenOutput>,
    commits: Vec<ChunkCommit>,
    finish: Option<Finish>,
    /// How much of it is in the outbox or beyond.
    stored_chunks: usize,
    finish_stored: bool,
    /// The output position up to which the balancer has tokens.
    received: u32,
    acknowledged_chunks: u32,
    finish_acknowledged: bool,
    /// Tokens of prompt and earlier output that have gone through the engine, how many of them the
    /// balancer knows of, and when it was last told.
    prefilled: u32,
    prefilled_known: u32,
    prefilled_told: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

/// What goes into the outbox, and then to the balancer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shipment {
    pub(crate) chunks: Vec<StoredChunk>,
    pub(crate) finish: Option<Finish>,
    pub(crate) batch: OutputBatch,
}

impl Production {
    pub(crate) fn new(spec: JobSpec) -> Self {
        let start = spec.start();
        Self {
            chain: ChunkChain::new(spec.job, spec.attempt, start),
            tokens: Vec::new(),
            commits: Vec::new(),
            finish: None,
            stored_chunks: 0,
            finish_stored: false,
            received: start,
            acknowledged_chunks: 0,
            finish_acknowledged: false,
            prefilled: 0,
            prefilled_known: 0,
            prefilled_told: None,
            first_token: None,
            last_token: None,
            spec,
        }
    }

    pub(crate) fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// What an engine is asked: to go on after everything that exists.
    pub(crate) fn command(&self, id: u64) -> Command {
        let mut output = self.spec.output.clone();
        output.extend(self.tokens.iter().map(|token| token.id));
        Command::Generate(Generate {
            id,
            task: self.spec.task.clone(),
            output,
        })
    }

    /// So many tokens have gone through an engine before its first output. A second engine, which
    /// begins anew, is no news until it is further than the first one was.
    pub(crate) fn prefilled(&mut self, tokens: u32) {
        let all = self.spec.task.input_tokens() + self.spec.start();
        self.prefilled = self.prefilled.max(tokens.min(all));
    }

    /// When the balancer is to hear how far the prompt is.
    pub(crate) fn prefilled_due(&self) -> Option<Instant> {
        let told = self.prefilled_told?;
        self.has_news_of_prefill().then(|| told + PREFILLED_EVERY)
    }

    pub(crate) fn push(&mut self, tokens: Vec<TokenOutput>, now: Instant) {
        if self.finish.is_some() || tokens.is_empty() {
            return;
        }
        self.first_token.get_or_insert(now);
        self.last_token = Some(now);
        for token in tokens {
            self.commits.extend(self.chain.push(token.id));
            self.tokens.push(token);
        }
    }

    /// Closes the last chunk and signs the end. `times_ms` are the engine's, for prompt and output.
    pub(crate) fn finish(&mut self, key: &NodeKey, reason: FinishReason, times_ms: (u32, u32)) {
        if self.finish.is_some() {
            return;
        }
        self.commits.extend(self.chain.close_last());
        self.finish = Some(Finish::sign(
            key,
            self.spec.job,
            self.spec.attempt,
            reason,
            self.chain.position(),
            self.chain.head(),
            times_ms,
        ));
    }

    /// Signs an embedding's vectors. `elapsed_ms` is the engine's.
    pub(crate) fn embedded(&mut self, key: &NodeKey, vectors: Vec<Vector>, elapsed_ms: u32) {
        let (job, attempt) = (self.spec.job, self.spec.attempt);
        self.finish
            .get_or_insert_with(|| Finish::sign_vectors(key, job, attempt, vectors, elapsed_ms));
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Whether the balancer has the signed end.
    pub(crate) fn is_delivered(&self) -> bool {
        self.finish_acknowledged
    }

    /// Whether the balancer has everything so far.
    pub(crate) fn is_up_to_date(&self) -> bool {
        self.received >= self.chain.position()
            && self.acknowledged_chunks as usize >= self.commits.len()
            && (self.finish.is_none() || self.finish_acknowledged)
    }

    /// Everything the balancer lacks, as far as one batch holds it. Before the first token a batch
    /// without any says how far the prompt is.
    pub(crate) fn next_shipment(&mut self, now: Instant) -> Option<Shipment> {
        let tells_prefill =
            self.has_news_of_prefill() && self.prefilled_due().is_none_or(|due| due <= now);
        if self.is_up_to_date() && !tells_prefill {
            return None;
        }
        self.prefilled_told = Some(now);
        // A commitment goes only together with or after the tokens that it is about.
        let position = self
            .received
            .clamp(self.spec.start(), self.chain.position());
        let tokens: Vec<_> = self.tokens[self.index(position)..]
            .iter()
            .take(MAX_BATCH_TOKENS)
            .cloned()
            .collect();
        let end = position + tokens.len() as u32;
        let commits: Vec<_> = self
            .commits
            .iter()
            .skip(self.acknowledged_chunks as usize)
            .take_while(|commit| commit.end <= end)
            .copied()
            .collect();
        let finish = self.finish.clone().filter(|_| end == self.chain.position());
        let chunks = self.commits[self.stored_chunks..]
            .iter()
            .take_while(|commit| commit.end <= end)
            .map(|commit| self.stored(commit))
            .collect::<Vec<_>>();
        self.stored_chunks += chunks.len();
        let finish_to_store = finish.clone().filter(|_| !self.finish_stored);
        self.finish_stored |= finish.is_some();
        Some(Shipment {
            chunks,
            finish: finish_to_store,
            batch: OutputBatch {
                version: VERSION,
                attempt: self.spec.attempt,
                position,
                tokens,
                commits,
                finish,
                prefilled: self.prefilled,
            },
        })
    }

    /// The outbox did not take it: it is given out again.
    pub(crate) fn not_stored(&mut self, shipment: &Shipment) {
        self.stored_chunks -= shipment.chunks.len();
        self.finish_stored &= shipment.finish.is_none();
    }

    /// Returns whether the balancer has more than before, or less: not the same again.
    pub(crate) fn acknowledged(&mut self, shipment: &Shipment, ack: OutputAck) -> bool {
        let before = (
            self.received,
            self.acknowledged_chunks,
            self.prefilled_known,
        );
        self.prefilled_known = self.prefilled_known.max(shipment.batch.prefilled);
        self.received = ack.received.clamp(self.spec.start(), self.chain.position());
        self.acknowledged_chunks = ack.chunks.min(self.commits.len() as u32);
        self.finish_acknowledged |= ack.finished;
        let now = (
            self.received,
            self.acknowledged_chunks,
            self.prefilled_known,
        );
        before != now || ack.finished
    }

    /// The balancer does not follow: everything of this attempt is sent again.
    pub(crate) fn rewind(&mut self) {
        self.received = self.spec.start();
        self.acknowledged_chunks = 0;
    }

    /// How many tokens this attempt has written.
    pub(crate) fn produced(&self) -> u32 {
        self.tokens.len() as u32
    }

    /// The length of the whole output.
    pub(crate) fn position(&self) -> u32 {
        self.chain.position()
    }

    /// The speed of decoding: the first token, which waits for the prompt, does not count.
    pub(crate) fn tokens_per_second(&self) -> Option<f32> {
        let elapsed = self.last_token?.duration_since(self.first_token?);
        (self.tokens.len() > 1 && !elapsed.is_zero())
            .then(|| (self.tokens.len() - 1) as f32 / elapsed.as_secs_f32())
    }

    /// Once there is output, that is the news.
    fn has_news_of_prefill(&self) -> bool {
        self.prefilled > self.prefilled_known && self.first_token.is_none() && self.finish.is_none()
    }

    fn index(&self, position: u32) -> usize {
        (position - self.spec.start()) as usize
    }

    fn stored(&self, commit: &ChunkCommit) -> StoredChunk {
        let start = match commit.index.checked_sub(1) {
            Some(previous) => self.commits[previous as usize].end,
            None => self.spec.start(),
        };
        StoredChunk {
            position: start,
            tokens: self.tokens[self.index(start)..self.index(commit.end)].to_vec(),
            commit: *commit,
        }
    }
}

/// What an earlier run of the program owes, as batches; the balancer ignores what it has already.
pub(crate) fn owed_batches(open: &OpenAttempt) -> Vec<OutputBatch> {
    let batch = |position, tokens, commits| OutputBatch {
        version: VERSION,
        attempt: open.key.attempt,
        position,
        tokens,
        commits,
        finish: None,
        prefilled: 0,
    };
    let mut batches: Vec<_> = open
        .chunks
        .chunks(MAX_BATCH_TOKENS / infera_protocol::CHUNK_TOKENS)
        .map(|chunks| {
            batch(
                chunks[0].position,
                chunks
                    .iter()
                    .flat_map(|chunk| chunk.tokens.clone())
                    .collect(),
                chunks.iter().map(|chunk| chunk.commit).collect(),
            )
        })
        .collect();
    if let Some(finish) = &open.finish {
        if batches.is_empty() {
            let tokens = finish.end - finish.vectors.len() as u32;
            batches.push(batch(tokens, Vec::new(), Vec::new()));
        }
        if let Some(last) = batches.last_mut() {
            last.finish = Some(finish.clone());
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use infera_protocol::{JobId, JobSeed, ModelId, Sampling, Task, Writing};

    use super::*;

    fn production(output: Vec<u32>) -> Production {
        let writing = Writing::new(Sampling::GREEDY, 2000, JobSeed::from_bytes([3; 32]));
        Production::new(JobSpec {
            version: VERSION,
            job: JobId::from_bytes([1; 16]),
            attempt: 2,
            task: Task::write(ModelId::from_bytes([2; 32]), vec![1, 2, 3], writing),
            output,
            lease_ms: 1000,
        })
    }

    fn tokens(range: std::ops::Range<u32>) -> Vec<TokenOutput> {
        range
            .map(|id| TokenOutput {
                id,
                logprob: None,
                alternatives: Vec::new(),
            })
            .collect()
    }

    fn ack(received: u32, chunks: u32) -> OutputAck {
        OutputAck {
            received,
            chunks,
            finished: false,
            cancel: false,
        }
    }

    #[test]
    fn the_next_batch_carries_everything_since_the_last_acknowledgement() {
        let mut job = production(vec![7, 8]);
        assert_eq!(job.next_shipment(Instant::now()), None);
        job.push(tokens(0..3), Instant::now());
        let first = job.next_shipment(Instant::now()).unwrap();
        assert_eq!((first.batch.position, first.batch.tokens.len()), (2, 3));
        assert!(first.batch.commits.is_empty() && first.chunks.is_empty());
        job.push(tokens(3..40), Instant::now());
        assert!(job.acknowledged(&first, ack(5, 0)));
        let second = job.next_shipment(Instant::now()).unwrap();
        assert_eq!((second.batch.position, second.batch.tokens.len()), (5, 37));
        assert_eq!(second.batch.commits.len(), 1);
        assert_eq!(second.chunks[0].position, 2);
        assert_eq!(second.chunks[0].tokens, tokens(0..32));
        assert!(job.acknowledged(&second, ack(42, 1)));
        assert!(job.is_up_to_date());
        assert!(!job.acknowledged(&second, ack(42, 1)), "nothing new");
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_but_stored_once() {
        let mut job = production(Vec::new());
        job.push(tokens(0..32), Instant::now());
        let first = job.next_shipment(Instant::now()).unwrap();
        let again = job.next_shipment(Instant::now()).unwrap();
        assert_eq!(first.batch, again.batch);
        assert_eq!((first.chunks.len(), again.chunks.len()), (1, 0));
        job.not_stored(&first);
        assert_eq!(
            job.next_shipment(Instant::now()).unwrap().chunks,
            first.chunks
        );
    }

    #[test]
    fn a_long_backlog_goes_in_pieces_and_the_end_with_the_last() {
        let key = NodeKey::from_secret(&[1; 32]);
        let mut job = production(Vec::new());
        job.push(tokens(0..600), Instant::now());
        job.finish(&key, FinishReason::Length, (1, 2));
        let first = job.next_shipment(Instant::now()).unwrap();
        assert_eq!(first.batch.tokens.len(), MAX_BATCH_TOKENS);
        assert_eq!(first.batch.commits.len(), 16);
        assert_eq!(first.batch.finish, None);
        job.acknowledged(&first, ack(512, 16));
        let last = job.next_shipment(Instant::now()).unwrap();
        assert_eq!(last.batch.tokens.len(), 88);
        assert_eq!(last.batch.commits.len(), 3);
        let finish = last.batch.finish.clone().unwrap();
        assert_eq!(finish.end, 600);
        assert_eq!(finish.verify(&key.id(), job.spec.job, 2), Ok(()));
        let finished = OutputAck {
            finished: true,
            ..ack(600, 19)
        };
        job.acknowledged(&last, finished);
        assert!(job.is_delivered() && job.next_shipment(Instant::now()).is_none());
    }

    #[test]
    fn a_prompt_on_its_way_is_told_once_a_second_and_only_when_it_is_further() {
        let mut job = production(vec![7, 8]);
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        job.prefilled(1);
        assert_eq!(job.prefilled_due(), None, "the first time at once");
        let first = job.next_shipment(start).unwrap();
        let OutputBatch {
            position: 2,
            prefilled: 1,
            finish: None,
            ..
        } = &first.batch
        else {
            panic!("{first:?}");
        };
        assert!(first.batch.tokens.is_empty() && first.chunks.is_empty());
        assert!(job.acknowledged(&first, ack(2, 0)), "it is news");
        job.prefilled(1);
        assert_eq!(job.next_shipment(after(5000)), None, "no further");
        job.prefilled(2);
        assert_eq!(job.next_shipment(after(999)), None, "too soon");
        assert_eq!(job.prefilled_due(), Some(after(1000)));
        let second = job.next_shipment(after(1000)).unwrap();
        // The call is lost, and the engine dies and begins anew.
        job.prefilled(1);
        assert_eq!(job.next_shipment(after(1999)), None);
        assert_eq!(job.next_shipment(after(2000)), Some(second.clone()));
        assert!(job.acknowledged(&second, ack(2, 0)));
        assert!(!job.acknowledged(&second, ack(2, 0)), "nothing new");
        // More than there is to go through cannot be.
        job.prefilled(4000);
        job.push(tokens(0..1), after(2100));
        assert_eq!(job.prefilled_due(), None, "output says more");
        let third = job.next_shipment(after(2100)).unwrap();
        assert_eq!((third.batch.prefilled, third.batch.tokens.len()), (5, 1));
        job.acknowledged(&third, ack(3, 0));
        job.prefilled(5);
        assert_eq!(job.next_shipment(after(9000)), None);
    }

    #[test]
    fn a_restarted_engine_goes_on_after_what_exists() {
        let mut job = production(vec![7, 8]);
        job.push(tokens(20..22), Instant::now());
        let Command::Generate(generate) = job.command(5) else {
            panic!("it writes text");
        };
        assert_eq!(generate.output, [7, 8, 20, 21]);
    }

    #[test]
    fn an_embedding_is_one_signed_batch_also_after_a_crash() {
        let key = NodeKey::from_secret(&[1; 32]);
        let mut job = production(Vec::new());
        job.spec.task = Task::embed(job.spec.task.model, &[vec![1], vec![2, 3]]);
        assert_eq!(job.next_shipment(Instant::now()), None);
        let vectors = vec![Vector(vec![1.0]), Vector(vec![-1.0])];
        job.embedded(&key, vectors.clone(), 7);
        job.finish(&key, FinishReason::Cancelled, (0, 0));
        let shipment = job.next_shipment(Instant::now()).unwrap();
        let finish = shipment.batch.finish.clone().unwrap();
        assert_eq!((finish.end, &finish.vectors), (2, &vectors));
        assert_eq!(finish.verify(&key.id(), job.spec.job, 2), Ok(()));
        assert_eq!(
            (shipment.batch.position, shipment.batch.tokens.len()),
            (0, 0)
        );
        let open = OpenAttempt {
            key: crate::store::AttemptKey {
                job: job.spec.job,
                attempt: job.spec.attempt,
            },
            chunks: shipment.chunks.clone(),
            finish: shipment.finish.clone(),
        };
        assert_eq!(owed_batches(&open), std::slice::from_ref(&shipment.batch));
        let finished = OutputAck {
            finished: true,
            ..ack(2, 0)
        };
        job.acknowledged(&shipment, finished);
        assert!(job.is_delivered() && job.next_shipment(Instant::now()).is_none());
    }

    #[test]
    fn the_outbox_of_a_crashed_run_is_a_valid_continuation() {
        let key = NodeKey::from_secret(&[1; 32]);
        let mut job = production(Vec::new());
        job.push(tokens(0..70), Instant::now());
        job.finish(&key, FinishReason::EndOfText, (1, 2));
        let shipment = job.next_shipment(Instant::now()).unwrap();
        let mut open = OpenAttempt {
            key: crate::store::AttemptKey {
                job: job.spec.job,
                attempt: job.spec.attempt,
            },
            chunks: shipment.chunks,
            finish: shipment.finish,
        };
        assert_eq!(owed_batches(&open), std::slice::from_ref(&shipment.batch));
        // The first chunk was acknowledged before the crash.
        open.chunks.remove(0);
        let batches = owed_batches(&open);
        assert_eq!((batches[0].position, batches[0].tokens.len()), (32, 38));
        open.chunks.clear();
        let batches = owed_batches(&open);
        assert_eq!((batches[0].position, batches[0].tokens.len()), (70, 0));
        assert_eq!(batches[0].finish, shipment.batch.finish);
    }
}
