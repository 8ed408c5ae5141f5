//! Request bodies, read with a limit and a deadline.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use futures_util::StreamExt;

/// How long a body may take to arrive.
const TIMEOUT: Duration = Duration::from_mins(1);
/// A body over its limit is read so far before it is refused: a client that is still sending
/// would see a broken connection instead of the answer.
const MAX_DISCARDED: usize = 64 << 20;

/// A body of at most `LIMIT` bytes, or why there is none.
pub(crate) struct Received<const LIMIT: usize>(pub Result<Bytes, BodyFault>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("the body is over the limit")]
    TooLarge,
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the connection ended before the body")]
    Broken,
}

impl<S: Send + Sync, const LIMIT: usize> FromRequest<S> for Received<LIMIT> {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        let read = read(request.into_body(), LIMIT);
        let outcome = tokio::time::timeout(TIMEOUT, read).await;
        Ok(Self(outcome.unwrap_or(Err(BodyFault::TooSlow))))
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, BodyFault> {
    let mut parts = body.into_data_stream();
    let mut kept = Vec::new();
    let mut length = 0usize;
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| BodyFault::Broken)?;
        length += part.len();
        if length <= limit {
            kept.extend_from_slice(&part);
        } else {
            kept = Vec::new();
            if length > MAX_DISCARDED {
                break;
            }
        }
    }
    if length > limit {
        Err(BodyFault::TooLarge)
    } else {
        Ok(kept.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_limit_is_exact() {
        assert_eq!(read(Body::from("12345"), 5).await.unwrap(), "12345");
        assert_eq!(
            read(Body::from("123456"), 5).await,
            Err(BodyFault::TooLarge)
        );
    }
}
