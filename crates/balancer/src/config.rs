//! What can be set about a balancer, as data, with the defaults.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use infera_model::rendering::Limits;
use infera_protocol::node_api::{AdmissionRule, Checking};
use infera_protocol::requirements::Policy;
use infera_protocol::{Invitation, InvitationToken};
use serde::{Deserialize, Deserializer};

use crate::server::Tls;

/// Name of the optional settings file inside the data folder.
pub(crate) const FILE_NAME: &str = "balancer.toml";
/// Where `serve` listens unless told otherwise.
const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8431));
/// Characters of the network's and the operator's name, and of the rules.
const LONGEST_NAME: usize = 100;
const LONGEST_RULES: usize = 4000;
/// Name of the optional file of prompts for canaries, beside it.
const PROMPTS_NAME: &str = "canaries.txt";

/// Every setting. Durations are written in milliseconds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the network is called before people who think of joining; its policy's name without one.
    pub name: Option<String>,
    /// Who runs it, in the operator's words.
    pub operator: Option<String>,
    /// What the operator asks of those who join, in words.
    pub rules: Option<String>,
    /// What a node's machine must have: `public`, `practice`, or a JSON file.
    pub requirements: String,
    /// Whether answers are checked: `always` by reference nodes, or `none`, and then only nodes
    /// that the operator trusts get jobs.
    pub checking: Checking,
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Where the operators' page and API are served; with the rest unless it is set, and then only
    /// there.
    pub operator_listen: Option<SocketAddr>,
    /// How others reach the balancer, for invitations: `https://HOST:PORT`.
    pub address: Option<String>,
    /// Certificate chain and private key as PEM files; without them, connections are not encrypted
    /// here.
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// How long a node may go without sending output before its job goes to another.
    #[serde(deserialize_with = "milliseconds")]
    pub lease: Duration,
    /// Until the first token, a lease also covers the prompt: this much for each of its tokens.
    #[serde(deserialize_with = "milliseconds")]
    pub lease_per_prompt_token: Duration,
    /// A job that comes slower than this goes to another node.
    pub least_tokens_per_second: f64,
    /// What is taken of a node's speed with prompts while none was measured.
    pub least_prefill_per_second: f64,
    /// How long a job may take in all.
    #[serde(deserialize_with = "milliseconds")]
    pub job_deadline: Duration,
    /// A node with fewer verified jobs is a newcomer: it has one slot, and while known nodes are
    /// here only a small share of the offers.
    pub newcomer_jobs: u32,
    /// The part of jobs that a newcomer is offered beside known nodes, from 0 to 1.
    pub newcomer_share: f64,
    /// How long a job waits for a known node before free newcomers are offered it.
    #[serde(deserialize_with = "milliseconds")]
    pub newcomer_wait: Duration,
    /// How long a node gets no jobs after it lost one; doubled with each more, undone by jobs that
    /// are verified.
    #[serde(deserialize_with = "milliseconds")]
    pub lapse_pause: Duration,
    /// How far the network's own account may go below zero for references, in micro-points.
    pub subsidy_cap: i64,
    /// The part of a job's price that is charged and paid when no reference could check it, from 0
    /// to 1; of a node's share also no more than its record warrants.
    pub unchecked_pay: f64,
    /// How many jobs of one model may wait for references.
    pub audit_queue: usize,
    /// How long an offer stands before it is made anew.
    #[serde(deserialize_with = "milliseconds")]
    pub offer_deadline: Duration,
    /// How many nodes are offered a job first.
    pub first_ring: usize,
    /// When twice as many nodes are offered it, and so on.
    #[serde(deserialize_with = "milliseconds")]
    pub widen_after: Duration,
    /// How long a new job may wait for a free node.
    #[serde(deserialize_with = "milliseconds")]
    pub queue: Duration,
    /// How long a job that has begun may wait for another node.
    #[serde(deserialize_with = "milliseconds")]
    pub reassign: Duration,
    /// How many nodes may try a job before it fails.
    pub max_attempts: u32,
    /// How often a waiting client's job is run again after verification failed.
    pub max_reruns: u32,
    /// The part of jobs that is audited, from 0 to 1.
    pub audit_rate: f64,
    /// How many reference nodes check a job.
    pub references: usize,
    /// How many may be drawn when the first ones do not decide.
    pub max_references: usize,
    /// The part of all audits that are canaries: outputs whose faults are known.
    pub canary_rate: f64,
    /// What the network asks itself to have outputs for canaries: the lines of `canaries.txt` in
    /// the data folder, or some that suit any model. Without any there are no canaries.
    #[serde(skip)]
    pub canary_prompts: Vec<String>,
    /// How long a reference's pay is held while no canary can be sent to it.
    #[serde(deserialize_with = "milliseconds")]
    pub hold_without_canary: Duration,
    /// So many reports that the others contradict, without a canary met between, cost a reference
    /// its role.
    pub most_outvoted: u32,
    /// How long a reference may take to accept, to score, and to open its report.
    #[serde(deserialize_with = "milliseconds")]
    pub audit_accept: Duration,
    #[serde(deserialize_with = "milliseconds")]
    pub audit_score: Duration,
    #[serde(deserialize_with = "milliseconds")]
    pub audit_reveal: Duration,
    /// How long a node gets no jobs after its first failed verification; doubled with each more.
    #[serde(deserialize_with = "milliseconds")]
    pub ban: Duration,
    /// How long a client that waits is kept waiting for the verdict.
    #[serde(deserialize_with = "milliseconds")]
    pub verdict_wait: Duration,
    /// When a text that was never delivered is deleted anyway, and a job that no references have
    /// decided is settled unchecked.
    #[serde(deserialize_with = "milliseconds")]
    pub keep_text: Duration,
    /// A node counts as gone when nothing was heard of it for so long.
    #[serde(deserialize_with = "milliseconds")]
    pub node_timeout: Duration,
    /// How often an idle event stream shows that it lives.
    #[serde(deserialize_with = "milliseconds")]
    pub keep_alive: Duration,
    /// How many events a node can miss and still resume.
    pub event_buffer: usize,
    /// How many jobs one API key may have at once.
    pub jobs_per_key: usize,
    /// Output tokens when the client names no limit.
    pub default_max_tokens: u32,
    /// Who may join with an identity that has no verified job yet: `open` for everybody, `work`
    /// for everybody who has done some work for it, `invitation` for whoever has one.
    pub admission: AdmissionRule,
    /// How much work: about 2 to the power of this many digests, a second for 20 of them at most.
    pub work_bits: u8,
    /// How many nodes may be here from one address.
    pub nodes_per_address: usize,
    /// How many identities that are new may join from one address in an hour.
    pub new_nodes_per_address: usize,
    /// How many connections there may be at once.
    pub connections: usize,
    /// How many of them from one address: one of IPv4, or a /64 of IPv6. This machine may have
    /// all, because a reverse proxy connects from there.
    pub connections_per_address: usize,
    /// How long a connection may go without a request: before the first, between two, and for its
    /// headers.
    #[serde(deserialize_with = "milliseconds")]
    pub request_wait: Duration,
    /// How long a request's body may take to arrive.
    #[serde(deserialize_with = "milliseconds")]
    pub body_wait: Duration,
    /// How much memory the bodies of all clients' requests under way may take together, and those
    /// of all nodes' calls.
    pub body_bytes: usize,
    /// The header in which a reverse proxy names the address that it forwards for, for example
    /// `x-forwarded-for`. It is believed only from this machine and from `proxies`.
    pub proxy_header: Option<String>,
    /// Addresses of reverse proxies on other machines.
    pub proxies: Vec<IpAddr>,
    /// From which sites' pages browsers may call this, for example `https://chat.example.org`; `*`
    /// for all. A page needs a key all the same.
    pub allowed_origins: Vec<String>,
    /// How long a model's chat template may take for one conversation.
    #[serde(deserialize_with = "milliseconds")]
    pub template: Duration,
    /// How much memory it may take, in bytes.
    pub template_memory: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            operator: None,
            rules: None,
            requirements: "public".to_owned(),
            checking: Checking::Always,
            listen: LISTEN,
            operator_listen: None,
            address: None,
            tls_cert: None,
            tls_key: None,
            lease: Duration::from_secs(15),
            lease_per_prompt_token: Duration::from_millis(20),
            least_tokens_per_second: 0.5,
            least_prefill_per_second: 20.0,
            job_deadline: Duration::from_mins(30),
            newcomer_jobs: 10,
            newcomer_share: 0.1,
            newcomer_wait: Duration::from_secs(2),
            lapse_pause: Duration::from_secs(30),
            subsidy_cap: 10 * infera_protocol::MICRO_POINTS,
            unchecked_pay: 0.0,
            audit_queue: 4096,
            offer_deadline: Duration::from_secs(10),
            first_ring: 3,
            widen_after: Duration::from_millis(150),
            queue: Duration::from_secs(30),
            reassign: Duration::from_mins(1),
            max_attempts: 5,
            max_reruns: 2,
            audit_rate: 1.0,
            references: 2,
            max_references: 5,
            canary_rate: 0.04,
            canary_prompts: lines(include_str!("canaries.txt")),
            hold_without_canary: Duration::from_hours(7 * 24),
            most_outvoted: 3,
            audit_accept: Duration::from_secs(10),
            audit_score: Duration::from_mins(2),
            audit_reveal: Duration::from_secs(30),
            ban: Duration::from_mins(10),
            verdict_wait: Duration::from_mins(2),
            keep_text: Duration::from_hours(24),
            node_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(5),
            event_buffer: 512,
            jobs_per_key: 256,
            default_max_tokens: 4096,
            admission: AdmissionRule::Work,
            work_bits: 20,
            nodes_per_address: 32,
            new_nodes_per_address: 32,
            connections: 8192,
            connections_per_address: 256,
            request_wait: Duration::from_secs(15),
            body_wait: Duration::from_mins(1),
            body_bytes: 256 << 20,
            proxy_header: None,
            proxies: Vec::new(),
            allowed_origins: vec!["*".to_owned()],
            template: Limits::default().time,
            template_memory: Limits::default().memory_bytes,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not a valid settings file: {message}", path.display())]
    Settings { path: PathBuf, message: String },
    #[error("{} is not a valid policy: {message}. A policy has a `name` and any of `ram_bytes`, `free_disk_bytes`, `network_bytes_per_second`, `gpu`", path.display())]
    Policy { path: PathBuf, message: String },
}

