//! Accounts: a key pair that owns nodes and API keys, whatever network they are in.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `POST /account/v1/challenge` | [`AccountChallengeRequest`] | [`crate::node_api::Challenge`] |
//! | `POST /account/v1/session` | [`AccountSessionRequest`] | [`AccountSession`] |
//! | `GET /account/v1/overview` | – | [`Overview`] |
//! | `GET /account/v1/statement?days=N` | – | [`Statement`] |
//! | `GET /account/v1/keys` | – | list of [`AccountKeyRow`] |
//! | `POST /account/v1/keys` | [`KeyRequest`] | [`NewKey`] |
//! | `DELETE /account/v1/keys/{name}` | – | 204 |
//! | `POST /account/v1/links` | [`LinkGrant`] | 204 |
//! | `GET /account/v1/fleet` | – | list of [`Machine`] |
//! | `POST /account/v1/fleet/{node}/command` | [`FleetCommand`] | 204 |
//! | `DELETE /account/v1/fleet/{node}` | – | 204: the node is the account's no more |
//! | `GET /node/v1/links/{link}` | – | [`LinkGrant`] (by a node, with its session) |
//! | `POST /node/v1/account` | [`Ownership`] | [`Linked`] (by a node, with its session) |
//! | `DELETE /node/v1/account` | – | 204 (by a node, with its session) |
//!
//! All account calls but the first two carry `Authorization: Bearer <session token>`. The balancer
//! is trusted with none of this: whose a node is, and what a node is told to do, is signed by the
//! account, and the node checks it. What the balancer could do is to withhold it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ts_rs::TS;

use crate::digest::Digest;
use crate::ids::{AccountId, Hash, LinkId, NodeId};
use crate::node_api::Points;
use crate::signature::{NodeKey, Signature};

/// An account's secret. Its debug form never shows it.
pub struct AccountKey(NodeKey);

impl AccountKey {
    /// Takes 32 secret random bytes.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(NodeKey::from_secret(secret))
    }

    /// The 32 bytes for [`Self::from_secret`]: whoever has them owns the account.
    pub fn secret(&self) -> [u8; 32] {
        self.0.secret()
    }

    /// The public key, by which others know the account.
    pub fn id(&self) -> AccountId {
        AccountId::from_bytes(*self.0.id().as_bytes())
    }

    /// Signs a digest.
    pub fn sign(&self, digest: Hash) -> Signature {
        self.0.sign(digest)
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AccountKey({})", self.id().short())
    }
}

/// The first call of an account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountChallengeRequest {
    /// [`crate::VERSION`] of the caller.
    pub version: u16,
    /// Who wants a session.
    pub account: AccountId,
}

/// Proves that the caller holds the account's key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountSessionRequest {
    /// [`crate::VERSION`] of the caller.
    pub version: u16,
    /// Whose session it is.
    pub account: AccountId,
    /// The one that the balancer gave.
    pub challenge: Hash,
    /// Over [`account_session_digest`].
    pub signature: Signature,
}

/// What an account signs to open a session.
pub fn account_session_digest(account: &AccountId, challenge: &Hash) -> Hash {
    Digest::new("infera/account-session/v1")
        .fixed(account.as_bytes())
        .fixed(challenge.as_bytes())
        .finish()
}

/// What an account gets for a good answer. An account may have several sessions at once, so that
/// one that was restored on a second machine works on both.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountSession {
    /// Secret: for the `Authorization` header only.
    pub token: String,
    /// How long it is good for.
    pub seconds: u32,
}

/// What lets a machine become an account's: sixteen characters that are shown on one machine and
/// typed on another. Both derive a key pair of them, so nobody else can have part in it, the
/// balancer that carries the messages included.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkCode([u8; CODE_BYTES]);

/// A text that is no linking code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "This is not a linking code. One has sixteen letters and digits in groups of four, for example `7KQ2-M9XD-4HTC-VB3N`"
)]
pub struct BadLinkCode;

