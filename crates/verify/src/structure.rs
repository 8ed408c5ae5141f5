//! What can be told from an output without running the model (gate G0).

use infera_protocol::{FinishReason, Vector, Writing};

/// An output and the rules it must keep.
pub struct Structure<'a> {
    /// The whole output's token ids.
    pub output: &'a [u32],
    /// How it was to be written.
    pub writing: &'a Writing,
    /// How many token ids the model has; each id of the output is below it.
    pub vocabulary: u32,
    /// How many output tokens the model's context leaves room for after the prompt.
    pub room: u32,
    /// Why the output ended; none while another node is to continue it.
    pub reason: Option<FinishReason>,
    /// Whether a token ends the generation.
    pub is_end: &'a dyn Fn(u32) -> bool,
    /// How many tokens there are up to and including the one that completed a stop string, if one
    /// did, in the decoded output.
    pub stop_at: Option<u32>,
}

/// A rule that an output breaks. Positions count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StructureFault {
    /// A token id that the model does not have.
    #[error("token {position} is {token}, beyond the vocabulary of {vocabulary}")]
    BeyondVocabulary {
        /// Where in the output it is.
        position: u32,
        /// The id.
        token: u32,
        /// How many ids the model has.
        vocabulary: u32,
    },
    /// More tokens than `max_tokens` or the context allows.
    #[error("it has {tokens} tokens where at most {limit} were asked for")]
    TooLong {
        /// The length of the output.
        tokens: u32,
        /// The smaller of `max_tokens` and the room in the context.
        limit: u32,
    },
    /// An end by length before `max_tokens` or the context is full.
    #[error("it is said to be full at {tokens} tokens where {limit} were asked for")]
    NotFull {
        /// The length of the output.
        tokens: u32,
        /// The smaller of `max_tokens` and the room in the context.
        limit: u32,
    },
    /// Tokens after one that ends the generation.
    #[error("it goes on after the end token at position {position}")]
    AfterEnd {
        /// The first token that ends the generation.
        position: u32,
    },
    /// An end of text without a token that ends the generation.
    #[error("it is said to end with an end token and does not")]
    NoEnd,
    /// Tokens after the one that completed a stop string.
    #[error("it goes on after the stop string that token {position} completed")]
    AfterStop {
        /// The token that completed the stop string.
        position: u32,
    },
    /// An end by a stop string that the last token does not complete.
    #[error("it is said to end with a stop string and does not")]
    NoStop,
}

/// Checks an output against its rules; the first fault is returned.
pub fn judge_structure(structure: &Structure) -> Result<(), StructureFault> {
    let tokens = structure.output.len() as u32;
    let limit = structure.writing.max_tokens.min(structure.room);
    for (position, token) in (0..).zip(structure.output.iter().copied()) {
        if token >= structure.vocabulary {
            return Err(StructureFault::BeyondVocabulary {
                position,
                token,
                vocabulary: structure.vocabulary,
            });
        }
    }
    if tokens > limit {
        return Err(StructureFault::TooLong { tokens, limit });
    }
    let end = structure
        .output
        .iter()
        .position(|token| (structure.is_end)(*token))
        .map(|position| position as u32);
    if let Some(position) = end
        && position + 1 < tokens
    {
        return Err(StructureFault::AfterEnd { position });
    }
    if let Some(count) = structure.stop_at
        && count < tokens
    {
        return Err(StructureFault::AfterStop {
            position: count.saturating_sub(1),
        });
    }
    match structure.reason {
        Some(FinishReason::EndOfText) if end.is_none() => Err(StructureFault::NoEnd),
        Some(FinishReason::Stop) if structure.stop_at != Some(tokens) => {
            Err(StructureFault::NoStop)
        }
        Some(FinishReason::Length) if tokens < limit => {
            Err(StructureFault::NotFull { tokens, limit })
        }
        _ => Ok(()),
    }
}

/// What the vectors of an embedding must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorShape {
    /// One vector for each.
    pub texts: u32,
    /// Values in a vector.
    pub width: u32,
}

/// A rule that vectors break. They count from 0.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum VectorFault {
    /// Not one vector for each text.
    #[error("it has {vectors} vectors for {texts} texts")]
    Count {
        /// How many vectors there are.
        vectors: u32,
        /// How many there must be.
        texts: u32,
    },
    /// A vector with more or fewer values than the model's.
    #[error("vector {vector} has {found} values where this model's have {width}")]
    Width {
        /// The first such vector.
        vector: u32,
        /// How many values it has.
        found: u32,
        /// How many values the model's vectors have.
        width: u32,
    },
    /// A Euclidean length in f64 that is off 1 by more than `1e-5`, or a value that is not finite.
    #[error("vector {vector} is not of length 1")]
    Length {
        /// The first such vector.
        vector: u32,
    },
}

/// The most that a vector's length in f64 may be off 1. Rounding each value to f32 moves it by less
/// than `2^-24`.
const LENGTH_TOLERANCE: f64 = 1e-5;