impl Config {
    /// Reads the settings file in `folder`; without one, the defaults.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        let text = read(&folder.join(FILE_NAME))?.unwrap_or_default();
        Self::read(folder, &text)
    }

    /// Reads the text of a settings file. Files that it names are beside it.
    pub(crate) fn read(folder: &Path, text: &str) -> Result<Self, ConfigError> {
        let path = folder.join(FILE_NAME);
        let mut config: Self = toml::from_str(text).map_err(|error| ConfigError::Settings {
            path: path.clone(),
            message: error.message().to_owned(),
        })?;
        if let Some(prompts) = read(&folder.join(PROMPTS_NAME))? {
            config.canary_prompts = lines(&prompts);
        }
        config
            .check()
            .map_err(|message| ConfigError::Settings { path, message })?;
        let files = [&mut config.tls_cert, &mut config.tls_key];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
        if !is_named_policy(&config.requirements) {
            let file = folder.join(&config.requirements);
            config.requirements = file.to_string_lossy().into_owned();
        }
        Ok(config)
    }

    /// The certificate and its key that the settings name.
    pub(crate) fn tls(&self) -> Option<Tls> {
        let (certificate, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(Tls { certificate, key })
    }

    pub(crate) fn templates(&self) -> Limits {
        Limits {
            time: self.template,
            memory_bytes: self.template_memory,
            ..Limits::default()
        }
    }

    fn check(&self) -> Result<(), String> {
        self.check_network()?;
        if !(0.0..=1.0).contains(&self.audit_rate) {
            return Err("`audit_rate` must be from 0 to 1".to_owned());
        }
        for (name, part) in [
            ("newcomer_share", self.newcomer_share),
            ("unchecked_pay", self.unchecked_pay),
        ] {
            if !(0.0..=1.0).contains(&part) {
                return Err(format!("`{name}` must be from 0 to 1"));
            }
        }
        for (name, speed) in [
            ("least_tokens_per_second", self.least_tokens_per_second),
            ("least_prefill_per_second", self.least_prefill_per_second),
        ] {
            if !(0.001..=1e6).contains(&speed) {
                return Err(format!("`{name}` must be from 0.001 to 1000000"));
            }
        }
        if self.subsidy_cap < 0 {
            return Err("`subsidy_cap` must be at least 0".to_owned());
        }
        if self.lease.is_zero() || self.node_timeout.is_zero() {
            return Err("`lease` and `node_timeout` must be above 0".to_owned());
        }
        if self.request_wait.is_zero() || self.body_wait.is_zero() {
            return Err("`request_wait` and `body_wait` must be above 0".to_owned());
        }
        // A home computer would search for a day.
        if self.work_bits > 40 {
            return Err("`work_bits` must be at most 40".to_owned());
        }
        if self.nodes_per_address == 0 || self.new_nodes_per_address == 0 {
            return Err(
                "`nodes_per_address` and `new_nodes_per_address` must be at least 1".to_owned(),
            );
        }
        if self.body_bytes < 16 << 20 {
            return Err("`body_bytes` must be at least 16777216, the largest body".to_owned());
        }
        if self.connections == 0 || self.connections_per_address == 0 {
            return Err(
                "`connections` and `connections_per_address` must be at least 1".to_owned(),
            );
        }
        if let Some(wrong) = self
            .allowed_origins
            .iter()
            .find(|origin| !is_origin(origin))
        {
            return Err(format!(
                "`allowed_origins` holds `{}`; an origin is like `https://chat.example.org`, without a path, or `*`",
                wrong.chars().take(100).collect::<String>()
            ));
        }
        // Less leaves no room for the longest conversation.
        if self.template.is_zero() || self.template_memory < 128 << 20 {
            return Err(
                "`template` must be above 0 and `template_memory` at least 134217728".to_owned(),
            );
        }
        if !(0.0..=0.5).contains(&self.canary_rate) {
            return Err("`canary_rate` must be from 0 to 0.5".to_owned());
        }
        if self.most_outvoted == 0 {
            return Err("`most_outvoted` must be at least 1".to_owned());
        }
        // One report alone never decides.
        if self.references < 2 || self.max_references < self.references {
            return Err("`references` must be at least 2 and at most `max_references`".to_owned());
        }
        if self.first_ring == 0 || self.max_attempts == 0 || self.event_buffer == 0 {
            return Err(
                "`first_ring`, `max_attempts` and `event_buffer` must be at least 1".to_owned(),
            );
        }
        Ok(())
    }

    /// What others are told of the network, and how they reach it.
    fn check_network(&self) -> Result<(), String> {
        for (name, text, most) in [
            ("name", &self.name, LONGEST_NAME),
            ("operator", &self.operator, LONGEST_NAME),
            ("rules", &self.rules, LONGEST_RULES),
        ] {
            let Some(text) = text else { continue };
            let odd = |letter: char| letter.is_control() && !(name == "rules" && letter == '\n');
            if text.trim().is_empty() || text.chars().count() > most || text.contains(odd) {
                return Err(format!(
                    "`{name}` must have 1 to {most} characters, and none that is invisible; or leave it out"
                ));
            }
        }
        if let Some(address) = &self.address
            && !is_address(address)
        {
            return Err(
                "`address` must be like `https://192.168.1.5:8431`, without a slash at its end; `http://` only on this machine"
                    .to_owned(),
            );
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err("`tls_cert` and `tls_key` go together: set both, or none".to_owned());
        }
        Ok(())
    }
}