const CODE_BYTES: usize = 10;
/// Crockford's base 32: without letters that are mistaken for digits.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl LinkCode {
    /// How many random bytes make one.
    pub const BYTES: usize = CODE_BYTES;

    /// Takes secret random bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// By which the balancer finds what was granted with it.
    pub fn id(&self) -> LinkId {
        LinkId::from_bytes(*self.key().id().as_bytes())
    }

    fn key(&self) -> NodeKey {
        let secret = Digest::new("infera/link-key/v1").fixed(&self.0).finish();
        NodeKey::from_secret(secret.as_bytes())
    }

    /// Made by the machine that has the account's key, and given to the balancer.
    pub fn grant(&self, account: &AccountKey, max_uses: u32, expires_ms: i64) -> LinkGrant {
        let digest = grant_digest(&account.id(), &self.id(), max_uses, expires_ms);
        LinkGrant {
            account: account.id(),
            link: self.id(),
            max_uses,
            expires_ms,
            account_signature: account.sign(digest),
            link_signature: self.key().sign(digest),
        }
    }

    /// Made by the machine that was given the code, once it has [checked](LinkGrant::check) what
    /// the balancer says was granted with it.
    pub fn ownership(&self, grant: LinkGrant, node: NodeId) -> Ownership {
        let signature = self.key().sign(ownership_digest(&grant.account, &node));
        Ownership {
            grant,
            node,
            signature,
        }
    }
}

impl fmt::Display for LinkCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bits = 0u128;
        for byte in self.0 {
            bits = bits << 8 | u128::from(byte);
        }
        for at in 0..16 {
            if at > 0 && at % 4 == 0 {
                formatter.write_str("-")?;
            }
            let letter = LETTERS[(bits >> (75 - 5 * at) & 31) as usize];
            fmt::Write::write_char(formatter, char::from(letter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for LinkCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LinkCode({})", self.id().short())
    }
}

/// Takes small letters, what looks like a digit for the digit, and any spaces and dashes.
impl FromStr for LinkCode {
    type Err = BadLinkCode;

    fn from_str(text: &str) -> Result<Self, BadLinkCode> {
        let mut bits = 0u128;
        let mut count = 0;
        for letter in text.chars() {
            let letter = match letter.to_ascii_uppercase() {
                '-' | '–' => continue,
                space if space.is_whitespace() => continue,
                'O' => '0',
                'I' | 'L' => '1',
                letter => letter,
            };
            let value = LETTERS
                .iter()
                .position(|known| char::from(*known) == letter);
            bits = bits << 5 | value.ok_or(BadLinkCode)? as u128;
            count += 1;
            if count > 16 {
                return Err(BadLinkCode);
            }
        }
        if count != 16 {
            return Err(BadLinkCode);
        }
        let mut bytes = [0; Self::BYTES];
        bytes.copy_from_slice(&bits.to_be_bytes()[6..]);
        Ok(Self(bytes))
    }
}

/// An account's word that whoever has a linking code may become its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkGrant {
    /// Whose nodes they become.
    pub account: AccountId,
    /// Whose code it is.
    pub link: LinkId,
    /// How many machines may become its nodes by it.
    pub max_uses: u32,
    /// Unix time in milliseconds.
    pub expires_ms: i64,
    /// The account's.
    pub account_signature: Signature,
    /// The code's: nobody who does not have the code can put another account here.
    pub link_signature: Signature,
}

/// Why a grant or an ownership counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadOwnership {
    /// A signature is missing or of somebody else.
    #[error(
        "A signature of it is wrong: somebody has changed it on its way, or it is another account's"
    )]
    Forged,
    /// Its time is over.
    #[error(
        "The linking code's time is over. Have another one shown on the machine with the account"
    )]
    Expired,
}

fn grant_digest(account: &AccountId, link: &LinkId, max_uses: u32, expires_ms: i64) -> Hash {
    Digest::new("infera/link-grant/v1")
        .fixed(account.as_bytes())
        .fixed(link.as_bytes())
        .u32(max_uses)
        .u64(expires_ms.cast_unsigned())
        .finish()
}

impl LinkGrant {
    /// Whether account and code both stand behind it. Whoever has the code compares
    /// [`LinkCode::id`] with [`Self::link`] too.
    pub fn check(&self, now_ms: i64) -> Result<(), BadOwnership> {
        let digest = grant_digest(&self.account, &self.link, self.max_uses, self.expires_ms);
        let by_account = self
            .account_signature
            .is_by(self.account.as_bytes(), digest);
        if !by_account || !self.link_signature.is_by(self.link.as_bytes(), digest) {
            return Err(BadOwnership::Forged);
        }
        if self.expires_ms <= now_ms {
            return Err(BadOwnership::Expired);
        }
        Ok(())
    }
}

