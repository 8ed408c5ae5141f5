//! A balancer and nodes on loopback, each with its own data folder.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::http::Client;
use crate::process::{self, Process};
use crate::{Result, wait};

/// Generous: a loaded machine with two cores must not fail a test.
pub const START_LIMIT: Duration = Duration::from_mins(2);
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Our programs, as cargo built them.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub balancer: PathBuf,
    pub node: PathBuf,
    /// The one with a window; it may not be built.
    pub desktop: PathBuf,
}

impl Binaries {
    /// Those beside the running program, if they are built, or of the folder that [`PROGRAMS`] says.
    pub fn find() -> Result<Option<Self>> {
        Ok(Self::find_in(&match env::var_os(PROGRAMS) {
            Some(folder) => folder.into(),
            None => profile_folder()?,
        }))
    }

    /// Brings them up to date with `cargo build`, into the running program's own target folder.
    pub fn build() -> Result<Self> {
        let folder = profile_folder()?;
        let release = folder.ends_with("release");
        build(target_folder(&folder)?, release, &bins(&HEADLESS), &[])?;
        Self::find_in(&folder).ok_or_else(|| "cargo built, but the programs are not there".into())
    }

    /// The same with the desktop program, whose window's files must have been made.
    pub fn build_with_desktop() -> Result<Self> {
        let folder = profile_folder()?;
        let release = folder.ends_with("release");
        build(target_folder(&folder)?, release, &bins(&WITH_DESKTOP), &[])?;
        Self::find_in(&folder).ok_or_else(|| "cargo built, but the programs are not there".into())
    }

    /// With optimisations, whatever the running program has.
    pub fn build_release() -> Result<Self> {
        let folder = profile_folder()?;
        let target = target_folder(&folder)?;
        build(target, true, &bins(&HEADLESS), &[])?;
        Self::find_in(&target.join("release"))
            .ok_or_else(|| "cargo built, but the programs are not there".into())
    }

    /// Those that people install: with optimisations, and a window that has its pages built in.
    pub fn build_for_packages() -> Result<Self> {
        let folder = profile_folder()?;
        let target = target_folder(&folder)?;
        build(
            target,
            true,
            &bins(&WITH_DESKTOP),
            &["tauri/custom-protocol"],
        )?;
        Self::find_in(&target.join("release"))
            .ok_or_else(|| "cargo built, but the programs are not there".into())
    }

    /// Those beside the running program; built first only when they are missing.
    pub fn find_or_build() -> Result<Self> {
        match Self::find()? {
            Some(found) => Ok(found),
            None => Self::build(),
        }
    }

    /// Programs that were built before.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        Self::find_in(&folder.canonicalize()?)
            .ok_or_else(|| format!("{} does not hold the programs", folder.display()).into())
    }

    fn find_in(folder: &Path) -> Option<Self> {
        let program = |name: &str| folder.join(format!("{name}{}", env::consts::EXE_SUFFIX));
        let found = Self {
            balancer: program("infera-balancer"),
            node: program("infera"),
            desktop: program("infera-node"),
        };
        (found.balancer.exists() && found.node.exists()).then_some(found)
    }
}

/// An environment variable: the folder of launchers that run the programs under Wine.
pub const PROGRAMS: &str = "INFERA_TEST_PROGRAMS";

/// Whether the programs are Windows' own.
pub fn are_under_wine() -> bool {
    env::var_os(PROGRAMS).is_some()
}

const HEADLESS: [&str; 2] = ["infera", "infera-balancer"];
/// Our programs' names.
pub const WITH_DESKTOP: [&str; 3] = [HEADLESS[0], HEADLESS[1], "infera-node"];

/// Builds one of the workspace's own tools and gives its file. `kind` is `--bin` or `--example`.
pub fn tool(kind: &str, name: &str, release: bool) -> Result<PathBuf> {
    let target = target()?;
    build(&target, release, &[kind, name], &[])?;
    let mut file = target.join(if release { "release" } else { "debug" });
    if kind == "--example" {
        file.push("examples");
    }
    Ok(file.join(format!("{name}{}", env::consts::EXE_SUFFIX)))
}

fn bins<'a>(names: &[&'a str]) -> Vec<&'a str> {
    names.iter().flat_map(|name| ["--bin", name]).collect()
}