/// Whether an address can stand in an invitation, and is read from it as it was meant.
fn is_address(address: &str) -> bool {
    let invitation = Invitation {
        address: address.to_owned(),
        fingerprint: None,
        token: InvitationToken::from_bytes([0; 16]),
    };
    let links = [invitation.link(), invitation.page()];
    links
        .iter()
        .all(|link| link.parse() == Ok(invitation.clone()))
}

fn is_named_policy(name: &str) -> bool {
    matches!(name, "public" | "practice")
}

fn is_origin(text: &str) -> bool {
    text == "*"
        || text.split_once("://").is_some_and(|(scheme, host)| {
            !scheme.is_empty()
                && !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b'/')
        })
}

/// A file's text; none when there is no such file.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The lines that are not blank.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The requirements policy that a name stands for: `public`, `practice`, or a JSON file.
pub fn policy(name: &str) -> Result<Policy, ConfigError> {
    match name {
        "public" => Ok(Policy::public()),
        "practice" => Ok(Policy::practice()),
        path => {
            let path = PathBuf::from(path);
            let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read {
                path: path.clone(),
                source,
            })?;
            serde_json::from_str(&text).map_err(|error| ConfigError::Policy {
                path,
                message: error.to_string(),
            })
        }
    }
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
        Config::load(folder.path())
    }

    #[test]
    fn every_setting_is_in_the_guide_for_operators() {
        let guide = include_str!("../../../docs/operators.md");
        let fault = toml::from_str::<Config>("no_setting = 1").unwrap_err();
        // The parser names all settings that there are.
        let names = fault.message().split("expected one of").nth(1).unwrap();
        let names: Vec<_> = names.split('`').skip(1).step_by(2).collect();
        assert!(names.len() > 40, "{names:?}");
        let missing: Vec<_> = names
            .iter()
            .filter(|name| !guide.contains(&format!("`{name}`")))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn settings_are_read_and_the_rest_are_defaults() {
        let config = load("lease = 500\naudit_rate = 0.25").unwrap();
        assert_eq!(config.lease, Duration::from_millis(500));
        assert_eq!(config.audit_rate.to_bits(), 0.25f64.to_bits());
        assert_eq!(config.max_attempts, Config::default().max_attempts);
    }

    #[test]
    fn files_that_the_settings_name_are_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let text = "tls_cert = 'a.pem'\ntls_key = '/b.pem'\nrequirements = 'rules.json'";
        let config = Config::read(folder.path(), text).unwrap();
        let tls = config.tls().unwrap();
        assert_eq!(tls.certificate, folder.path().join("a.pem"));
        assert_eq!(tls.key, Path::new("/b.pem"));
        assert_eq!(
            Path::new(&config.requirements),
            folder.path().join("rules.json")
        );
        assert_eq!(load("").unwrap().requirements, "public");
        for address in [
            "https://net.example/infera",
            "https://[fd00::1]:1",
            "http://localhost:1",
        ] {
            let text = format!("address = '{address}'");
            assert_eq!(load(&text).unwrap().address.as_deref(), Some(address));
        }
    }

    #[test]
    fn the_operators_own_prompts_replace_the_built_in_ones() {
        let folder = tempfile::tempdir().unwrap();
        let prompts = || Config::load(folder.path()).unwrap().canary_prompts;
        assert!(prompts().len() > 40);
        std::fs::write(folder.path().join(PROMPTS_NAME), "One.\n\n  Two?  \n").unwrap();
        assert_eq!(prompts(), ["One.", "Two?"]);
        std::fs::write(folder.path().join(PROMPTS_NAME), "\n").unwrap();
        assert!(prompts().is_empty(), "none are asked for");
    }

    #[test]
    fn wrong_settings_are_named() {
        for (text, named) in [
            ("leese = 5", "leese"),
            ("audit_rate = 2.0", "audit_rate"),
            ("audit_rate = nan", "audit_rate"),
            ("lease = 0", "lease"),
            ("least_tokens_per_second = 0.0", "least_tokens_per_second"),
            ("newcomer_share = 1.5", "newcomer_share"),
            ("unchecked_pay = -1.0", "unchecked_pay"),
            ("subsidy_cap = -1", "subsidy_cap"),
            ("template = 0", "template"),
            ("template_memory = 1000", "template_memory"),
            ("references = 6", "references"),
            ("references = 1", "references"),
            ("canary_rate = 0.6", "canary_rate"),
            ("canary_rate = -0.1", "canary_rate"),
            ("most_outvoted = 0", "most_outvoted"),
            ("name = ' '", "name"),
            ("name = \"a\\u0007\"", "name"),
            (&format!("operator = '{}'", "x".repeat(101)), "operator"),
            (&format!("rules = '{}'", "x".repeat(4001)), "rules"),
            ("checking = 'sometimes'", "sometimes"),
            ("listen = 'here'", "socket address"),
            ("operator_listen = 'here'", "socket address"),
            ("address = '192.168.1.5'", "address"),
            ("address = 'http://192.168.1.5:8431'", "address"),
            ("address = 'https://'", "address"),
            ("address = 'https://a b'", "address"),
            ("address = 'https://net.example/'", "address"),
            ("tls_cert = 'a.pem'", "tls_key"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn policies_are_named_or_read() {
        assert_eq!(policy("practice").unwrap(), Policy::practice());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        std::fs::write(&path, r#"{"name":"club","ram_bytes":1}"#).unwrap();
        assert_eq!(policy(path.to_str().unwrap()).unwrap().name, "club");
        std::fs::write(&path, r#"{"name":"club","ram":1}"#).unwrap();
        assert!(
            policy(path.to_str().unwrap())
                .unwrap_err()
                .to_string()
                .contains("ram")
        );
        assert!(
            policy("nowhere.json")
                .unwrap_err()
                .to_string()
                .contains("nowhere.json")
        );
    }
}
