//! Length-delimited frames: a little-endian `u32` length, then that many bytes of JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// No message of ours comes near it; a longer one is a fault or an attack.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Why a frame cannot be written or read; what follows it on the stream is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Its length in bytes is above [`MAX_FRAME_BYTES`].
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLong(usize),
    /// Its bytes are not JSON of the expected message, or the message has no JSON.
    #[error("a frame does not hold the message that was expected: {0}")]
    Malformed(#[source] serde_json::Error),
}

/// One message as a frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Malformed)?;
    let length = frame.len() - 4;
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong(length));
    }
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(frame)
}

/// Takes bytes as they come and gives messages as they are complete.
#[derive(Debug, Default)]
pub struct Decoder(Vec<u8>);

impl Decoder {
    /// Takes the next bytes of the stream, cut anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next complete message, if there is one.
    pub fn message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(header) = self.0.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::TooLong(length));
        }
        if self.0.len() < 4 + length {
            return Ok(None);
        }
        let message =
            serde_json::from_slice(&self.0[4..4 + length]).map_err(FrameError::Malformed)?;
        self.0.drain(..4 + length);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_any_split() {
        let mut bytes = encode(&vec![1, 2, 3]).unwrap();
        bytes.extend(encode(&vec![4]).unwrap());
        for size in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut messages: Vec<Vec<u32>> = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(message) = decoder.message().unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(messages, [vec![1, 2, 3], vec![4]]);
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_it_is_awaited() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(matches!(
            decoder.message::<u32>(),
            Err(FrameError::TooLong(_))
        ));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&[3, 0, 0, 0, b'a', b'b', b'c']);
        assert!(matches!(
            decoder.message::<u32>(),
            Err(FrameError::Malformed(_))
        ));
    }
}
