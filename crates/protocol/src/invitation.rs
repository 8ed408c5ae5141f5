//! Invitations: what an operator gives to whoever may join, as one link.
//!
//! | form | for |
//! |---|---|
//! | `infera://join?to=HOST:PORT&pin=FINGERPRINT&token=TOKEN` | programs, by a click or as a text |
//! | `https://HOST:PORT/join#pin=FINGERPRINT&token=TOKEN` | people without the program: a page of the balancer's. What follows `#` is never sent to a server |
//!
//! The fingerprint is absent where a public authority signed the balancer's certificate. The token's
//! end is a checksum of fingerprint and token, so that a link which a mail program cut off or
//! changed is told from one that was revoked.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ts_rs::TS;

use crate::digest::Digest;
use crate::ids::Hash;

/// What a link of this kind begins with.
pub const SCHEME: &str = "infera://";

const BEGIN: &str = "infera://join";
/// The path of the balancer's page for people.
const PAGE: &str = "/join";
const SECRET_BYTES: usize = 16;
const CHECK_BYTES: usize = 5;
const TOKEN_CHARACTERS: usize = (SECRET_BYTES + CHECK_BYTES) * 8 / 6;
const FINGERPRINT_CHARACTERS: usize = 43;
/// Nothing that is longer is read.
const LONGEST_LINK: usize = 2048;

/// Where a network is, how its balancer is known, and what lets one in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The balancer's address, without a slash at its end: `https://HOST`, with a port or a path
    /// where it has one, or `http://` on this machine.
    pub address: String,
    /// None where the usual authorities vouch for the balancer's certificate.
    pub fingerprint: Option<Fingerprint>,
    /// What lets one in.
    pub token: InvitationToken,
}

/// SHA-256 of the public key in a TLS certificate (its DER `SubjectPublicKeyInfo`). A certificate
/// that is renewed with the same key keeps it. Written in base64 for addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, TS)]
#[ts(type = "string")]
pub struct Fingerprint([u8; 32]);

/// 128 random bits that an operator gives out, and that count their uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InvitationToken([u8; SECRET_BYTES]);

/// Why a text is no invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadInvitation {
    /// It is something else.
    #[error(
        "This is not an invitation. One begins with `infera://join` or with `https://` and has a token: copy the whole link"
    )]
    NotOne,
    /// Its end is missing.
    #[error(
        "The invitation is cut off: its last characters are missing. Copy the whole link; mail programs break long lines"
    )]
    CutOff,
    /// Its checksum is another.
    #[error(
        "The invitation was changed on its way: its checksum is wrong. Ask for it again, as a file or a QR code"
    )]
    Changed,
    /// Plain HTTP to another machine.
    #[error(
        "The invitation names an address without encryption. Ask its operator for one with https"
    )]
    PlainHttp,
}

impl Invitation {
    /// The link that the desktop program is opened by.
    pub fn link(&self) -> String {
        let to = self
            .address
            .strip_prefix("https://")
            .unwrap_or(&self.address);
        format!("{BEGIN}?to={to}&{}", self.credentials())
    }

    /// The link to the balancer's own page.
    pub fn page(&self) -> String {
        format!("{}{PAGE}#{}", self.address, self.credentials())
    }

    fn credentials(&self) -> String {
        let token = self.token.sealed(self.fingerprint.as_ref());
        match self.fingerprint {
            Some(fingerprint) => format!("pin={fingerprint}&token={token}"),
            None => format!("token={token}"),
        }
    }

    /// Whether a person means an invitation by a text, whole or not, and not an address.
    pub fn is_meant(text: &str) -> bool {
        let text = bare(text);
        text.to_ascii_lowercase().starts_with(SCHEME) || text.contains("token=")
    }
}

/// Reads both forms, also with the line breaks and brackets of a mail around and inside it.
impl FromStr for Invitation {
    type Err = BadInvitation;

    fn from_str(text: &str) -> Result<Self, BadInvitation> {
        if text.len() > LONGEST_LINK {
            return Err(BadInvitation::NotOne);
        }
        let text = bare(text);
        let (address, credentials) = parts(&text)?;
        let mut pin = None;
        let mut token = None;
        let mut to = address;
        for part in credentials.split('&') {
            match part.split_once('=') {
                Some(("pin", value)) => pin = Some(value),
                Some(("token", value)) => token = Some(value),
                Some(("to", value)) if to.is_none() => to = Some(value.to_owned()),
                // What later versions add.
                _ => {}
            }
        }
        let to = to.ok_or(BadInvitation::CutOff)?;
        let token = token.ok_or(BadInvitation::CutOff)?;
        let fingerprint = pin.map(fingerprint).transpose()?;
        let token = InvitationToken::unsealed(token, fingerprint.as_ref())?;
        Ok(Self {
            address: whole_address(&to)?,
            fingerprint,
            token,
        })
    }
}

