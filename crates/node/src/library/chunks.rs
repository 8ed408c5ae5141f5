//! Which parts of a file are there, each with its hash.
//!
//! A file is a row of chunks of one size. Of each chunk some bytes from its start are there, and
//! their BLAKE3 hash is kept, so that a damaged chunk is found and fetched again alone.

use std::io::{self, Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

const BLOCK_BYTES: usize = 1 << 18;

/// What is kept of one chunk between two runs of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChunkRecord {
    /// That are there, from the chunk's start.
    pub bytes: u64,
    pub blake3: String,
}

/// A part that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub start: u64,
    /// The first byte after it; none where the file's length is not known.
    pub end: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Chunks {
    chunk_bytes: u64,
    chunks: Vec<Chunk>,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: u64,
    hasher: blake3::Hasher,
}

impl Chunks {
    pub(super) fn new(chunk_bytes: u64) -> Self {
        Self {
            chunk_bytes: chunk_bytes.max(1),
            chunks: Vec::new(),
        }
    }

    /// Reads what is said to be there and keeps what is as it was written. Gives how many bytes were
    /// lost as well. `go_on` gets the bytes read so far, and ends the reading with `false`.
    pub(super) fn check(
        chunk_bytes: u64,
        records: &[ChunkRecord],
        file: &mut (impl Read + Seek),
        mut go_on: impl FnMut(u64) -> bool,
    ) -> io::Result<(Self, u64)> {
        let mut chunks = Self::new(chunk_bytes);
        let (mut damaged, mut read) = (0, 0);
        let mut block = vec![0; BLOCK_BYTES];
        for (index, record) in records.iter().enumerate() {
            let mut chunk = Chunk::default();
            let wanted = record.bytes.min(chunks.chunk_bytes);
            file.seek(SeekFrom::Start(index as u64 * chunks.chunk_bytes))?;
            while chunk.bytes < wanted {
                let most = (wanted - chunk.bytes).min(BLOCK_BYTES as u64) as usize;
                let got = match file.read(&mut block[..most]) {
                    Ok(0) => break,
                    Ok(got) => got,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    // A bad sector costs this chunk, not the others.
                    Err(error) => {
                        tracing::warn!(%error, "a part of a download cannot be read");
                        break;
                    }
                };
                chunk.hasher.update(&block[..got]);
                chunk.bytes += got as u64;
                read += got as u64;
                if !go_on(read) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
            if chunk.bytes != record.bytes || chunk.hash() != record.blake3 {
                damaged = u64::saturating_add(damaged, record.bytes);
                chunk = Chunk::default();
            }
            chunks.chunks.push(chunk);
        }
        Ok((chunks, damaged))
    }

    pub(super) fn records(&self) -> Vec<ChunkRecord> {
        self.chunks
            .iter()
            .map(|chunk| ChunkRecord {
                bytes: chunk.bytes,
                blake3: chunk.hash(),
            })
            .collect()
    }

    pub(super) fn done(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    /// The first part that is missing; none when all of `total` is there.
    pub(super) fn next_gap(&self, total: Option<u64>) -> Option<Gap> {
        let mut start = None;
        for (index, chunk) in self.chunks.iter().enumerate() {
            let begin = index as u64 * self.chunk_bytes;
            let full = total.map_or(self.chunk_bytes, |total| {
                total.saturating_sub(begin).min(self.chunk_bytes)
            });
            match start {
                Some(start) if chunk.bytes > 0 => {
                    return Some(Gap {
                        start,
                        end: Some(begin),
                    });
                }
                None if chunk.bytes < full => start = Some(begin + chunk.bytes),
                _ => {}
            }
        }
        let start = start.unwrap_or(self.chunks.len() as u64 * self.chunk_bytes);
        match total {
            Some(total) if start >= total => None,
            end => Some(Gap { start, end }),
        }
    }

    /// Counts bytes in that were written at a gap's start.
    pub(super) fn add(&mut self, mut position: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let index = (position / self.chunk_bytes) as usize;
            if self.chunks.len() <= index {
                self.chunks.resize_with(index + 1, Chunk::default);
            }
            let chunk = &mut self.chunks[index];
            let inside = position % self.chunk_bytes;
            debug_assert_eq!(inside, chunk.bytes, "a chunk grows at its end");
            let (now, later) =
                bytes.split_at(((self.chunk_bytes - inside) as usize).min(bytes.len()));
            chunk.hasher.update(now);
            chunk.bytes += now.len() as u64;
            position += now.len() as u64;
            bytes = later;
        }
    }
}

impl Chunk {
    fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn gap(start: u64, end: u64) -> Gap {
        Gap {
            start,
            end: Some(end),
        }
    }

