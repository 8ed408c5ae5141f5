//! Why nobody answered, as data: the window and the tray have their own words for it.

#![deny(missing_docs)]

use std::error::Error;
use std::io;

use rustls::{CertificateError, OtherError};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::own_certificates::KeyChanged;

/// The cause that a person can do something about, in place of a library's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Unreachable {
    /// A typing error, or no name server.
    #[error("no machine has this name")]
    HostNotFound,
    /// The machine is there; the network does not run on it, or behind another port.
    #[error("nothing answers at this address and port")]
    NobodyListens,
    /// No route: the cable is out, the wireless off, or a VPN down.
    #[error("this machine is not connected to it")]
    NoWay,
    /// A firewall may swallow what is sent.
    #[error("it did not answer in time")]
    TooSlow,
    /// The connection was made, and ended before the answer.
    #[error("the connection broke off")]
    Broken,
    /// An `https` address that answers without TLS: a wrong port, or a gateway's sign-in page.
    #[error("it speaks plain HTTP, which anyone on the way could read and change")]
    PlainHttp,
    /// It is for another name, has expired, or was issued by somebody who is not trusted here.
    #[error("its certificate is not trusted: {detail}")]
    Certificate {
        /// What is wrong with it, in the words of the TLS library.
        detail: String,
    },
    /// Its key is another than the invitation named, and no authority vouches for it: the network has
    /// a new key, or somebody stands in its place.
    #[error(
        "its certificate has changed since you were invited, and no authority vouches for the new one. Ask its operator whether that is right, and for a new invitation"
    )]
    CertificateChanged,
    /// A balancer or what stands before it is in trouble.
    #[error("it answered with status {status}")]
    Failing {
        /// The HTTP status: from 500, or 408, or 429.
        status: u16,
    },
    /// A web server that is no balancer, or a wrong path.
    #[error("something else than a network answers there (status {status})")]
    NotANetwork {
        /// The HTTP status.
        status: u16,
    },
    /// In its own words, or in a library's.
    #[error("{detail}")]
    Other {
        /// One line, in English, for a report.
        detail: String,
    },
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
                rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why)))
                    if why.is::<KeyChanged>() =>
                {
                    Some(Self::CertificateChanged)
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
