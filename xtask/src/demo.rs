//! `cargo xtask demo`: the whole system once, on this machine.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use std::{env, fs};

use serde_json::{Value, json};
use xtask::network::{Balancer, BalancerOptions, Binaries, Ledger, Node, NodeOptions};
use xtask::{Result, wait};

use crate::{DemoOptions, models, packages, report, ui};

const MODEL_NAME: &str = "smollm2-135m-instruct";
/// Micro-points per token.
const INPUT_PRICE: u32 = 100;
const OUTPUT_PRICE: u32 = 300;
const MAX_TOKENS: u32 = 160;
const LOAD_LIMIT: Duration = Duration::from_mins(10);

pub(crate) fn run(options: &DemoOptions) -> Result<()> {
    report::headline("Infera demo: a balancer, a worker and two reference nodes on this machine");
    let interrupts = interrupts()?;
    let window = !options.headless && has_display();
    packages::for_demo(window)?;
    report::fact("Packages", "all there");
    let (model, model_name) = match &options.model {
        Some(file) => (fs::canonicalize(file)?, file_name(file)),
        None => (models::smollm2()?, MODEL_NAME.to_owned()),
    };
    report::fact("Model", &format!("{model_name}, {}", model.display()));
    let binaries = build(window)?;
    let data = Data::new(options.keep_data)?;
    let outcome = show(options, window, &binaries, &data, &model, &model_name, &interrupts);
    if outcome.is_err() {
        data.keep();
    }
    outcome
}

fn show(
    options: &DemoOptions,
    window: bool,
    binaries: &Binaries,
    data: &Data,
    model: &std::path::Path,
    model_name: &str,
    interrupts: &Receiver<()>,
) -> Result<()> {
    let mut network = Network::start(options, window, binaries, data, model, model_name)?;
    network.wait_until_ready(interrupts)?;
    let before = network.balancer.ledger()?;
    let job = network.ask(&options.prompt, model_name, interrupts)?;
    let receipt = network.verdict(&job)?;
    let moved = network.show_points(&before)?;
    let verified = receipt["verdict"] == "verified";
    let paid = moved.balance(&format!("node:{}:confirmed", network.worker().id)) > 0;
    if options.once {
        network.stop()?;
        return if verified && paid {
            Ok(())
        } else {
            Err(format!(
                "the answer was {}verified and {}paid",
                not(verified),
                not(paid)
            )
            .into())
        };
    }
    network.invite(model_name);
    // An error means that the handler is gone, which cannot be before we are.
    let _ = interrupts.recv();
    println!();
    network.stop()
}

fn not(yes: bool) -> &'static str {
    if yes { "" } else { "not " }
}

/// One message for each Ctrl-C or request to end.
fn interrupts() -> Result<Receiver<()>> {
    let (sender, receiver) = channel();
    ctrlc::set_handler(move || {
        // Nobody listens when the program ends by itself.
        let _ = sender.send(());
    })?;
    Ok(receiver)
}

