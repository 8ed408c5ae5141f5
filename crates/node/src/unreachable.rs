//! Why nobody answered, as data: the window and the tray have their own words for it.

use std::error::Error;
use std::io;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// The cause that a person can do something about, in place of a library's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Unreachable {
    #[error("no machine has this name")]
    HostNotFound,
    #[error("nothing answers at this address and port")]
    NobodyListens,
    #[error("this machine is not connected to it")]
    NoWay,
    #[error("it did not answer in time")]
    TooSlow,
    #[error("the connection broke off")]
    Broken,
    #[error("it speaks plain HTTP, which anyone on the way could read and change")]
    PlainHttp,
    #[error("its certificate is not trusted: {detail}")]
    Certificate { detail: String },
    #[error("it answered with status {status}")]
    Failing { status: u16 },
    #[error("something else than a network answers there (status {status})")]
    NotANetwork { status: u16 },
    /// In its own words, or in a library's.
    #[error("{detail}")]
    Other { detail: String },
}

impl Unreachable {
    pub(crate) fn other(detail: &(impl ToString + ?Sized)) -> Self {
        Self::Other {
            detail: detail.to_string(),
        }
    }

    pub(crate) fn of(error: &reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TooSlow;
        }
        let mut innermost: &(dyn Error + 'static) = error;
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(known) = Self::known(error) {
                return known;
            }
            innermost = error;
            // An I/O error shows what it carries in place of naming it as its source.
            let carried = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            cause = carried.map_or_else(
                || error.source(),
                |carried| Some(carried as &(dyn Error + 'static)),
            );
        }
        // Above the innermost cause stand only the names of libraries.
        Self::other(innermost)
    }

    fn known(error: &(dyn Error + 'static)) -> Option<Self> {
        // The resolver's error has no type of its own to look for.
        if error.to_string().starts_with("dns error") {
            return Some(Self::HostNotFound);
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return match error {
                rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
                    Some(Self::PlainHttp)
                }
                rustls::Error::InvalidCertificate(fault) => Some(Self::Certificate {
                    detail: fault.to_string(),
                }),
                _ => None,
            };
        }
        let error = error.downcast_ref::<io::Error>()?;
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(Self::NobodyListens),
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => Some(Self::NoWay),
            io::ErrorKind::TimedOut => Some(Self::TooSlow),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Some(Self::Broken),
            _ => None,
        }
    }
}
