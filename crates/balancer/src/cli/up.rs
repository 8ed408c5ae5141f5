//! `up`: from an empty folder to a running network, and the same network again from then on.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use infera_protocol::MICRO_POINTS;
use infera_protocol::node_api::{Checking, Standing};

use super::invite::{self, place, span};
use super::{CliError, Listening, LogFormat, lock, serve, start_logs};
use crate::certificate;
use crate::config::{self, Config, FILE_NAME};
use crate::db::Database;
use crate::edges::Edges;
use crate::invitations::{self, Terms};
use crate::keys;
use crate::operator;
use crate::server;

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8431);
/// The operator's own first key, and what it may spend in points.
const FIRST_KEY: &str = "me";
const FIRST_LIMIT: i64 = 1000;
/// The name of the first operator's key.
const FIRST_OPERATOR: &str = "operator";
/// How many may join by the first invitation, and for how long.
const FIRST_USES: u32 = 10;
const FIRST_LIFE_MS: i64 = 7 * 24 * 3_600_000;

#[derive(clap::Args)]
pub(super) struct Up {
    /// What the network is called before people who think of joining
    #[arg(long)]
    name: Option<String>,
    /// Who runs it, in your words
    #[arg(long)]
    operator: Option<String>,
    /// What nodes must have: `practice` (anything), `public`, or a JSON file [default: practice]
    #[arg(long)]
    requirements: Option<String>,
    /// Whether answers are checked by other nodes, or only trusted nodes get jobs [default: always]
    #[arg(long, value_enum)]
    checking: Option<CheckingWord>,
    /// Address and port; port 0 takes a free one, and keeps it [default: 0.0.0.0:8431]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// How others reach it [default: https:// with this machine's address on its network]
    #[arg(long)]
    address: Option<String>,
    /// Make no key and no invitation at the first start: for a service, whose log would keep them
    #[arg(long)]
    without_key: bool,
    /// Print the invitation as a QR code too, also where no terminal is
    #[arg(long)]
    qr: bool,
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CheckingWord {
    None,
    Always,
}

pub(super) async fn run(folder: &Path, up: Up, data_option: &str) -> Result<(), CliError> {
    start_logs(up.log_format);
    let file = folder.join(FILE_NAME);
    let is_new = !file.exists();
    let (config, listener, text, held) = if is_new {
        let listener = server::listen(up.listen.unwrap_or(LISTEN))?;
        let text = settings(&up, &listener)?;
        (Config::read(folder, &text)?, listener, text, None)
    } else {
        let config = Config::load(folder)?;
        agree(&up, &config, &file)?;
        // Before the port, which the same network may have already.
        let held = lock(folder)?;
        let listener = server::listen(config.listen)?;
        (config, listener, String::new(), Some(held))
    };
    let policy = config::policy(&config.requirements)?;
    // Nothing is made before all that was asked is found to be good.
    let database = Database::open(folder).await?;
    let lock = held.map_or_else(|| lock(folder), Ok)?;
    let tls = config.tls();
    if tls
        .as_ref()
        .is_some_and(|tls| certificate::is_own(folder, tls))
    {
        certificate::own(folder, &names(&config))?;
    }
    let mut begun = Begun::default();
    if is_new {
        if !up.without_key {
            begun = begin(&database, &config, folder, up.qr).await?;
        }
        write_whole(&file, &text)?;
        let path = file.display();
        let _ = writeln!(
            begun.text,
            "The settings are in {path}: change them there and start `up` again.\n"
        );
    }
    let listening = Listening {
        tls,
        config,
        policy,
        listener,
        intro: begun.text,
        key: begun.key,
    };
    serve(folder, database, lock, listening, data_option).await
}

/// What a new network was given, and how it is said.
#[derive(Default)]
struct Begun {
    text: String,
    key: Option<String>,
}

/// The first key and the first invitations, unless an earlier start came as far and was cut off.
async fn begin(
    database: &Database,
    config: &Config,
    folder: &Path,
    qr: bool,
) -> Result<Begun, CliError> {
    let edges = Edges::system();
    let mut begun = Begun::default();
    if keys::list(database).await?.is_empty() {
        let limit = FIRST_LIMIT * MICRO_POINTS;
        let key = keys::create_key(database, &edges, FIRST_KEY, Some(limit)).await?;
        let _ = writeln!(
            begun.text,
            "Your API key `{FIRST_KEY}`, shown this one time:\n{key}\n"
        );
        begun.key = Some(key);
    }
    if operator::keys::list(database).await?.is_empty() {
        let key = operator::keys::create(database, &edges, FIRST_OPERATOR).await?;
        let page = operators_page(config);
        let _ = writeln!(
            begun.text,
            "Look after the network in a browser, at {page}, with this operator's key, shown this one time:\n{key}\n"
        );
    }
    if !invitations::list(database).await?.is_empty() {
        return Ok(begun);
    }
    let place = place(config, folder)?;
    let trusts = config.checking == Checking::None;
    let all = Terms {
        label: "the first nodes".to_owned(),
        standing: Standing {
            trusted: trusts,
            reference: false,
        },
        max_uses: Some(FIRST_USES),
        expires_ms: Some(edges.now_ms() + FIRST_LIFE_MS),
    };
    let (_, token) = invitations::create(database, &edges, &all).await?;
    let life = span(FIRST_LIFE_MS);
    let trusted = if trusts { ", as trusted nodes" } else { "" };
    let shown = invite::shown(&place.invitation(token), qr || io::stdout().is_terminal());
    let _ = writeln!(
        begun.text,
        "Invite others: {FIRST_USES} machines can join by this link within {life}{trusted}.\n{shown}"
    );
    if !trusts {
        let needed = config.references;
        let checks = Terms {
            label: "nodes that check".to_owned(),
            standing: Standing {
                trusted: false,
                reference: true,
            },
            max_uses: Some(u32::try_from(needed).unwrap_or(FIRST_USES)),
            ..all
        };
        let (_, token) = invitations::create(database, &edges, &checks).await?;
        let shown = invite::shown(&place.invitation(token), false);
        let _ = writeln!(
            begun.text,
            "Answers are checked once {needed} machines are here that check and take no jobs. Those join by this link.\n{shown}"
        );
    }
    Ok(begun)
}

/// Where the page of those who run the network is.
fn operators_page(config: &Config) -> String {
    let own = config.operator_listen.map(|own| format!("https://{own}"));
    let address = own.or_else(|| config.address.clone()).unwrap_or_default();
    format!("{address}/operator")
}

/// The settings file of a new network, with a line about each.
fn settings(up: &Up, listener: &TcpListener) -> Result<String, CliError> {
    let socket = listener.local_addr()?;
    let address = match &up.address {
        Some(address) if address.starts_with("https://") => address.clone(),
        Some(address) => return Err(CliError::PlainAddress(address.clone())),
        None => {
            let ip = reachable(socket.ip()).ok_or(CliError::NoNetworkAddress)?;
            format!("https://{}", SocketAddr::new(ip, socket.port()))
        }
    };
    let host = host(&address);
    let name = up
        .name
        .clone()
        .unwrap_or_else(|| format!("Network at {host}"));
    let requirements = match up.requirements.as_deref() {
        None => "practice".to_owned(),
        Some(named @ ("practice" | "public")) => named.to_owned(),
        Some(file) => std::path::absolute(file)?.to_string_lossy().into_owned(),
    };
    let checking = match up.checking {
        Some(CheckingWord::None) => "none",
        Some(CheckingWord::Always) | None => "always",
    };
    let mut text = "# The settings of this network, read when it starts. docs/operators.md has all there are.\n".to_owned();
    let mut set = |about: &str, name: &str, value: Option<&str>| {
        let sign = if value.is_some() { "" } else { "# " };
        let value = toml::Value::from(value.unwrap_or_default());
        let _ = write!(text, "\n# {about}\n{sign}{name} = {value}\n");
    };
    set("What people see who think of joining.", "name", Some(&name));
    set("Who runs it.", "operator", up.operator.as_deref());
    set("What you ask of those who join, in words.", "rules", None);
    set(
        "What a node's machine must have: practice (anything), public, or a JSON file.",
        "requirements",
        Some(&requirements),
    );
    set(
        "Whether other nodes check the answers: always, or none, and then only trusted nodes get jobs.",
        "checking",
        Some(checking),
    );
    set(
        "Who may join: open, work (some computing for it), or invitation.",
        "admission",
        Some("invitation"),
    );
    set(
        "Address and port to listen on. 0.0.0.0 is all addresses of this machine.",
        "listen",
        Some(&socket.to_string()),
    );
    set(
        "How others reach it; it stands in every invitation.",
        "address",
        Some(&address),
    );
    set(
        "The certificate, which nodes know by its key. Another may be named here; without both lines, a proxy has to encrypt.",
        "tls_cert",
        Some(certificate::CERTIFICATE_NAME),
    );
    set(
        "Its key: keep it secret, and keep a copy.",
        "tls_key",
        Some(certificate::KEY_NAME),
    );
    Ok(text)
}

/// What was given on the command line must be what the folder says: a network is not changed by
/// the way.
fn agree(up: &Up, config: &Config, file: &Path) -> Result<(), CliError> {
    let requirements = up.requirements.as_deref().map(|given| match given {
        "practice" | "public" => given.to_owned(),
        path => std::path::absolute(path)
            .unwrap_or_else(|_| PathBuf::from(path))
            .to_string_lossy()
            .into_owned(),
    });
    let word = |checking| match checking {
        Checking::None => "none",
        Checking::Always => "always",
    };
    let checking = up.checking.map(|given| match given {
        CheckingWord::None => "none".to_owned(),
        CheckingWord::Always => "always".to_owned(),
    });
    // A free port was taken when the network began, and is kept.
    let listen = up.listen.map(|listen| match listen.port() {
        0 => SocketAddr::new(listen.ip(), config.listen.port()).to_string(),
        _ => listen.to_string(),
    });
    for (option, given, set) in [
        ("name", up.name.clone(), config.name.clone()),
        ("operator", up.operator.clone(), config.operator.clone()),
        (
            "requirements",
            requirements,
            Some(config.requirements.clone()),
        ),
        ("checking", checking, Some(word(config.checking).to_owned())),
        ("listen", listen, Some(config.listen.to_string())),
        ("address", up.address.clone(), config.address.clone()),
    ] {
        if let Some(given) = given
            && Some(&given) != set.as_ref()
        {
            return Err(CliError::Contradicts {
                option,
                given,
                set: set.map_or_else(|| "nothing".to_owned(), |set| format!("`{set}`")),
                file: file.to_owned(),
            });
        }
    }
    Ok(())
}

/// The names and addresses that the certificate is for.
fn names(config: &Config) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
    let listens = config.listen.ip();
    if !listens.is_unspecified() {
        names.push(listens.to_string());
    }
    names.extend(config.address.as_deref().map(host));
    names.sort();
    names.dedup();
    names
}