/// Checks vectors against their rules; the first fault is returned. A value that is not finite has
/// no length.
pub fn judge_vectors(vectors: &[Vector], shape: VectorShape) -> Result<(), VectorFault> {
    if vectors.len() != shape.texts as usize {
        return Err(VectorFault::Count {
            vectors: vectors.len() as u32,
            texts: shape.texts,
        });
    }
    for (vector, Vector(values)) in (0..).zip(vectors) {
        if values.len() != shape.width as usize {
            return Err(VectorFault::Width {
                vector,
                found: values.len() as u32,
                width: shape.width,
            });
        }
        let square: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        let is_unit = (square.sqrt() - 1.0).abs() <= LENGTH_TOLERANCE;
        if !is_unit {
            return Err(VectorFault::Length { vector });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use infera_protocol::{JobSeed, Sampling};

    use super::*;

    #[test]
    fn vectors_have_their_shape_and_length() {
        let shape = VectorShape { texts: 2, width: 2 };
        let judge = |vectors: &[&[f32]]| {
            let vectors: Vec<_> = vectors
                .iter()
                .map(|values| Vector(values.to_vec()))
                .collect();
            judge_vectors(&vectors, shape)
        };
        assert_eq!(judge(&[&[0.6, -0.8], &[1.0, 0.0]]), Ok(()));
        let length = |vector| Err(VectorFault::Length { vector });
        let count = |vectors| Err(VectorFault::Count { vectors, texts: 2 });
        let width = |vector, found| {
            Err(VectorFault::Width {
                vector,
                found,
                width: 2,
            })
        };
        let cases: [(&[&[f32]], _); 8] = [
            (&[], count(0)),
            (&[&[1.0, 0.0]], count(1)),
            (&[&[1.0, 0.0], &[1.0]], width(1, 1)),
            (&[&[1.0, 0.0, 0.0], &[1.0, 0.0]], width(0, 3)),
            (&[&[0.0, 0.0], &[1.0, 0.0]], length(0)),
            (&[&[1.0, 0.0], &[1.0, 0.01]], length(1)),
            (&[&[1.0, 0.0], &[f32::NAN, 0.0]], length(1)),
            (&[&[f32::INFINITY, 0.0], &[1.0, 0.0]], length(0)),
        ];
        for (vectors, fault) in cases {
            assert_eq!(judge(vectors), fault, "{vectors:?}");
        }
    }

    const END: u32 = 2;

    static WRITING: Writing = Writing {
        sampling: Sampling::GREEDY,
        max_tokens: 4,
        stop: Vec::new(),
        logprobs: None,
        seed: JobSeed::from_bytes([0; 32]),
    };

    fn judge(
        output: &[u32],
        reason: Option<FinishReason>,
        stop_at: Option<u32>,
    ) -> Result<(), StructureFault> {
        judge_structure(&Structure {
            output,
            writing: &WRITING,
            vocabulary: 10,
            room: 100,
            reason,
            is_end: &|token| token == END,
            stop_at,
        })
    }

    #[test]
    fn honest_ends_pass() {
        assert_eq!(
            judge(&[5, END], Some(FinishReason::EndOfText), None),
            Ok(())
        );
        assert_eq!(judge(&[5, 6], Some(FinishReason::Stop), Some(2)), Ok(()));
        assert_eq!(judge(&[5; 4], Some(FinishReason::Length), None), Ok(()));
        assert_eq!(judge(&[], Some(FinishReason::Cancelled), None), Ok(()));
        assert_eq!(judge(&[5, 6], None, None), Ok(()));
    }

    #[test]
    fn a_full_context_ends_before_max_tokens() {
        let structure = Structure {
            output: &[5; 3],
            writing: &WRITING,
            vocabulary: 10,
            room: 3,
            reason: Some(FinishReason::Length),
            is_end: &|_| false,
            stop_at: None,
        };
        assert_eq!(judge_structure(&structure), Ok(()));
    }

    #[test]
    fn each_broken_rule_is_named() {
        let cases: [(&[u32], _, _, _); 8] = [
            (
                &[5, 10],
                None,
                None,
                StructureFault::BeyondVocabulary {
                    position: 1,
                    token: 10,
                    vocabulary: 10,
                },
            ),
            (
                &[5; 5],
                None,
                None,
                StructureFault::TooLong {
                    tokens: 5,
                    limit: 4,
                },
            ),
            (
                &[5; 3],
                Some(FinishReason::Length),
                None,
                StructureFault::NotFull {
                    tokens: 3,
                    limit: 4,
                },
            ),
            (
                &[END, 5],
                Some(FinishReason::Cancelled),
                None,
                StructureFault::AfterEnd { position: 0 },
            ),
            (
                &[5, 6],
                Some(FinishReason::EndOfText),
                None,
                StructureFault::NoEnd,
            ),
            (
                &[],
                Some(FinishReason::EndOfText),
                None,
                StructureFault::NoEnd,
            ),
            (
                &[5, 6, 7],
                Some(FinishReason::Stop),
                Some(2),
                StructureFault::AfterStop { position: 1 },
            ),
            (
                &[5, 6],
                Some(FinishReason::Stop),
                None,
                StructureFault::NoStop,
            ),
        ];
        for (output, reason, stop_at, fault) in cases {
            assert_eq!(judge(output, reason, stop_at), Err(fault), "{output:?}");
        }
    }
}