/// Programs of the whole workspace rather than of single packages: cargo then chooses the same
/// features of shared dependencies as for the tests, and builds burn once. Only what the programs
/// need is built: without the desktop program no web view is.
fn build(target: &Path, release: bool, programs: &[&str], features: &[&str]) -> Result<()> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(repository())
        .args(["build", "--workspace"])
        .arg("--target-dir")
        .arg(target)
        .args(programs);
    for feature in features {
        command.args(["--features", feature]);
    }
    if release {
        command.arg("--release");
    }
    process::run(command)
}

/// The checkout this program was built from.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[derive(Debug, Clone)]
pub struct BalancerOptions {
    pub policy: String,
    pub lease: Option<Duration>,
    /// The contents of `balancer.toml`.
    pub settings: String,
    /// Names and values, besides our own environment.
    pub environment: Vec<(String, String)>,
}

impl Default for BalancerOptions {
    fn default() -> Self {
        Self {
            policy: "practice".to_owned(),
            lease: None,
            // Whoever counts points counts those of clients' jobs.
            settings: "canary_rate = 0.0\n".to_owned(),
            environment: Vec::new(),
        }
    }
}

pub struct Balancer {
    binary: PathBuf,
    data: PathBuf,
    options: BalancerOptions,
    url: String,
    process: Option<Process>,
}

impl Balancer {
    /// Starts a balancer on a free port of loopback, with its data under `data`.
    pub fn start(binaries: &Binaries, data: &Path, options: BalancerOptions) -> Result<Self> {
        std::fs::create_dir_all(data)?;
        if !options.settings.is_empty() {
            std::fs::write(data.join("balancer.toml"), &options.settings)?;
        }
        let mut balancer = Self {
            binary: binaries.balancer.clone(),
            data: data.to_owned(),
            options,
            url: "http://127.0.0.1:0".to_owned(),
            process: None,
        };
        balancer.start_again()?;
        Ok(balancer)
    }

    /// Starts it where it was before, after [`Balancer::kill`] or [`Balancer::stop`].
    pub fn start_again(&mut self) -> Result<()> {
        let listen = self.url.trim_start_matches("http://").to_owned();
        let mut command = self.command(&[
            "serve",
            "--listen",
            &listen,
            "--policy",
            &self.options.policy,
        ]);
        if let Some(lease) = self.options.lease {
            command.arg("--lease-ms").arg(lease.as_millis().to_string());
        }
        command.envs(self.options.environment.iter().cloned());
        let process = Process::start("the balancer", command, &self.log())?;
        self.url = process.line_after("Listening on ", START_LIMIT)?;
        self.process = Some(process);
        Ok(())
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    pub fn is_running(&mut self) -> Result<bool> {
        is_running(&mut self.process)
    }

    /// An error with the last lines of the balancer's log.
    pub fn fault(&self, what: &str) -> crate::Error {
        fault("the balancer", what, &self.log())
    }

    fn log(&self) -> PathBuf {
        self.data.join("log.txt")
    }

    pub fn client(&self, key: &str) -> Client {
        Client::new(&self.url, Some(key))
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn stop(&mut self) -> Result<()> {
        self.process
            .take()
            .map_or(Ok(()), |mut process| process.stop(STOP_LIMIT))
    }

    /// Runs one of its commands and gives what it prints.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        process::output(self.command(words))
    }

    pub fn create_key(&self, name: &str) -> Result<String> {
        Ok(self
            .run(&["key", "create", name, "--limit", "unlimited"])?
            .trim()
            .to_owned())
    }

    /// Prices are in micro-points per token.
    pub fn add_model(
        &self,
        file: &Path,
        name: &str,
        input_price: u32,
        output_price: u32,
    ) -> Result<String> {
        let mut command = self.command(&["model", "add"]);
        command
            .arg(file)
            .args(["--name", name])
            .args(["--input-price", &input_price.to_string()])
            .args(["--output-price", &output_price.to_string()]);
        Ok(process::output(command)?.trim().to_owned())
    }

    /// Until the running balancer has taken over what `add_model` changed, which takes it up to a
    /// second. A node that comes earlier would believe for a while that its model is not served.
    pub fn wait_until_served(&self, key: &str, model: &str) -> Result<()> {
        let client = self.client(key);
        wait::until(&format!("`{model}` is served"), START_LIMIT, || {
            let models = client.get("/v1/models")?.success()?;
            let mut listed = models["data"].as_array().into_iter().flatten();
            Ok(listed.any(|entry| entry["id"] == model).then_some(()))
        })
    }

    pub fn trust(&self, node: &str) -> Result<()> {
        self.run(&["node", "trust", node, "--reference"]).map(drop)
    }

    /// A number that the balancer publishes, by its name and labels.
    pub fn metric(&self, name: &str) -> Result<Option<f64>> {
        let answer = Client::new(&self.url, None).get("/metrics")?;
        let mut lines = answer.text.lines();
        Ok(lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok()))
    }