/// Without what mail programs and people put around and into a link.
fn bare(text: &str) -> String {
    let joined: String = text
        .chars()
        .filter(|letter| !letter.is_whitespace() && !letter.is_control())
        .collect();
    joined
        .trim_matches(['<', '>', '"', '\'', '`', '(', ')', '[', ']', ',', '.', ';'])
        .to_owned()
}

/// The address that stands before the credentials, and these.
fn parts(text: &str) -> Result<(Option<String>, &str), BadInvitation> {
    if let Some(begin) = text.get(..SCHEME.len())
        && begin.eq_ignore_ascii_case(SCHEME)
    {
        // Browsers put a slash before the question mark.
        let rest = text[SCHEME.len()..].trim_start_matches("join");
        let rest = rest.trim_start_matches('/');
        return match rest.strip_prefix('?') {
            Some(credentials) => Ok((None, credentials)),
            None if rest.is_empty() => Err(BadInvitation::CutOff),
            None => Err(BadInvitation::NotOne),
        };
    }
    let (page, credentials) = text.split_once('#').ok_or(BadInvitation::NotOne)?;
    let address = page
        .trim_end_matches('/')
        .strip_suffix(PAGE)
        .ok_or(BadInvitation::NotOne)?;
    Ok((Some(address.to_owned()), credentials))
}

fn fingerprint(text: &str) -> Result<Fingerprint, BadInvitation> {
    if text.len() < FINGERPRINT_CHARACTERS {
        return Err(BadInvitation::CutOff);
    }
    text.parse().map_err(|_| BadInvitation::Changed)
}

fn whole_address(to: &str) -> Result<String, BadInvitation> {
    let address = match to.split_once("://") {
        None => format!("https://{to}"),
        Some(("https", _)) => to.to_owned(),
        Some(("http", host)) if is_this_machine(host) => to.to_owned(),
        Some(("http", _)) => return Err(BadInvitation::PlainHttp),
        Some(_) => return Err(BadInvitation::NotOne),
    };
    let host = address.split_once("://").map_or("", |(_, host)| host);
    let odd = |letter: char| !letter.is_ascii_graphic() || "@?#\\\"'<>%{}|^`".contains(letter);
    if host.is_empty() || host.starts_with([':', '/']) || host.contains(odd) {
        return Err(BadInvitation::NotOne);
    }
    Ok(address.trim_end_matches('/').to_owned())
}

fn is_this_machine(host: &str) -> bool {
    let end = host.find('/').unwrap_or(host.len());
    let host = &host[..end];
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    name == "localhost"
        || name == "[::1]"
        || name
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

impl Fingerprint {
    /// Takes a SHA-256.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The SHA-256.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Fingerprint({self})")
    }
}

/// A text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate's fingerprint has {FINGERPRINT_CHARACTERS} characters of base64")]
pub struct BadFingerprint;

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadFingerprint)?;
        bytes.try_into().map(Self).map_err(|_| BadFingerprint)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl InvitationToken {
    /// Takes random bytes.
    pub const fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// What a balancer keeps in its place.
    pub fn hash(&self) -> Hash {
        Digest::new("infera/invitation/v1").fixed(&self.0).finish()
    }

    /// The token as it stands in a link.
    fn sealed(&self, fingerprint: Option<&Fingerprint>) -> String {
        let mut bytes = self.0.to_vec();
        bytes.extend_from_slice(&self.check(fingerprint));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn unsealed(text: &str, fingerprint: Option<&Fingerprint>) -> Result<Self, BadInvitation> {
        if text.len() < TOKEN_CHARACTERS {
            return Err(BadInvitation::CutOff);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| BadInvitation::Changed)?;
        let (secret, check) = bytes
            .split_first_chunk::<SECRET_BYTES>()
            .ok_or(BadInvitation::Changed)?;
        let token = Self(*secret);
        if check != token.check(fingerprint) {
            return Err(BadInvitation::Changed);
        }
        Ok(token)
    }

    fn check(&self, fingerprint: Option<&Fingerprint>) -> [u8; CHECK_BYTES] {
        let digest = Digest::new("infera/invitation-check/v1")
            .bytes(fingerprint.map_or(&[], |fingerprint| fingerprint.0.as_slice()))
            .fixed(&self.0)
            .finish();
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&digest.as_bytes()[..CHECK_BYTES]);
        check
    }
}

/// It is a secret, and shown nowhere but in a link.
impl fmt::Debug for InvitationToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("InvitationToken")
    }
}