/// A node is an account's: the account said so through a code, and the node, which sends it, agrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// The account's word.
    pub grant: LinkGrant,
    /// Who becomes its node.
    pub node: NodeId,
    /// The code's, over account and node.
    pub signature: Signature,
}

fn ownership_digest(account: &AccountId, node: &NodeId) -> Hash {
    Digest::new("infera/ownership/v1")
        .fixed(account.as_bytes())
        .fixed(node.as_bytes())
        .finish()
}

impl Ownership {
    /// Whether all signatures are there and its code's time is not over.
    pub fn check(&self, now_ms: i64) -> Result<(), BadOwnership> {
        self.grant.check(now_ms)?;
        let digest = ownership_digest(&self.grant.account, &self.node);
        if !self.signature.is_by(self.grant.link.as_bytes(), digest) {
            return Err(BadOwnership::Forged);
        }
        Ok(())
    }
}

/// The node is the account's now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// Whose.
    pub account: AccountId,
}

/// What an account can have its nodes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FleetAction {
    /// Until somebody resumes it.
    Pause,
    /// Until a time.
    Snooze {
        /// Unix time in milliseconds.
        until_ms: i64,
    },
    /// The owner's rules hold again.
    Resume,
}

/// What an account tells one of its nodes. The balancer only carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetCommand {
    /// Who says it.
    pub account: AccountId,
    /// To whom.
    pub node: NodeId,
    /// When it was made: Unix time in milliseconds. A node takes none that is not newer than the
    /// last, so nobody can play one again.
    pub made_ms: i64,
    /// What to do.
    pub action: FleetAction,
    /// The account's, over all of it.
    pub signature: Signature,
}

/// How long a command may be under way.
pub const COMMAND_LIFE_MS: i64 = 120_000;

/// Why a node does not do what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// Not signed by the account that the node belongs to, or for another node.
    #[error("the command is not one of this node's account")]
    Forged,
    /// It was under way for too long, or the clocks differ.
    #[error(
        "the command is too old, or the clocks of the two machines differ by more than two minutes"
    )]
    Stale,
    /// One as new or newer was done before.
    #[error("the command was done before, or a newer one was")]
    Replayed,
}

impl FleetCommand {
    /// Made by whoever has the account's key.
    pub fn new(account: &AccountKey, node: NodeId, made_ms: i64, action: FleetAction) -> Self {
        let digest = command_digest(&account.id(), &node, made_ms, action);
        Self {
            account: account.id(),
            node,
            made_ms,
            action,
            signature: account.sign(digest),
        }
    }

    /// Whether a node of `account` does it, when the last one that it did was made at `last_ms`.
    pub fn check(
        &self,
        account: &AccountId,
        node: &NodeId,
        last_ms: i64,
        now_ms: i64,
    ) -> Result<(), BadCommand> {
        let digest = command_digest(&self.account, &self.node, self.made_ms, self.action);
        if self.account != *account
            || self.node != *node
            || !self.signature.is_by(account.as_bytes(), digest)
        {
            return Err(BadCommand::Forged);
        }
        if self.made_ms.abs_diff(now_ms) > COMMAND_LIFE_MS.unsigned_abs() {
            return Err(BadCommand::Stale);
        }
        if self.made_ms <= last_ms {
            return Err(BadCommand::Replayed);
        }
        Ok(())
    }
}

fn command_digest(account: &AccountId, node: &NodeId, made_ms: i64, action: FleetAction) -> Hash {
    let digest = Digest::new("infera/fleet-command/v1")
        .fixed(account.as_bytes())
        .fixed(node.as_bytes())
        .u64(made_ms.cast_unsigned());
    match action {
        FleetAction::Pause => digest.u8(0),
        FleetAction::Snooze { until_ms } => digest.u8(1).u64(until_ms.cast_unsigned()),
        FleetAction::Resume => digest.u8(2),
    }
    .finish()
}

/// What a node that is an account's tells its owner. Others are not shown it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct MachineReport {
    /// As its owner calls it.
    pub name: String,
    /// Name and version of the program.
    #[serde(default)]
    pub software: String,
    /// Whether it does what its account tells it from afar.
    pub takes_commands: bool,
    /// Its GPUs, or its CPU.
    pub devices: Vec<DeviceReport>,
}

/// One device of a [`MachineReport`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct DeviceReport {
    /// Its maker's name of it.
    pub name: String,
    /// Why it takes no jobs, in words for a person; none while it takes some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub paused: Option<String>,
    /// Of all jobs that it writes now.
    #[serde(default, deserialize_with = "crate::finite::number")]
    pub tokens_per_second: f32,
}

