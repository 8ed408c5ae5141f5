//! Asks a web server for a part of a file, over HTTPS all the way.

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::error::{BadAddress, LibraryError};
use crate::own_certificates::{self, Trust};
use crate::unreachable::Unreachable;

const MAX_REDIRECTS: usize = 10;
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// The hub whose word on a file's hash is taken.
const HUB: &str = "huggingface.co";
/// Sent with the hub's redirect to a file in large-file storage: its SHA-256, and its size.
const LINKED_HASH: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// The way to the web servers that models come from.
#[derive(Debug, Clone)]
pub struct Http {
    web: Client,
    /// Without the system's proxy.
    local: Client,
    hubs: Vec<String>,
}

/// An address from which files may come: HTTPS, or this machine itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(Url);

/// What a server answered; the body is still to come.
#[derive(Debug)]
pub(super) struct Answer {
    pub response: Response,
    /// What a hub on the way said of the whole file.
    pub hub: HubFacts,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HubFacts {
    pub sha256: Option<String>,
    pub bytes: Option<u64>,
}

/// No answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoAnswer {
    pub message: String,
    /// It stays so, however often it is tried.
    pub for_good: bool,
}

impl Http {
    /// `extra_roots` are PEM certificates to trust beside the system's.
    pub fn new(extra_roots: Option<&[u8]>) -> Result<Self, LibraryError> {
        // Another part of the program may have chosen a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let failed = |error: reqwest::Error| LibraryError::Certificates(cause(&error));
        let tls = extra_roots
            .map(|pem| own_certificates::trusting(Trust::in_file(pem)))
            .transpose()
            .map_err(LibraryError::Certificates)?;
        let client = |is_local: bool| {
            let mut builder = Client::builder()
                .connect_timeout(CONNECT_LIMIT)
                // Each hop is looked at: see `Address::redirect`.
                .redirect(redirect::Policy::none())
                .user_agent(crate::SOFTWARE);
            if is_local {
                builder = builder.no_proxy();
            }
            if let Some(tls) = &tls {
                builder = builder.tls_backend_preconfigured(tls.clone());
            }
            builder.build()
        };
        Ok(Self {
            web: client(false).map_err(failed)?,
            local: client(true).map_err(failed)?,
            hubs: vec![HUB.to_owned()],
        })
    }

    /// Takes another host's word on hashes, too: a mirror of the hub.
    #[must_use]
    pub fn with_hub(mut self, host: &str) -> Self {
        self.hubs.push(host.to_owned());
        self
    }

    /// `range` is the first byte and the one after the last; none asks for the whole file.
    pub(super) async fn get(
        &self,
        address: &Address,
        range: Option<(u64, Option<u64>)>,
        if_range: Option<&str>,
    ) -> Result<Answer, NoAnswer> {
        let mut address = address.clone();
        let mut hub = HubFacts::default();
        for _ in 0..=MAX_REDIRECTS {
            let client = if address.is_local() {
                &self.local
            } else {
                &self.web
            };
            let mut request = client
                .get(address.0.clone())
                // A compressed answer would have other bytes and another length.
                .header(header::ACCEPT_ENCODING, "identity");
            if let Some((start, end)) = range {
                let last = end.map_or_else(String::new, |end| (end - 1).to_string());
                request = request.header(header::RANGE, format!("bytes={start}-{last}"));
                if let Some(validator) = if_range {
                    request = request.header(header::IF_RANGE, validator);
                }
            }
            let response = request.send().await.map_err(|error| NoAnswer {
                message: format!(
                    "{} cannot be reached: {}",
                    address.host(),
                    Unreachable::of(&error)
                ),
                for_good: error.is_builder(),
            })?;
            if self.hubs.iter().any(|host| host == address.host()) {
                hub.take(response.headers());
            }
            if !is_redirect(response.status()) {
                return Ok(Answer { response, hub });
            }
            address = address.redirect(response.headers())?;
        }
        Err(NoAnswer {
            message: format!("{} redirects without end", address.host()),
            for_good: true,
        })
    }
}

impl Address {
    /// An address of a file's page at the hub becomes that of the file.
    pub(super) fn parse(text: &str) -> Result<Self, BadAddress> {
        let text = text.trim();
        let shown = || text.chars().take(200).collect::<String>();
        let mut url: Url = text.parse().map_err(|_| BadAddress::NotUrl(shown()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadAddress::Password);
        }
        url.set_fragment(None);
        let address = Self(url);
        match address.0.scheme() {
            _ if address.0.host_str().is_none() => Err(BadAddress::NotUrl(shown())),
            "https" => Ok(address.without_page()),
            "http" if address.is_local() => Ok(address),
            "http" => Err(BadAddress::PlainHttp(shown())),
            _ => Err(BadAddress::NotUrl(shown())),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(super) fn path(&self) -> &str {
        self.0.path()
    }

    pub(super) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// On this machine, or on its way through it.
    fn is_local(&self) -> bool {
        let host = self.host();
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    fn redirect(&self, headers: &HeaderMap) -> Result<Self, NoAnswer> {
        let refuse = |why: &str| NoAnswer {
            message: format!("{} redirects {why}", self.host()),
            for_good: true,
        };
        let target = headers
            .get(header::LOCATION)
            .and_then(|target| target.to_str().ok())
            .ok_or_else(|| refuse("to nowhere"))?;
        let url = self
            .0
            .join(target)
            .map_err(|_| refuse("to something that is no address"))?;
        let target = Self::parse(url.as_str()).map_err(|_| refuse("away from HTTPS"))?;
        if self.0.scheme() == "https" && target.0.scheme() != "https" {
            return Err(refuse("away from HTTPS"));
        }
        Ok(target)
    }

    fn without_page(mut self) -> Self {
        let mut parts: Vec<_> = self.path().splitn(5, '/').map(str::to_owned).collect();
        if self.host() == HUB
            && let Some(part) = parts.get_mut(3)
            && part == "blob"
        {
            "resolve".clone_into(part);
            self.0.set_path(&parts.join("/"));
        }
        self
    }
}

impl HubFacts {
    fn take(&mut self, headers: &HeaderMap) {
        let text = |name: &HeaderName| headers.get(name)?.to_str().ok();
        if let Some(hash) = text(&LINKED_HASH) {
            let hash = hash
                .trim_start_matches("W/")
                .trim_matches('"')
                .to_lowercase();
            // Small files have a git hash here, which is shorter.
            if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                self.sha256 = Some(hash);
                self.bytes = text(&LINKED_SIZE).and_then(|size| size.parse().ok());
            }
        }
    }
}

/// First byte, and length of the whole file where it is told: `bytes 5-9/10`, `bytes */10`.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let first = match range.split_once('-') {
        Some((first, _)) => Some(first.trim().parse().ok()?),
        None => None,
    };
    Some((first, total.trim().parse().ok()))
}