/// Whether a window can be opened. Windows and macOS always have a display.
fn has_display() -> bool {
    !cfg!(target_os = "linux")
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn build(window: bool) -> Result<Binaries> {
    if window {
        ui::build()?;
    }
    if Binaries::find()?.is_none() {
        let cores = std::thread::available_parallelism()?;
        report::fact(
            "Build",
            &format!(
                "the first build is long: about {} minutes on {cores} cores",
                16 / cores.get().max(1) + 1
            ),
        );
    }
    let start = Instant::now();
    let (binaries, names) = if window {
        let names = "infera-node, infera and infera-balancer";
        (Binaries::build_with_desktop()?, names)
    } else {
        (Binaries::build()?, "infera and infera-balancer")
    };
    report::fact(
        "Build",
        &format!(
            "{names} ({:.0} s)",
            start.elapsed().as_secs_f32()
        ),
    );
    Ok(binaries)
}

/// The folder of all processes' data; deleted at the end unless it is to be kept.
struct Data {
    folder: PathBuf,
    keep: std::cell::Cell<bool>,
}

impl Data {
    fn new(keep: bool) -> Result<Self> {
        let folder = env::temp_dir().join(format!("infera-demo-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            keep: keep.into(),
        })
    }

    fn keep(&self) {
        self.keep.set(true);
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if self.keep.get() {
            report::fact("Data", &format!("kept in {}", self.folder.display()));
        } else {
            // What cannot be deleted stays in the system's temporary folder.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

struct Network {
    balancer: Balancer,
    nodes: Vec<Node>,
    key: String,
}

const ROLES: [(&str, &str); 3] = [
    ("worker", "Worker"),
    ("reference-1", "Reference 1"),
    ("reference-2", "Reference 2"),
];

impl Network {
    fn start(
        options: &DemoOptions,
        window: bool,
        binaries: &Binaries,
        data: &Data,
        model: &std::path::Path,
        model_name: &str,
    ) -> Result<Self> {
        let balancer = Balancer::start(
            binaries,
            &data.folder.join("balancer"),
            BalancerOptions::default(),
        )?;
        balancer.add_model(model, model_name, INPUT_PRICE, OUTPUT_PRICE)?;
        let key = balancer.create_key("demo")?;
        balancer.wait_until_served(&key, model_name)?;
        report::fact("Balancer", balancer.url());
        let mut nodes = Vec::new();
        for (name, _) in ROLES {
            let node_options = NodeOptions {
                device: options.device.clone(),
                window: window && name == ROLES[0].0,
                ..NodeOptions::on_cpu(model)
            };
            nodes.push(Node::new(
                binaries,
                &data.folder,
                name,
                balancer.url(),
                node_options,
            )?);
        }
        for reference in &nodes[1..] {
            balancer.trust(&reference.id)?;
        }
        for node in &mut nodes {
            node.start()?;
        }
        Ok(Self {
            balancer,
            nodes,
            key,
        })
    }

    fn worker(&self) -> &Node {
        &self.nodes[0]
    }

    fn wait_until_ready(&mut self, interrupts: &Receiver<()>) -> Result<()> {
        let start = Instant::now();
        for (node, (_, role)) in self.nodes.iter_mut().zip(ROLES) {
            wait::until(&format!("the {role} is ready"), LOAD_LIMIT, || {
                if interrupts.try_recv().is_ok() {
                    return Err("interrupted".into());
                }
                if !node.is_running()? {
                    return Err(node.fault("ended while it loaded the model"));
                }
                Ok(node.is_ready().then_some(()))
            })
            .map_err(|error| node.fault(&error.to_string()))?;
            report::fact(
                role,
                &format!(
                    "{}  ready after {:.1} s",
                    &node.id[..8],
                    start.elapsed().as_secs_f32()
                ),
            );
        }
        Ok(())
    }

    /// Asks, shows the answer as it comes, and gives the job's id.
    fn ask(&self, prompt: &str, model_name: &str, interrupts: &Receiver<()>) -> Result<String> {
        report::headline(prompt);
        println!();
        report::stream("  ");
        let body = json!({
            "model": model_name,
            "messages": [{ "role": "user", "content": prompt }],
            "max_tokens": MAX_TOKENS,
            "temperature": 0.8,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        let start = Instant::now();
        let (mut first, mut last) = (None, None);
        let (mut job, mut tokens) = (None, 0);
        for event in self
            .balancer
            .client(&self.key)
            .stream("/v1/chat/completions", &body)?
        {
            let event = event?;
            if interrupts.try_recv().is_ok() {
                return Err("interrupted".into());
            }
            if let Some(error) = event.get("error") {
                return Err(format!("the stream ended with an error: {error}").into());
            }
            if let Some(id) = event["infera"]["job_id"].as_str() {
                job = Some(id.to_owned());
            }
            if let Some(count) = event["usage"]["completion_tokens"].as_u64() {
                tokens = count;
            }
            if let Some(text) = event["choices"][0]["delta"]["content"].as_str()
                && !text.is_empty()
            {
                first.get_or_insert_with(|| start.elapsed());
                last = Some(start.elapsed());
                report::stream(&text.replace('\n', "\n  "));
            }
        }
        println!("\n");
        let (first, last) = first.zip(last).ok_or("the answer is empty")?;
        let decode = last.saturating_sub(first).as_secs_f64();
        let rate = tokens.saturating_sub(1) as f64 / decode.max(1e-9);
        report::fact(
            "Speed",
            &format!(
                "{tokens} tokens, {rate:.1} tokens/s, first token after {} ms",
                first.as_millis()
            ),
        );
        job.ok_or_else(|| "the answer came without a job id".into())
    }

    /// Waits for the verdict and shows it, with what each reference node found.
    fn verdict(&self, job: &str) -> Result<Value> {
        let client = self.balancer.client(&self.key);
        client
            .get(&format!("/v1/jobs/{job}?wait_ms=60000"))?
            .success()?;
        let receipt = client.get(&format!("/v1/jobs/{job}/receipt"))?.success()?;
        let word = |name: &str| receipt[name].as_str().unwrap_or("unknown").to_owned();
        report::fact(
            "Verdict",
            &format!("{}: {}", word("verdict"), word("reason")),
        );
        let references = receipt["references"].as_array().into_iter().flatten();
        let mut found: Vec<_> = references
            .map(|reference| {
                let role = self.role(reference["node"].as_str().unwrap_or_default());
                format!("{role}: {}", figures(&reference["figures"]))
            })
            .collect();
        found.sort();
        for line in found {
            report::fact("", &line);
        }
        Ok(receipt)
    }

    fn show_points(&self, before: &Ledger) -> Result<Ledger> {
        let moved = self.balancer.ledger()?.since(before);
        let rows = moved.0.iter();
        let mut rows: Vec<_> = rows
            .map(|(account, micro)| (self.account(account), report::points(*micro)))
            .collect();
        // Who pays, who worked, who checked.
        rows.sort_by_cached_key(|(account, _)| {
            let order = ["client", "Worker", "Reference"];
            let place = order.iter().position(|name| account.starts_with(name));
            (place.unwrap_or(order.len()), account.clone())
        });
        let mut name = "Points";
        for (account, points) in rows {
            report::fact(name, &format!("{account:<12} {points}"));
            name = "";
        }
        Ok(moved)
    }

    /// An account as the reader knows it.
    fn account(&self, account: &str) -> String {
        let Some(node) = account.strip_prefix("node:") else {
            return account.replace("client:", "client ");
        };
        match node.split_once(':') {
            Some((node, "confirmed")) => self.role(node).to_owned(),
            Some((node, state)) => format!("{} ({state})", self.role(node)),
            None => account.to_owned(),
        }
    }

    fn role(&self, id: &str) -> &'static str {
        let mut nodes = self.nodes.iter().zip(ROLES);
        nodes
            .find(|(node, _)| node.id == id)
            .map_or("another node", |(_, (_, role))| role)
    }

    fn invite(&self, model_name: &str) {
        report::headline("The network stays up. Ctrl-C ends it.");
        if self.worker().has_window() {
            report::fact("Window", "Infera Node is the worker; look at its Home and Jobs");
        }
        report::fact("URL", &format!("{}/v1", self.balancer.url()));
        report::fact("API key", &self.key);
        report::fact(
            "Try",
            &format!(
                "curl -N {}/v1/chat/completions -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' -d '{}'",
                self.balancer.url(),
                self.key,
                json!({
                    "model": model_name,
                    "messages": [{ "role": "user", "content": "Who are you?" }],
                    "stream": true,
                }),
            ),
        );
    }

    /// Nodes first: they hand back what they hold.
    fn stop(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.stop()?;
        }
        self.balancer.stop()?;
        report::fact("Ended", "every process that the demo started");
        Ok(())
    }
}

/// What a reference node found, in words.
fn figures(figures: &Value) -> String {
    let count = |name: &str| figures[name].as_u64().unwrap_or(0);
    let (positions, mismatches) = (count("positions"), count("mismatches"));
    format!(
        "{} of {positions} tokens equal, largest margin {:.2}, {} ms on {}",
        positions.saturating_sub(mismatches),
        figures["largest_margin"].as_f64().unwrap_or(0.0),
        count("elapsed_ms"),
        figures["backend"].as_str().unwrap_or("an unknown device"),
    )
}

fn file_name(file: &std::path::Path) -> String {
    file.file_stem().map_or_else(
        || "model".to_owned(),
        |stem| stem.to_string_lossy().to_lowercase(),
    )
}