/// One node of an account, as the balancer knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Machine {
    /// Which.
    pub node: NodeId,
    /// What it last said; none of one that was not here since the balancer started.
    pub report: Option<MachineReport>,
    /// Whether it is here now.
    pub here: bool,
    /// Why it takes no jobs, in words for a person; none while it takes some.
    pub paused: Option<String>,
    /// Jobs and checks that it has now.
    pub running: u32,
    /// Jobs that passed, ever.
    pub verified: u32,
    /// What it has earned in this network.
    pub points: Points,
    /// Unix time in milliseconds.
    pub last_seen_ms: Option<i64>,
}

/// What an account has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Overview {
    /// Micro-points that can be spent: [`Self::earned`] less [`Self::spent`].
    pub balance: i64,
    /// Confirmed micro-points of its nodes, those that were its nodes once included.
    pub earned: i64,
    /// Micro-points that its keys have spent, with what is set aside for what runs now.
    pub spent: i64,
    /// How many nodes it has.
    pub nodes: u32,
}

/// What an account's keys spent, by day, key and model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct Statement {
    /// As it is now.
    pub overview: Overview,
    /// Newest first. They add up to what the books say of these days.
    pub spent: Vec<Spending>,
}

/// One line of a [`Statement`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Spending {
    /// When the day began, in UTC: Unix time in milliseconds.
    pub day_ms: i64,
    /// Name of the key.
    pub key: String,
    /// The name that the client used.
    pub model: String,
    /// Requests that began on this day.
    pub requests: u32,
    /// Micro-points that were posted on this day, less what came back.
    pub micro: i64,
}

/// An account makes a key.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct KeyRequest {
    /// 1 to 64 letters, digits, `-`, `_`, `.` or `@`; no two of an account in use have the same.
    pub name: String,
    /// Micro-points on one day in UTC; none for no limit but the balance.
    #[serde(default)]
    pub daily_limit: Option<i64>,
    /// Where its requests go when they do not say.
    #[serde(default)]
    pub route: Route,
}

/// The key, this one time.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct NewKey {
    /// Secret: what a client sends.
    pub key: String,
}

/// One key of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct AccountKeyRow {
    /// As its owner calls it.
    pub name: String,
    /// Micro-points on one day in UTC; none for no limit but the balance.
    pub daily_limit: Option<i64>,
    /// Where its requests go when they do not say.
    pub route: Route,
    /// Micro-points, ever.
    pub spent: i64,
    /// Micro-points on this day in UTC.
    pub spent_today: i64,
    /// Unix time in milliseconds.
    pub created_ms: i64,
    /// Unix time in milliseconds; none while it is in use.
    pub revoked_ms: Option<i64>,
}

/// Where a request may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// To the account's own nodes: it costs nothing and is not checked.
    Own,
    /// To nodes that the operator trusts: it is not checked, so no other machine sees it.
    Trusted,
    /// To any node of the network.
    #[default]
    Any,
}

impl Route {
    /// As it is written in a request and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Trusted => "trusted",
            Self::Any => "any",
        }
    }
}

/// Reads [`Route::word`].
impl FromStr for Route {
    type Err = UnknownRoute;

    fn from_str(text: &str) -> Result<Self, UnknownRoute> {
        match text {
            "own" => Ok(Self::Own),
            "trusted" => Ok(Self::Trusted),
            "any" => Ok(Self::Any),
            _ => Err(UnknownRoute),
        }
    }
}

/// A text that is no [`Route`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("A route is `own`, `trusted` or `any`")]
pub struct UnknownRoute;