    fn chunks_with(present: &[u64]) -> (Chunks, Vec<u8>) {
        let content: Vec<u8> = (0..100).collect();
        let mut chunks = Chunks::new(10);
        for (index, bytes) in present.iter().enumerate() {
            let start = index * 10;
            chunks.add(start as u64, &content[start..start + *bytes as usize]);
            chunks.chunks.resize_with(index + 1, Chunk::default);
        }
        (chunks, content)
    }

    #[test]
    fn gaps_as_a_table() {
        for (present, total, expected) in [
            (&[][..], Some(25), Some(gap(0, 25))),
            (
                &[][..],
                None,
                Some(Gap {
                    start: 0,
                    end: None,
                }),
            ),
            (&[][..], Some(0), None),
            (&[4][..], Some(25), Some(gap(4, 25))),
            (&[10][..], Some(25), Some(gap(10, 25))),
            (
                &[10, 3][..],
                None,
                Some(Gap {
                    start: 13,
                    end: None,
                }),
            ),
            (&[10, 10, 5][..], Some(25), None),
            (&[10, 10, 4][..], Some(25), Some(gap(24, 25))),
            (&[10, 0, 5][..], Some(25), Some(gap(10, 20))),
            (&[0, 10, 5][..], Some(25), Some(gap(0, 10))),
            (&[0, 0, 5][..], Some(25), Some(gap(0, 20))),
            (&[7, 10, 0][..], Some(25), Some(gap(7, 10))),
            (&[7, 0, 0][..], Some(25), Some(gap(7, 25))),
            (&[10, 10, 0][..], Some(25), Some(gap(20, 25))),
            (&[10, 10][..], Some(20), None),
        ] {
            let (chunks, _) = chunks_with(present);
            assert_eq!(chunks.next_gap(total), expected, "{present:?} of {total:?}");
            assert_eq!(chunks.done(), present.iter().sum::<u64>());
        }
    }

    #[test]
    fn a_sound_file_is_kept_whole() {
        let (chunks, content) = chunks_with(&[10, 10, 10, 5]);
        let records = chunks.records();
        let (checked, damaged) =
            Chunks::check(10, &records, &mut Cursor::new(&content), |_| true).unwrap();
        assert_eq!((checked.done(), damaged), (35, 0));
        assert_eq!(checked.records(), records);
    }

    #[test]
    fn a_damaged_chunk_is_fetched_again_alone() {
        let (chunks, mut content) = chunks_with(&[10, 10, 10, 5]);
        content[13] ^= 1;
        let (checked, damaged) =
            Chunks::check(10, &chunks.records(), &mut Cursor::new(&content), |_| true).unwrap();
        assert_eq!((checked.done(), damaged), (25, 10));
        assert_eq!(checked.next_gap(Some(40)), Some(gap(10, 20)));
    }

    #[test]
    fn a_file_that_became_shorter_keeps_what_is_there() {
        let (chunks, content) = chunks_with(&[10, 10, 10, 5]);
        let short = &content[..12];
        let (checked, damaged) =
            Chunks::check(10, &chunks.records(), &mut Cursor::new(short), |_| true).unwrap();
        assert_eq!((checked.done(), damaged), (10, 25));
    }

    #[test]
    fn a_hash_goes_on_after_a_check() {
        let (chunks, content) = chunks_with(&[10, 4]);
        let (mut checked, _) =
            Chunks::check(10, &chunks.records(), &mut Cursor::new(&content), |_| true).unwrap();
        checked.add(14, &content[14..27]);
        let (whole, _) = chunks_with(&[10, 10, 7]);
        assert_eq!(checked.records(), whole.records());
    }

    #[test]
    fn a_check_ends_when_told() {
        let (chunks, content) = chunks_with(&[10, 10]);
        let stopped = Chunks::check(10, &chunks.records(), &mut Cursor::new(&content), |_| false);
        assert_eq!(stopped.unwrap_err().kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn nonsense_in_the_record_counts_as_damage() {
        let (_, content) = chunks_with(&[]);
        let records = [ChunkRecord {
            bytes: u64::MAX,
            blake3: String::new(),
        }];
        let (checked, _) =
            Chunks::check(10, &records, &mut Cursor::new(&content), |_| true).unwrap();
        assert_eq!(checked.done(), 0);
    }
}