impl Serialize for InvitationToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// Also as it stands in a link, with its checksum: a page has nothing to take it apart with.
impl<'de> Deserialize<'de> for InvitationToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD
            .decode(text.as_bytes())
            .map_err(serde::de::Error::custom)?;
        match bytes.split_first_chunk() {
            Some((secret, [])) => Ok(Self(*secret)),
            Some((secret, check)) if check.len() == CHECK_BYTES => Ok(Self(*secret)),
            _ => Err(serde::de::Error::custom(
                "an invitation's token has 16 bytes, or 21 with its checksum",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn invitation(address: &str, pinned: bool) -> Invitation {
        Invitation {
            address: address.to_owned(),
            fingerprint: pinned.then(|| Fingerprint::from_bytes([7; 32])),
            token: InvitationToken::from_bytes([9; 16]),
        }
    }

    fn read(text: &str) -> Result<Invitation, BadInvitation> {
        text.parse()
    }

    #[test]
    fn both_links_say_the_same() {
        for address in [
            "https://192.168.1.5:8431",
            "https://net.example",
            "https://net.example/infera",
            "https://[fd00::1]:8431",
            "http://127.0.0.1:8431",
            "http://localhost:1",
        ] {
            for pinned in [false, true] {
                let invitation = invitation(address, pinned);
                for link in [invitation.link(), invitation.page()] {
                    assert_eq!(read(&link).as_ref(), Ok(&invitation), "{link}");
                    assert!(Invitation::is_meant(&link));
                }
            }
        }
    }

    #[test]
    fn the_links_look_like_this() {
        let of_a_lan = invitation("https://192.168.1.5:8431", true);
        assert_eq!(
            of_a_lan.link(),
            "infera://join?to=192.168.1.5:8431&pin=BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc&token=CQkJCQkJCQkJCQkJCQkJCf7oeMKz"
        );
        assert!(
            invitation("https://net.example", false)
                .page()
                .starts_with("https://net.example/join#token=")
        );
    }

    #[test]
    fn a_token_is_read_with_its_checksum_and_without() {
        let token = invitation("https://a", true).token;
        let bare = serde_json::to_string(&token).unwrap();
        assert_eq!(bare, "\"CQkJCQkJCQkJCQkJCQkJCQ\"");
        let of_a_link = format!("\"{}\"", token.sealed(None));
        for text in [bare, of_a_link.clone()] {
            assert_eq!(
                serde_json::from_str::<InvitationToken>(&text).unwrap(),
                token
            );
        }
        for bad in [&of_a_link[..20], "\"CQkJ\"", "\"\"", "7"] {
            assert!(
                serde_json::from_str::<InvitationToken>(bad).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn what_a_mail_does_to_a_link_as_a_table() {
        let invitation = invitation("https://192.168.1.5:8431", true);
        let link = invitation.link();
        let (first, second) = link.split_at(60);
        for good in [
            format!("  {link}\n"),
            format!("<{link}>"),
            format!("\"{link}\"."),
            format!("{first}\r\n  {second}"),
            link.replace("infera://join?", "infera://join/?"),
            link.replace("infera://", "INFERA://"),
            format!("{link}&later=1"),
        ] {
            assert_eq!(read(&good).as_ref(), Ok(&invitation), "{good}");
        }
        let other = link.replace("BwcH", "BwcG");
        let token_at = link.find("token=").unwrap();
        for (bad, fault) in [
            (&link[..link.len() - 1], BadInvitation::CutOff),
            (&link[..token_at], BadInvitation::CutOff),
            (&link[..50], BadInvitation::CutOff),
            ("infera://join", BadInvitation::CutOff),
            (&other, BadInvitation::Changed),
            (&link.to_lowercase(), BadInvitation::Changed),
            (&format!("{link}A"), BadInvitation::Changed),
            ("https://net.example", BadInvitation::NotOne),
            ("https://net.example/other#token=1", BadInvitation::NotOne),
            ("infera://pay?to=1", BadInvitation::NotOne),
            ("", BadInvitation::NotOne),
            (&"x".repeat(5000), BadInvitation::NotOne),
        ] {
            assert_eq!(read(bad), Err(fault), "{bad}");
        }
    }

    #[test]
    fn an_address_that_could_deceive_is_refused() {
        let token = invitation("https://a", false).token.sealed(None);
        for (to, fault) in [
            ("http://192.168.1.5:8431", BadInvitation::PlainHttp),
            ("http://localhost.example", BadInvitation::PlainHttp),
            ("http://127.0.0.1.example", BadInvitation::PlainHttp),
            ("ftp://net.example", BadInvitation::NotOne),
            ("good.example@evil.example", BadInvitation::NotOne),
            ("", BadInvitation::NotOne),
            (":8431", BadInvitation::NotOne),
            ("net.example?x=1", BadInvitation::NotOne),
        ] {
            let link = format!("infera://join?to={to}&token={token}");
            assert_eq!(read(&link), Err(fault), "{to}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,300}") {
            let _ = read(&text);
            let _ = read(&format!("infera://join?{text}"));
            let _ = Invitation::is_meant(&text);
        }

        #[test]
        fn a_link_with_one_other_character_is_never_taken_for_another(
            at in 14..120usize, other in "[A-Za-z0-9_-]"
        ) {
            let invitation = invitation("https://192.168.1.5:8431", true);
            let mut link = invitation.link();
            let credentials = link.find("pin=").unwrap() + 4;
            let at = credentials + at % (link.len() - credentials);
            if &link[at..=at] == other.as_str() || "=&token".contains(&link[at..=at]) {
                return Ok(());
            }
            link.replace_range(at..=at, &other);
            prop_assert!(read(&link).is_err());
        }
    }
}