/// The host in an address that begins with its scheme.
fn host(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => authority,
    };
    host.trim_matches(['[', ']']).to_owned()
}

/// This machine's address for others, when it listens on one or on all of them.
fn reachable(listens: IpAddr) -> Option<IpAddr> {
    if !listens.is_unspecified() {
        return Some(listens);
    }
    // Addresses for documentation: to ask which way they would go sends nothing.
    let four = (
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    );
    let six = (
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    );
    let ways = if listens.is_ipv4() {
        &[four][..]
    } else {
        &[four, six]
    };
    ways.iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind((*from, 0)).ok()?;
        socket.connect((*to, 9)).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_unspecified()).then_some(ip)
    })
}

/// All of a file, or none of it.
fn write_whole(file: &Path, text: &str) -> Result<(), CliError> {
    let beside = file.with_extension("toml.new");
    std::fs::write(&beside, text)?;
    Ok(std::fs::rename(beside, file)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        up: Up,
    }

    fn up(words: &[&str]) -> Up {
        let words = ["up"].iter().chain(words);
        Words::try_parse_from(words).unwrap().up
    }

    #[test]
    fn the_file_says_what_was_asked_and_agrees_with_it_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let words = [
            "--name",
            "a \"lab\"",
            "--operator",
            "Ann",
            "--checking",
            "none",
            "--requirements",
            "rules.json",
            "--listen",
            "127.0.0.1:0",
        ];
        let up = up(&words);
        let text = settings(&up, &listener).unwrap();
        let config = Config::read(folder.path(), &text).unwrap();
        assert_eq!(config.name.as_deref(), Some("a \"lab\""));
        assert_eq!(config.operator.as_deref(), Some("Ann"));
        assert_eq!(config.checking, Checking::None);
        let address = format!("https://127.0.0.1:{port}");
        assert_eq!(config.address.as_ref(), Some(&address));
        assert_eq!(config.listen.port(), port);
        assert!(Path::new(&config.requirements).is_absolute());
        for line in text.lines().filter(|line| line.contains(" = ")) {
            let before = text.lines().take_while(|other| *other != line).last();
            assert!(before.unwrap().starts_with("# "), "{line}");
        }
        agree(&up, &config, Path::new("it.toml")).unwrap();
        for (option, given) in [
            ("--name", "b"),
            ("--operator", "Bob"),
            ("--checking", "always"),
            ("--requirements", "public"),
            ("--listen", "127.0.0.1:1"),
            ("--address", "https://net.example"),
        ] {
            let other = super::tests::up(&[option, given]);
            let refused = agree(&other, &config, Path::new("it.toml")).unwrap_err();
            let refused = refused.to_string();
            for word in [option, given, "it.toml"] {
                assert!(refused.contains(word), "{refused}");
            }
        }
    }

    #[test]
    fn without_options_it_is_a_checked_network_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let text = settings(&up(&[]), &listener).unwrap();
        let config = Config::read(folder.path(), &text).unwrap();
        assert_eq!(config.name.as_deref(), Some("Network at 127.0.0.1"));
        assert_eq!(config.requirements, "practice");
        assert_eq!(config.checking, Checking::Always);
        let plain = settings(&up(&["--address", "http://127.0.0.1:1"]), &listener);
        assert!(plain.unwrap_err().to_string().contains("https://"));
        let long = "x".repeat(200);
        let text = settings(&up(&["--name", &long]), &listener).unwrap();
        let refused = Config::read(folder.path(), &text).unwrap_err();
        assert!(refused.to_string().contains("`name`"));
    }

    #[test]
    fn the_host_of_an_address_as_a_table() {
        for (address, expected) in [
            ("https://192.168.1.5:8431", "192.168.1.5"),
            ("https://net.example/infera", "net.example"),
            ("https://[fd00::1]:8431", "fd00::1"),
            ("https://[fd00::1]", "fd00::1"),
        ] {
            assert_eq!(host(address), expected);
        }
        assert_eq!(
            reachable("192.0.2.7".parse().unwrap()),
            Some("192.0.2.7".parse().unwrap())
        );
    }
}
