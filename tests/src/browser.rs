//! A node with its window in a browser, and scripts that use it as a person would.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use xtask::network::{Binaries, START_LIMIT, repository};
use xtask::process::{self, Process};
use xtask::{Result, network, wait};

use crate::npm;

const STOP_LIMIT: Duration = Duration::from_secs(15);
const CHROMIUM: [&str; 4] = [
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
    "/snap/bin/chromium",
];

/// `infera run --web`. Dropping it kills it.
pub struct WebNode {
    binary: PathBuf,
    data: PathBuf,
    /// With the token.
    pub address: String,
    process: Process,
}

impl WebNode {
    /// With its key in a file; `environment` is set on top of the test's own.
    pub fn start<V: AsRef<OsStr>>(
        binaries: &Binaries,
        data: &Path,
        words: &[&str],
        environment: &[(&str, V)],
    ) -> Result<Self> {
        let mut command = Command::new(&binaries.node);
        for (name, value) in environment {
            command.env(name, value);
        }
        let key = data.join("node.key").to_string_lossy().into_owned();
        let words = [words, &["--key-file", &key]].concat();
        Self::start_by(command, binaries, data, &words)
    }

    /// `command` is the node's program, or what becomes it.
    pub fn start_by(
        mut command: Command,
        binaries: &Binaries,
        data: &Path,
        words: &[&str],
    ) -> Result<Self> {
        fs::create_dir_all(data)?;
        command
            .args(["run", "--web", "--control", "127.0.0.1:0"])
            .args(words)
            .arg("--data")
            .arg(data);
        let process = Process::start("the node in the browser", command, &data.join("log.txt"))?;
        let line = process.line_after("Open ", START_LIMIT)?;
        let address = line.split_whitespace().next().unwrap_or_default();
        Ok(Self {
            binary: binaries.node.clone(),
            data: data.to_owned(),
            address: address.to_owned(),
            process,
        })
    }

    /// As `infera status --json` tells it.
    pub fn status(&self) -> Result<Value> {
        let mut command = Command::new(&self.binary);
        command.args(["status", "--json", "--data"]).arg(&self.data);
        Ok(serde_json::from_str(&process::output(command)?)?)
    }

    /// Whether there is anything of it on the disk.
    pub fn is_there(&self) -> bool {
        self.data.exists()
    }

    /// The process ids of its engines.
    pub fn engines(&self) -> Result<Vec<u32>> {
        process::children_of(self.process.pid())
    }

    /// SIGKILL to its engines.
    pub fn kill_engines(&self) -> Result<()> {
        let engines = self.engines()?;
        if engines.is_empty() {
            return Err(self.process.fault("has no engine to kill"));
        }
        engines.into_iter().try_for_each(process::kill)
    }

    /// Where it and its engines can be reached from.
    pub fn listeners(&self) -> Result<Vec<IpAddr>> {
        let processes = if network::are_under_wine() {
            // It has the sockets of every program.
            process::named("wineserver")?
        } else {
            let mut own = self.engines()?;
            own.push(self.process.pid());
            own
        };
        let mut found = Vec::new();
        for process in processes {
            found.extend(listeners(process)?);
        }
        Ok(found)
    }

    /// Ends it, and fails when an engine lives on.
    pub fn stop(mut self) -> Result<()> {
        let engines = self.engines()?;
        self.process.stop(STOP_LIMIT)?;
        wait::until("the node's engines have ended", STOP_LIMIT, || {
            let is_gone = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists();
            Ok(engines.iter().all(is_gone).then_some(()))
        })
    }
}

/// Runs `tests/browser/{name}.mjs` with `given`. What it asks of the world around the browser is
/// answered by `answer`; `pictures` takes pictures of what went wrong.
pub fn run(
    name: &str,
    pictures: &Path,
    given: &Value,
    mut answer: impl FnMut(&str) -> Result<Value>,
) -> Result<()> {
    let scripts = repository().join("tests/browser");
    let modules = npm::installed("browser", &scripts)?;
    fs::create_dir_all(pictures)?;
    let log = pictures.join(format!("{name}.txt"));
    let mut command = Command::new("node");
    command
        .arg(scripts.join(format!("{name}.mjs")))
        .env(
            "INFERA_BROWSER_TEST",
            json!({
                "chromium": chromium()?,
                "given": given,
                "modules": modules,
                "pictures": pictures,
            })
            .to_string(),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?);
    let mut script = Script(
        command
            .spawn()
            .map_err(|error| format!("cannot start node: {error}"))?,
    );
    let mut input = script.0.stdin.take().ok_or("no pipe to the script")?;
    let output = script.0.stdout.take().ok_or("no pipe from the script")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(question) = line.strip_prefix("ask ") {
            writeln!(input, "{}", answer(question)?)?;
        } else {
            // Into the test's output, beside what it says itself.
            writeln!(std::io::stdout(), "{line}")?;
        }
    }
    if script.0.wait()?.success() {
        Ok(())
    } else {
        let words = process::last_lines(&log, 60);
        Err(format!("tests/browser/{name}.mjs failed:\n{words}").into())
    }
}

struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        // It may have ended already. The browser ends when the script's end of its pipe closes.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `INFERA_CHROMIUM`, or where the packages put it.
fn chromium() -> Result<PathBuf> {
    let named = std::env::var_os("INFERA_CHROMIUM").map(PathBuf::from);
    named
        .into_iter()
        .chain(CHROMIUM.map(PathBuf::from))
        .find(|path| path.exists())
        .ok_or_else(|| {
            "Chromium is missing: install it (`sudo apt-get install chromium`), or name a program \
             of its kind in INFERA_CHROMIUM"
                .into()
        })
}

/// The addresses at which a process accepts connections.
fn listeners(pid: u32) -> Result<Vec<IpAddr>> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.filter_map(std::io::Result::ok) {
        // A file may have been closed since.
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[");
        if let Some(inode) = inode.and_then(|rest| rest.strip_suffix(']')) {
            sockets.push(inode.to_owned());
        }
    }
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields[..] else {
                continue;
            };
            if sockets.iter().any(|socket| socket == inode) {
                let address = local.split(':').next().and_then(kernel_address);
                found.push(address.ok_or_else(|| format!("not an address: {local}"))?);
            }
        }
    }
    Ok(found)
}

/// As the kernel writes it: words of the machine's byte order, in hexadecimal.
fn kernel_address(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for word in text.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(Ipv4Addr::from)
            .map(IpAddr::V4),
        16 => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(Ipv6Addr::from)
            .map(IpAddr::V6),
        _ => None,
    }
}

/// A certificate for `hosts`, signed by an authority of its own, as files in a folder.
pub struct Certificate {
    pub authority: PathBuf,
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    pub fn make(folder: &Path, hosts: &[&str]) -> Result<Self> {
        let mut params = rcgen::CertificateParams::new(Vec::new())?;
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Infera's tests");
        let authority_key = rcgen::KeyPair::generate()?;
        let authority = rcgen::CertifiedIssuer::self_signed(params, authority_key)?;
        let key = rcgen::KeyPair::generate()?;
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let certificate = rcgen::CertificateParams::new(hosts)?.signed_by(&key, &authority)?;
        let made = Self {
            authority: folder.join("authority.pem"),
            chain: folder.join("chain.pem"),
            key: folder.join("key.pem"),
        };
        fs::write(&made.authority, authority.pem())?;
        fs::write(&made.chain, certificate.pem())?;
        fs::write(&made.key, key.serialize_pem())?;
        Ok(made)
    }
}