    /// The books; fails when they do not sum to zero.
    pub fn ledger(&self) -> Result<Ledger> {
        Ledger::parse(&self.run(&["ledger", "--json"])?)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).arg("--data").arg(&self.data);
        command
    }
}

/// Every account and its balance in micro-points.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger(pub BTreeMap<String, i64>);

impl Ledger {
    fn parse(json: &str) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Books {
            accounts: Vec<Account>,
            sum: i64,
        }
        #[derive(serde::Deserialize)]
        struct Account {
            account: String,
            balance: i64,
        }
        let books: Books = serde_json::from_str(json)?;
        if books.sum != 0 {
            return Err(format!("the ledger sums to {}, not to zero: {json}", books.sum).into());
        }
        let accounts = books.accounts.into_iter();
        Ok(Self(
            accounts
                .map(|entry| (entry.account, entry.balance))
                .collect(),
        ))
    }

    pub fn balance(&self, account: &str) -> i64 {
        self.0.get(account).copied().unwrap_or(0)
    }

    /// What moved since `before`: only the accounts that changed.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let moved = |(account, balance): (&String, &i64)| {
            let change = balance - before.balance(account);
            (change != 0).then(|| (account.clone(), change))
        };
        Self(self.0.iter().filter_map(moved).collect())
    }
}

#[derive(Debug, Clone)]
pub struct NodeOptions {
    pub model: PathBuf,
    /// Several with commas between them.
    pub device: String,
    pub sequences: Option<u32>,
    /// Runs as the desktop program, in a window.
    pub window: bool,
    /// Names and values, besides our own environment.
    pub environment: Vec<(String, String)>,
}

impl NodeOptions {
    pub fn on_cpu(model: &Path) -> Self {
        Self {
            model: model.to_owned(),
            device: "cpu".to_owned(),
            sequences: None,
            window: false,
            environment: Vec::new(),
        }
    }
}

/// What a demo or a test wants of a node must not depend on whose machine it is, and what else runs
/// there.
const WHATEVER_ITS_OWNER_DOES: &str = r#"{
  "version": 3,
  "settings": {
    "rules": {
      "games": false,
      "full_screen": false,
      "battery": false,
      "memory": { "on": false, "bytes": 0 },
      "metered_downloads": false
    }
  }
}"#;

pub struct Node {
    binary: PathBuf,
    desktop: PathBuf,
    data: PathBuf,
    balancer_url: String,
    options: NodeOptions,
    pub id: String,
    name: String,
    process: Option<Process>,
}

impl Node {
    /// Makes the node's identity in its own folder under `data`; does not start it yet.
    pub fn new(
        binaries: &Binaries,
        data: &Path,
        name: &str,
        balancer_url: &str,
        options: NodeOptions,
    ) -> Result<Self> {
        let data = data.join(name);
        std::fs::create_dir_all(&data)?;
        std::fs::write(data.join("settings.json"), WHATEVER_ITS_OWNER_DOES)?;
        let mut node = Self {
            binary: binaries.node.clone(),
            desktop: binaries.desktop.clone(),
            data,
            balancer_url: balancer_url.to_owned(),
            options,
            id: String::new(),
            name: name.to_owned(),
            process: None,
        };
        let mut command = node.command(&["id"]);
        command.arg("--key-file").arg(node.key_file());
        process::output(command)?.trim().clone_into(&mut node.id);
        Ok(node)
    }

