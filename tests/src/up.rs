//! A network that was begun with one command, as a person begins it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xtask::network::{Binaries, START_LIMIT};
use xtask::process::{self, Process};
use xtask::{Result, wait};

/// What `infera-balancer up` runs, on loopback and with its own certificate.
pub struct Up {
    binary: PathBuf,
    folder: PathBuf,
    process: Process,
    /// `https://`, host and port.
    pub url: String,
    /// The invitation that it prints.
    pub link: String,
    /// The API key that it prints.
    pub key: String,
    /// The operator's key that it prints, and where its page is.
    pub operator_key: String,
    pub operator_page: String,
}

impl Up {
    /// Begins one in an empty folder.
    pub fn start(binaries: &Binaries, folder: &Path, words: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut command = command(&binaries.balancer, folder, &["up"]);
        command.args(["--listen", "127.0.0.1:0"]).args(words);
        let process = Process::start("the network", command, &folder.join("log.txt"))?;
        let rest = |prefix: &str| process.line_after(prefix, START_LIMIT);
        Ok(Self {
            // In the order in which they are printed.
            url: rest("Listening on ")?,
            key: format!("sk-infera-{}", rest("sk-infera-")?),
            operator_page: rest("Look after the network in a browser, at ")?
                .split(',')
                .next()
                .unwrap_or_default()
                .to_owned(),
            operator_key: format!("op-infera-{}", rest("op-infera-")?),
            link: format!("infera://join{}", rest("infera://join")?),
            binary: binaries.balancer.clone(),
            folder: folder.to_owned(),
            process,
        })
    }

    /// Runs one of the balancer's commands and gives what it prints.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        process::output(command(&self.binary, &self.folder, words))
    }

    /// Asks it something, as its operator's line with `curl` does; none while it says no.
    pub fn ask(&self, path: &str, body: &Value) -> Result<Option<Value>> {
        self.ask_as(&self.key, path, body)
    }

    /// Asks it with another key.
    pub fn ask_as(&self, key: &str, path: &str, body: &Value) -> Result<Option<Value>> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--max-time", "60", "--cacert"])
            .arg(self.folder.join("certificate.pem"))
            .arg("--header")
            .arg(format!("Authorization: Bearer {key}"))
            .args(["--header", "Content-Type: application/json"])
            .arg("--data")
            .arg(body.to_string())
            .arg(format!("{}{path}", self.url));
        let answer = curl.output()?;
        if !answer.status.success() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&answer.stdout)?))
    }

    /// A call of its operators' API, as `curl` makes it with these words more; gives the status and
    /// the answer.
    pub fn operate(&self, path: &str, words: &[&str]) -> Result<(u16, Value)> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60"])
            .args(["--write-out", "\n%{http_code}", "--cacert"])
            .arg(self.folder.join("certificate.pem"))
            .args(["--header", "X-Infera-Operator: 1"])
            .args(words)
            .arg(format!("{}/v1/{path}", self.operator_page));
        let said = process::output(curl)?;
        let (body, status) = said.trim_end().rsplit_once('\n').ok_or("no status")?;
        let answer = serde_json::from_str(body).unwrap_or(Value::Null);
        Ok((status.parse()?, answer))
    }

    /// The page as a browser gets it.
    pub fn page(&self) -> Result<String> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--max-time", "60", "--cacert"])
            .arg(self.folder.join("certificate.pem"))
            .arg(&self.operator_page);
        process::output(curl)
    }

    /// Asks until it answers.
    pub fn answer(&self, path: &str, body: &Value) -> Result<Value> {
        wait::until("the network answers", START_LIMIT, || self.ask(path, body))
            .map_err(|error| self.process.fault(&error.to_string()))
    }
}

fn command(binary: &Path, folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(words).arg("--data").arg(folder);
    command
}