/// The innermost cause, which says most.
pub(super) fn cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn addresses_as_a_table() {
        for (text, expected) in [
            ("https://m.example/a.gguf", "https://m.example/a.gguf"),
            (" https://m.example/a.gguf#x ", "https://m.example/a.gguf"),
            (
                "http://127.0.0.1:8000/a.gguf",
                "http://127.0.0.1:8000/a.gguf",
            ),
            ("http://[::1]:80/a", "http://[::1]/a"),
            ("http://localhost/a", "http://localhost/a"),
            (
                "https://huggingface.co/o/r/blob/main/d/a.gguf?download=true",
                "https://huggingface.co/o/r/resolve/main/d/a.gguf?download=true",
            ),
            (
                "https://huggingface.co/blob/r/raw/a",
                "https://huggingface.co/blob/r/raw/a",
            ),
            (
                "https://m.example/o/r/blob/a",
                "https://m.example/o/r/blob/a",
            ),
        ] {
            assert_eq!(Address::parse(text).unwrap().as_str(), expected);
        }
        for (text, error) in [
            (
                "m.example/a.gguf",
                BadAddress::NotUrl("m.example/a.gguf".into()),
            ),
            (
                "ftp://m.example/a",
                BadAddress::NotUrl("ftp://m.example/a".into()),
            ),
            (
                "file:///etc/passwd",
                BadAddress::NotUrl("file:///etc/passwd".into()),
            ),
            (
                "http://m.example/a",
                BadAddress::PlainHttp("http://m.example/a".into()),
            ),
            (
                "http://10.0.0.1/a",
                BadAddress::PlainHttp("http://10.0.0.1/a".into()),
            ),
            ("https://me:secret@m.example/a", BadAddress::Password),
        ] {
            assert_eq!(Address::parse(text).unwrap_err(), error);
        }
    }

    #[test]
    fn redirects_never_leave_https() {
        let https = Address::parse("https://m.example/d/a.gguf").unwrap();
        let local = Address::parse("http://127.0.0.1/a.gguf").unwrap();
        for (from, target, expected) in [
            (
                &https,
                "https://cdn.example/x",
                Some("https://cdn.example/x"),
            ),
            (&https, "/x", Some("https://m.example/x")),
            (&https, "b.gguf", Some("https://m.example/d/b.gguf")),
            (&https, "http://m.example/x", None),
            (&https, "http://127.0.0.1/x", None),
            (&https, "file:///x", None),
            (&local, "http://localhost/x", Some("http://localhost/x")),
            (&local, "https://m.example/x", Some("https://m.example/x")),
            (&local, "http://m.example/x", None),
        ] {
            let found = from.redirect(&headers(&[("location", target)]));
            assert_eq!(
                found.ok().as_ref().map(Address::as_str),
                expected,
                "{target}"
            );
        }
        assert!(https.redirect(&headers(&[])).unwrap_err().for_good);
    }

    #[test]
    fn a_hub_tells_hash_and_size_of_large_files_only() {
        let hash = "AB".repeat(32);
        let told = |list: &[(&str, &str)]| {
            let mut facts = HubFacts::default();
            facts.take(&headers(list));
            facts
        };
        let quoted = format!("\"{hash}\"");
        assert_eq!(
            told(&[("x-linked-etag", &quoted), ("x-linked-size", "12")]),
            HubFacts {
                sha256: Some(hash.to_lowercase()),
                bytes: Some(12)
            }
        );
        assert_eq!(told(&[("x-linked-etag", "\"abc\"")]), HubFacts::default());
        assert_eq!(told(&[("etag", &quoted)]), HubFacts::default());
    }

    #[test]
    fn content_ranges_as_a_table() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((Some(5), Some(10)))),
            ("bytes 5-9/*", Some((Some(5), None))),
            ("bytes */10", Some((None, Some(10)))),
            ("bytes x-9/10", None),
            ("items 5-9/10", None),
            ("bytes 5-9", None),
        ] {
            assert_eq!(
                content_range(&headers(&[("content-range", text)])),
                expected,
                "{text}"
            );
        }
    }
}