    pub fn start(&mut self) -> Result<()> {
        if self.options.window {
            return self.start_in_window();
        }
        let mut command = self.command(&["run", "--control", "127.0.0.1:0"]);
        command
            .args(["--balancer", &self.balancer_url])
            .args(
                self.options
                    .device
                    .split(',')
                    .flat_map(|device| ["--device", device]),
            )
            .arg("--model")
            .arg(&self.options.model)
            .arg("--key-file")
            .arg(self.key_file());
        if let Some(sequences) = self.options.sequences {
            command.args(["--sequences", &sequences.to_string()]);
        }
        command.envs(self.options.environment.iter().cloned());
        let process = Process::start(&format!("node {}", self.name), command, &self.log())?;
        let id = process.line_after("Node ", START_LIMIT)?;
        if id != self.id {
            return Err(process.fault(&format!("says it is {id}, not {}", self.id)));
        }
        process.line_after("Control on ", START_LIMIT)?;
        self.process = Some(process);
        Ok(())
    }

    /// The desktop program takes from the environment what it would ask in its first start.
    fn start_in_window(&mut self) -> Result<()> {
        let mut command = Command::new(&self.desktop);
        command
            .arg("--data")
            .arg(&self.data)
            .arg("--key-file")
            .arg(self.key_file())
            .env("INFERA_AGREE", "1")
            .env("INFERA_WEB_CONTROL", "1")
            .env("INFERA_BALANCER", &self.balancer_url)
            .env("INFERA_DEVICE", &self.options.device)
            .env("INFERA_MODEL", &self.options.model);
        let process = Process::start(&format!("node {}", self.name), command, &self.log())?;
        self.process = Some(process);
        Ok(())
    }

    /// SIGKILL to the node alone; its engine must notice by itself.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn stop(&mut self) -> Result<()> {
        self.process
            .take()
            .map_or(Ok(()), |mut process| process.stop(STOP_LIMIT))
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    pub fn is_running(&mut self) -> Result<bool> {
        is_running(&mut self.process)
    }

    /// Runs one of its commands and gives what it prints.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        process::output(self.command(words))
    }

    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&["status", "--json"])?)?)
    }

    /// Whether it has loaded its model and is connected to a balancer that serves it.
    pub fn is_ready(&self) -> bool {
        self.status().is_ok_and(|status| {
            let model = &status["models"][0];
            status["connection"]["state"] == "connected"
                && status["decision"]["mode"] == "run"
                && model["engine"]["state"] == "ready"
                && model["served"] == true
        })
    }

    /// How many jobs of clients it is working on.
    pub fn jobs(&self) -> Result<usize> {
        let status = self.status()?;
        let work = status["work"]
            .as_array()
            .ok_or("the status shows no work")?;
        Ok(work.iter().filter(|item| item["kind"] == "job").count())
    }

    pub fn has_window(&self) -> bool {
        self.options.window
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn log(&self) -> PathBuf {
        self.data.join("log.txt")
    }

    /// An error with the last lines of the node's log.
    pub fn fault(&self, what: &str) -> crate::Error {
        fault(&format!("node {}", self.name), what, &self.log())
    }

    fn key_file(&self) -> PathBuf {
        self.data.join("node.key")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).arg("--data").arg(&self.data);
        command
    }
}

fn is_running(process: &mut Option<Process>) -> Result<bool> {
    Ok(match process {
        Some(process) => process.ended()?.is_none(),
        None => false,
    })
}

fn fault(who: &str, what: &str, log: &Path) -> crate::Error {
    let lines = process::last_lines(log, 15);
    format!("{who} {what}; its log is {}:\n{lines}", log.display()).into()
}

fn target_folder(profile: &Path) -> Result<&Path> {
    profile
        .parent()
        .ok_or_else(|| "this program is not in a target folder".into())
}

/// Where cargo puts what it builds.
pub fn target() -> Result<PathBuf> {
    Ok(target_folder(&profile_folder()?)?.to_owned())
}

/// `target/debug`, or where else the running program lies.
pub fn profile_folder() -> Result<PathBuf> {
    let program = env::current_exe()?;
    let folder = program.parent().ok_or("this program lies in no folder")?;
    Ok(if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder).to_owned()
    } else {
        folder.to_owned()
    })
}
