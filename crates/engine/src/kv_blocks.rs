//! Which KV block belongs to whom, and what full blocks hold: pure bookkeeping.
//!
//! A full block is known by a hash over all tokens up to its end, so that a sequence that begins
//! with the same tokens reads it instead of computing it again. Known blocks that nobody uses are
//! kept until their room is needed, least recently used first.

use std::collections::{BTreeMap, HashMap};

use infera_protocol::Hash;
use infera_protocol::digest::Digest;

use crate::forward::BLOCK_TOKENS;

/// Identifies a block's tokens and all before them. Tokens come from strangers: a hash that can be
/// made to collide would show one's cache to another.
pub type BlockHash = Hash;

pub struct KvBlocks {
    blocks: Vec<Block>,
    /// Blocks that hold nothing.
    empty: Vec<u32>,
    /// Blocks that hold something known and have no user, by when they were last used.
    unused: BTreeMap<u64, u32>,
    known: HashMap<BlockHash, u32>,
    /// Counts uses, to order them.
    uses: u64,
}

#[derive(Default)]
struct Block {
    users: u32,
    holds: Option<BlockHash>,
    last_used: u64,
}

impl KvBlocks {
    pub fn new(count: usize) -> Self {
        Self {
            blocks: (0..count).map(|_| Block::default()).collect(),
            // The first ones first.
            empty: (0..count as u32).rev().collect(),
            unused: BTreeMap::new(),
            known: HashMap::new(),
            uses: 0,
        }
    }

    pub fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that can be taken now.
    pub fn available(&self) -> usize {
        self.empty.len() + self.unused.len()
    }

    /// Blocks that a sequence uses.
    pub fn used(&self) -> usize {
        self.total() - self.available()
    }

    /// A block for one user, of unknown content.
    pub fn take(&mut self) -> Option<u32> {
        let id = self.empty.pop().or_else(|| {
            let (_, id) = self.unused.pop_first()?;
            if let Some(hash) = self.blocks[id as usize].holds.take() {
                self.known.remove(&hash);
            }
            Some(id)
        })?;
        self.blocks[id as usize].users = 1;
        Some(id)
    }

    /// The known block with this content, for one more user.
    pub fn share(&mut self, hash: &BlockHash) -> Option<u32> {
        let id = *self.known.get(hash)?;
        let block = &mut self.blocks[id as usize];
        if block.users == 0 {
            self.unused.remove(&block.last_used);
        }
        block.users += 1;
        Some(id)
    }

    /// Tells what a full block holds. Another block that holds the same stays the known one.
    pub fn publish(&mut self, id: u32, hash: BlockHash) {
        let block = &mut self.blocks[id as usize];
        if block.holds.is_none() && !self.known.contains_key(&hash) {
            block.holds = Some(hash);
            self.known.insert(hash, id);
        }
    }

    /// One user less.
    pub fn give_back(&mut self, id: u32) {
        let block = &mut self.blocks[id as usize];
        debug_assert!(block.users > 0, "a block is given back once by each user");
        block.users -= 1;
        if block.users > 0 {
            return;
        }
        if block.holds.is_some() {
            self.uses += 1;
            block.last_used = self.uses;
            self.unused.insert(self.uses, id);
        } else {
            self.empty.push(id);
        }
    }

    /// Forgets what blocks hold: nothing is known of them after a failed pass.
    pub fn forget(&mut self) {
        self.known.clear();
        self.empty.extend(self.unused.values());
        self.unused.clear();
        for block in &mut self.blocks {
            block.holds = None;
        }
    }
}