impl Serialize for LinkCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LinkCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn account(number: u8) -> AccountKey {
        AccountKey::from_secret(&[number; 32])
    }

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    proptest! {
        #[test]
        fn a_code_survives_how_people_type_it(bytes: [u8; LinkCode::BYTES]) {
            let code = LinkCode::from_bytes(bytes);
            let text = code.to_string();
            prop_assert_eq!(text.len(), 19);
            let sloppy = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
            for typed in [&text, &sloppy] {
                prop_assert_eq!(typed.parse::<LinkCode>(), Ok(code.clone()));
            }
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let code = LinkCode::from_bytes([7; LinkCode::BYTES]).to_string();
        for text in [
            "",
            "7KQ2",
            &code[1..],
            &format!("{code}0"),
            &code.replace('3', "U"),
            "ä",
        ] {
            if text != code {
                assert_eq!(text.parse::<LinkCode>(), Err(BadLinkCode), "{text}");
            }
        }
    }

    #[test]
    fn a_grant_is_of_one_account_and_one_code() {
        let code = LinkCode::from_bytes([1; LinkCode::BYTES]);
        let grant = code.grant(&account(1), 5, NOW + 1);
        assert_eq!(grant.check(NOW), Ok(()));
        assert_eq!(grant.link, code.id());
        assert_eq!(grant.check(NOW + 1), Err(BadOwnership::Expired));
        // The balancer knows the code's public key, and not the code.
        let other = LinkCode::from_bytes([2; LinkCode::BYTES]);
        let mut forged = other.grant(&account(2), 5, NOW + 1);
        forged.link = code.id();
        for forged in [
            forged,
            LinkGrant {
                max_uses: 6,
                ..grant
            },
            LinkGrant {
                expires_ms: NOW + 2,
                ..grant
            },
            LinkGrant {
                account: account(2).id(),
                ..grant
            },
        ] {
            assert_eq!(forged.check(NOW), Err(BadOwnership::Forged));
        }
    }

    #[test]
    fn an_ownership_is_of_one_node_that_had_the_code() {
        let code = LinkCode::from_bytes([1; LinkCode::BYTES]);
        let grant = code.grant(&account(1), 5, NOW + 1);
        let ownership = code.ownership(grant, node(1));
        assert_eq!(ownership.check(NOW), Ok(()));
        assert_eq!(ownership.check(NOW + 1), Err(BadOwnership::Expired));
        let json = serde_json::to_string(&ownership).unwrap();
        assert_eq!(serde_json::from_str::<Ownership>(&json).unwrap(), ownership);
        let without_code = LinkCode::from_bytes([2; LinkCode::BYTES]).ownership(grant, node(1));
        let of_another = Ownership {
            node: node(2),
            ..ownership
        };
        for forged in [without_code, of_another] {
            assert_eq!(forged.check(NOW), Err(BadOwnership::Forged));
        }
    }

    #[test]
    fn which_commands_a_node_does_as_a_table() {
        let mine = account(1).id();
        let snooze = FleetAction::Snooze {
            until_ms: NOW + 60_000,
        };
        let command = FleetCommand::new(&account(1), node(1), NOW, snooze);
        let of = |change: fn(&mut FleetCommand)| {
            let mut command = command;
            change(&mut command);
            command
        };
        let stranger = FleetCommand::new(&account(2), node(1), NOW, snooze);
        let forged = Err(BadCommand::Forged);
        for (command, last_ms, now_ms, outcome) in [
            (command, 0, NOW, Ok(())),
            (command, NOW - 1, NOW + COMMAND_LIFE_MS, Ok(())),
            (command, 0, NOW - COMMAND_LIFE_MS, Ok(())),
            (
                command,
                0,
                NOW + COMMAND_LIFE_MS + 1,
                Err(BadCommand::Stale),
            ),
            (
                command,
                0,
                NOW - COMMAND_LIFE_MS - 1,
                Err(BadCommand::Stale),
            ),
            (command, NOW, NOW, Err(BadCommand::Replayed)),
            (command, i64::MAX, NOW, Err(BadCommand::Replayed)),
            (stranger, 0, NOW, forged),
            (
                of(|command| command.account = account(2).id()),
                0,
                NOW,
                forged,
            ),
            (of(|command| command.node = node(2)), 0, NOW, forged),
            (of(|command| command.made_ms += 1), 0, NOW, forged),
            (of(|command| command.made_ms = i64::MIN), 0, NOW, forged),
            (
                of(|command| command.action = FleetAction::Pause),
                0,
                NOW,
                forged,
            ),
            (
                of(|command| command.action = FleetAction::Resume),
                0,
                NOW,
                forged,
            ),
        ] {
            assert_eq!(
                command.check(&mine, &node(1), last_ms, now_ms),
                outcome,
                "{command:?} {last_ms} {now_ms}"
            );
        }
    }

    #[test]
    fn no_debug_form_shows_a_secret() {
        let code = LinkCode::from_bytes([9; LinkCode::BYTES]);
        assert!(!format!("{code:?}").contains(&code.to_string()[..4]));
        assert!(!format!("{:?}", account(7)).contains("0707"));
    }
}