/// The hash of a full block, given that of the block before it.
pub fn block_hash(before: Option<&BlockHash>, tokens: &[u32]) -> BlockHash {
    debug_assert_eq!(tokens.len(), BLOCK_TOKENS);
    let mut digest = Digest::new("infera/kv-block/v1");
    digest = match before {
        None => digest.u8(0),
        Some(hash) => digest.u8(1).fixed(hash.as_bytes()),
    };
    tokens
        .iter()
        .fold(digest, |digest, token| digest.u32(*token))
        .finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(of: u8) -> BlockHash {
        Hash::from_bytes([of; 32])
    }

    #[test]
    fn a_known_block_is_shared_and_outlives_its_users() {
        let mut blocks = KvBlocks::new(2);
        let first = blocks.take().unwrap();
        blocks.publish(first, hash(1));
        assert_eq!(blocks.share(&hash(1)), Some(first));
        assert_eq!(blocks.share(&hash(2)), None);
        blocks.give_back(first);
        assert_eq!((blocks.used(), blocks.available()), (1, 1));
        blocks.give_back(first);
        assert_eq!((blocks.used(), blocks.available()), (0, 2));
        assert_eq!(blocks.share(&hash(1)), Some(first));
    }

    #[test]
    fn room_is_made_of_empty_blocks_first_and_then_of_the_longest_unused() {
        let mut blocks = KvBlocks::new(3);
        let taken: Vec<u32> = (0..2).map(|_| blocks.take().unwrap()).collect();
        blocks.publish(taken[0], hash(0));
        blocks.publish(taken[1], hash(1));
        blocks.give_back(taken[1]);
        blocks.give_back(taken[0]);
        assert_eq!(blocks.take(), Some(2));
        assert_eq!(blocks.take(), Some(taken[1]));
        assert_eq!(blocks.share(&hash(1)), None, "it holds something else now");
        assert_eq!(blocks.share(&hash(0)), Some(taken[0]));
        assert_eq!(blocks.take(), None);
    }

    #[test]
    fn the_same_content_twice_is_known_once() {
        let mut blocks = KvBlocks::new(2);
        let (first, second) = (blocks.take().unwrap(), blocks.take().unwrap());
        blocks.publish(first, hash(1));
        blocks.publish(second, hash(1));
        blocks.give_back(second);
        blocks.give_back(first);
        assert_eq!(blocks.share(&hash(1)), Some(first));
        assert_eq!(blocks.take(), Some(second));
        assert_eq!(blocks.take(), None);
    }

    #[test]
    fn nothing_is_known_after_a_failed_pass() {
        let mut blocks = KvBlocks::new(2);
        let (first, second) = (blocks.take().unwrap(), blocks.take().unwrap());
        blocks.publish(first, hash(1));
        blocks.publish(second, hash(2));
        blocks.give_back(first);
        blocks.forget();
        assert_eq!(blocks.share(&hash(1)), None);
        blocks.give_back(second);
        assert_eq!(blocks.share(&hash(2)), None);
        assert_eq!(blocks.available(), 2);
    }

    #[test]
    fn a_hash_depends_on_all_tokens_before() {
        let (one, other) = ([1; BLOCK_TOKENS], [2; BLOCK_TOKENS]);
        let first = block_hash(None, &one);
        assert_ne!(first, block_hash(None, &other));
        assert_ne!(first, block_hash(Some(&first), &one));
        assert_ne!(
            block_hash(Some(&first), &one),
            block_hash(Some(&block_hash(None, &other)), &one)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// Against a model that is a list of who uses what.
        #[test]
        fn any_order_of_use_keeps_the_books(
            count in 1_usize..6,
            steps in proptest::collection::vec((0_u8..4, 0_usize..8, 0_u8..5), 0..200),
        ) {
            let mut blocks = KvBlocks::new(count);
            let mut in_use: Vec<(u32, Option<u8>)> = Vec::new();
            for (what, which, content) in steps {
                match what {
                    0 => if let Some(id) = blocks.take() {
                        prop_assert!(in_use.iter().all(|(other, _)| *other != id));
                        in_use.push((id, None));
                    } else {
                        prop_assert_eq!(blocks.available(), 0);
                    },
                    1 => if let Some(id) = blocks.share(&hash(content)) {
                        let held = in_use.iter().find(|(other, _)| *other == id);
                        prop_assert!(held.is_none_or(|(_, held)| *held == Some(content)));
                        in_use.push((id, Some(content)));
                    },
                    2 if !in_use.is_empty() => {
                        let (id, _) = in_use.swap_remove(which % in_use.len());
                        blocks.give_back(id);
                    }
                    3 if !in_use.is_empty() => {
                        let (id, held) = in_use[which % in_use.len()];
                        if held.is_none() {
                            blocks.publish(id, hash(content));
                            for one in in_use.iter_mut().filter(|one| one.0 == id) {
                                one.1 = Some(content);
                            }
                        }
                    }
                    _ => {}
                }
                let mut distinct: Vec<u32> = in_use.iter().map(|(id, _)| *id).collect();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(blocks.used(), distinct.len());
                prop_assert_eq!(blocks.available(), count - distinct.len());
            }
        }
    }
}
