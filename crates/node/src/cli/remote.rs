//! The commands that ask a running node: status, pause, resume, check, history, points.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use infera_node::app::api::{ApiError, AppState, ById, ForSeconds, PauseRequest, Refusal};
use infera_node::app::settings::Preferences;
use infera_node::books::{JobRow, JobsPage, JobsQuery};
use infera_node::clock::{Clock, SystemClock};
use infera_node::data_dir::{ControlFile, DataDir, DataDirError};
use infera_node::engine_link::ChildEngine;
use infera_node::hardware::{HardwareProbe, SystemProbe};
use infera_node::look_up::{NotFound, look_up};
use infera_node::state::{
    Connection, DeviceStatus, EngineStatus, NodeSnapshot, Summary, TurnedAway, rate,
};
use infera_protocol::node_api::{VerdictStatus, WorkKind};
use infera_protocol::requirements::{self, Hardware, Mark, Policy, Requirement};
use infera_protocol::shown;
use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Show;
use super::terminal::{
    Fault, coloured, points as in_points, print, print_as_it_is, print_json, table,
};

const ANSWER_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn status(show: &Show) -> Result<ExitCode, Fault> {
    let snapshot = Control::of(show)?.node("state", &()).await?;
    output(show, &snapshot, describe)
}

pub(super) async fn pause(
    show: &Show,
    duration: Option<Duration>,
    finish_first: bool,
) -> Result<ExitCode, Fault> {
    let request = PauseRequest {
        seconds: duration.map(|duration| duration.as_secs()),
        finish_first,
        ..PauseRequest::default()
    };
    let snapshot = Control::of(show)?.node("pause", &request).await?;
    output(show, &snapshot, |snapshot| snapshot.state.sentence.clone())
}

pub(super) async fn resume(show: &Show, anyway: Option<Duration>) -> Result<ExitCode, Fault> {
    let control = Control::of(show)?;
    let snapshot = match anyway {
        None => control.node("resume", &()).await?,
        Some(duration) => {
            let seconds = duration.as_secs();
            control.node("work_anyway", &ForSeconds { seconds }).await?
        }
    };
    output(show, &snapshot, |snapshot| snapshot.state.sentence.clone())
}

pub(super) async fn pause_device(show: &Show, device: &str) -> Result<ExitCode, Fault> {
    leave_device(show, device, "pause_device").await
}

pub(super) async fn resume_device(show: &Show, device: &str) -> Result<ExitCode, Fault> {
    leave_device(show, device, "resume_device").await
}

async fn leave_device(show: &Show, device: &str, command: &str) -> Result<ExitCode, Fault> {
    let control = Control::of(show)?;
    let devices = control.node("state", &()).await?.devices;
    let id = device_named(&devices, device)
        .ok_or_else(|| {
            Fault::with_advice(
                &format!(
                    "no device that computes is called `{}`",
                    shown::line(device)
                ),
                "nothing was changed",
                "name one by its id or its number in `infera status`",
            )
            .code(2)
        })?
        .id
        .clone();
    let snapshot = control.node(command, &ById { id }).await?;
    output(show, &snapshot, |snapshot| {
        device_rows(&snapshot.devices, &snapshot.state.summary).join("\n")
    })
}

/// By its id, or its number in the list, counted from 0.
fn device_named<'a>(devices: &'a [DeviceStatus], named: &str) -> Option<&'a DeviceStatus> {
    devices
        .iter()
        .find(|device| device.id == named)
        .or_else(|| devices.get(named.parse::<usize>().ok()?))
}

/// One line for each device: its number, what it is, what it does.
fn device_rows(devices: &[DeviceStatus], summary: &Summary) -> Vec<String> {
    let rows = devices.iter().enumerate().map(|(number, device)| {
        let what = format!(
            "{number}  {} ({})",
            shown::line(&device.name),
            shown::line(&device.id)
        );
        vec![what, device_state(device, summary)]
    });
    let rows: Vec<_> = rows.collect();
    table(&rows, &[]).lines().map(str::to_owned).collect()
}

fn device_state(device: &DeviceStatus, summary: &Summary) -> String {
    let busy = match (device.jobs, device.audits) {
        (0, 0) => None,
        (0, audits) => Some(format!("checking {audits}")),
        (jobs, _) => Some(match device.tokens_per_second {
            Some(speed) => format!("{jobs} at work, {} tokens/s", rate(speed)),
            None => format!("{jobs} at work"),
        }),
    };
    if device.missing {
        "is not there".to_owned()
    } else if let Some(busy) = busy {
        busy
    } else if device.paused {
        "paused by you".to_owned()
    } else if device.reason.is_some() || matches!(summary, Summary::NoModel) {
        "rests".to_owned()
    } else {
        let models = device.models.iter();
        let models: Vec<_> = models
            .map(|model| format!("{}: {}", model.name, engine(&model.engine)))
            .collect();
        models.join(", ")
    }
}

pub(super) async fn history(show: &Show, limit: u32) -> Result<ExitCode, Fault> {
    let query = JobsQuery {
        limit,
        ..JobsQuery::default()
    };
    let page: JobsPage = Control::of(show)?.call("jobs", &query).await?;
    output(show, &page.jobs, |jobs| history_table(jobs))
}

pub(super) async fn points(show: &Show) -> Result<ExitCode, Fault> {
    let points = Control::of(show)?.node("state", &()).await?.points;
    output(show, &points, |points| match points {
        None => "The balancer has not told the points yet".to_owned(),
        Some(points) => table(
            &[
                ("Confirmed", points.confirmed, "verified, and yours"),
                ("Pending", points.pending, "earned, being verified"),
                (
                    "Forfeited",
                    points.forfeited,
                    "lost, because verification failed",
                ),
            ]
            .map(|(title, micro, meaning)| {
                vec![title.to_owned(), in_points(micro), meaning.to_owned()]
            }),
            &[1],
        ),
    })
}

/// The hardware gate, row by row.
#[derive(Serialize, Deserialize)]
struct Check {
    policy: String,
    met: bool,
    requirements: Vec<Requirement>,
    hardware: Hardware,
}

pub(super) async fn check(
    show: &Show,
    balancer: Option<String>,
    ca_file: Option<&Path>,
) -> Result<ExitCode, Fault> {
    let roots = show
        .data
        .folder()?
        .certificates(ca_file)
        .map_err(|error| Fault::new(&error.to_string(), NOT_COMPARED))?;
    let alone = async |balancer| check_alone(show, balancer, roots.as_deref()).await;
    let check = match (Control::of(show), balancer) {
        (Ok(control), None) => match control.node("check", &()).await {
            Ok(NodeSnapshot {
                policy: Some(policy),
                hardware: Some(hardware),
                requirements,
                ..
            }) => Check {
                policy,
                met: requirements::met(&requirements),
                requirements,
                hardware,
            },
            // It runs, but has not heard of the network's policy; or it does not run after all.
            Ok(_) | Err(_) => alone(None).await?,
        },
        (_, balancer) => alone(balancer).await?,
    };
    if show.json {
        output(show, &check, |_| String::new())?;
    } else {
        print_as_it_is(&check_table(&check))?;
    }
    Ok(if check.met {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(4)
    })
}

const NOT_COMPARED: &str = "what the network asks for is not known, so nothing was compared";

/// Without a running node: against the rules of a network that is named or was used last, else those
/// of public networks.
async fn check_alone(
    show: &Show,
    balancer: Option<String>,
    roots: Option<&[u8]>,
) -> Result<Check, Fault> {
    let folder = show.data.folder()?;
    let settings = Preferences::read(&folder.settings())
        .unwrap_or_default()
        .settings;
    let network = match balancer.or(settings.balancer) {
        None => None,
        Some(address) => {
            let found = look_up(&address, roots, &settings.networks)
                .await
                .map_err(|error| match error {
                    NotFound::Address(error) => Fault::new(&error.to_string(), NOT_COMPARED),
                    NotFound::Invitation(fault) => Fault::new(&fault.to_string(), NOT_COMPARED),
                    error @ NotFound::NoAnswer { .. } => Fault::with_advice(
                        &error.to_string(),
                        NOT_COMPARED,
                        "check the address and your network",
                    ),
                })?;
            Some(found.network)
        }
    };
    let (name, policy) = network.map_or_else(
        || (None, Policy::public()),
        |network| (Some(network.name), network.policy),
    );
    let hardware = probe(&folder).await?;
    let requirements = requirements::check(&policy, &hardware);
    Ok(Check {
        policy: name.unwrap_or(policy.name),
        met: requirements::met(&requirements),
        requirements,
        hardware,
    })
}

/// What this machine has, without a running node.
pub(super) async fn probe(folder: &DataDir) -> Result<Hardware, Fault> {
    let engine = ChildEngine::current()
        .map(ChildEngine::quiet)
        .map_err(|error| Fault::new(&error.to_string(), "the machine could not be looked at"))?;
    folder
        .create()
        .map_err(|error| Fault::new(&error.to_string(), "the disk could not be looked at"))?;
    let probe = SystemProbe::new(Arc::new(engine), folder.path().to_owned());
    Ok(probe.probe().await)
}

fn check_table(check: &Check) -> String {
    let policy = shown::line(&check.policy);
    let mut lines = vec![if check.met {
        format!("This machine can work for the {policy} network")
    } else {
        format!("This machine cannot work for the {policy} network")
    }];
    let mut rows: Vec<_> = check.requirements.iter().collect();
    // What blocks comes first.
    rows.sort_by_key(|row| match row.mark {
        Mark::Fail => 0,
        Mark::Warn => 1,
        Mark::Pass => 2,
    });
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            vec![
                mark(row.mark).to_owned(),
                row.title().to_owned(),
                format!("needs {}", row.need),
                format!("found {}", row.found),
            ]
        })
        .collect();
    for (line, row) in table(&cells, &[]).lines().zip(&rows) {
        let (word, rest) = line.split_at(4);
        let colour = match row.mark {
            Mark::Pass => 32,
            Mark::Warn => 33,
            Mark::Fail => 31,
        };
        lines.push(format!("{}{rest}", coloured(word, colour)));
        if let Some(remedy) = row.remedy() {
            lines.push(format!("      {}", shown::line(remedy)));
        }
    }
    // As `--device` takes them.
    let gpus = check.hardware.gpus.iter().enumerate().map(|(number, gpu)| {
        let place = gpu.pci_id.as_deref().unwrap_or_default();
        vec![
            format!("GPU {number}"),
            shown::line(&gpu.name).into_owned(),
            shown::line(&gpu.api).into_owned(),
            shown::line(place).into_owned(),
        ]
    });
    let gpus: Vec<_> = gpus.collect();
    if !gpus.is_empty() {
        lines.push(String::new());
        lines.push(table(&gpus, &[]));
    }
    lines.join("\n")
}

fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Pass => "pass",
        Mark::Warn => "warn",
        Mark::Fail => "fail",
    }
}

fn describe(snapshot: &NodeSnapshot) -> String {
    let mut lines = vec![snapshot.state.sentence.clone()];
    lines.extend(snapshot.state.remedy.clone());
    lines.push(String::new());
    let mut rows = vec![
        vec!["Node".to_owned(), snapshot.node.to_string()],
        vec![
            "Balancer".to_owned(),
            format!(
                "{} ({})",
                snapshot.balancer,
                connection(&snapshot.connection)
            ),
        ],
    ];
    for model in &snapshot.models {
        let device = model.device.as_ref().map_or(String::new(), |device| {
            format!(" on {} ({})", device.name, device.backend)
        });
        rows.push(vec![
            "Model".to_owned(),
            format!("{}{device}: {}", model.name, engine(&model.engine)),
        ]);
    }
    if snapshot.devices.len() > 1 {
        let devices = device_rows(&snapshot.devices, &snapshot.state.summary);
        rows.extend(
            devices
                .into_iter()
                .map(|device| vec!["Device".to_owned(), device]),
        );
    }
    for work in &snapshot.work {
        let kind = match work.kind {
            WorkKind::Job => "Job",
            WorkKind::Audit => "Check",
        };
        let mut parts = vec![work.model.clone(), format!("{} in", work.input_tokens)];
        if work.kind == WorkKind::Job {
            parts.push(format!("{} of {}", work.output_tokens, work.max_tokens));
        }
        if let Some(speed) = work.tokens_per_second {
            parts.push(format!("{} tokens/s", rate(speed)));
        }
        rows.push(vec![kind.to_owned(), parts.join(" · ")]);
    }
    if let Some(points) = snapshot.points {
        rows.push(vec![
            "Points".to_owned(),
            format!(
                "{} confirmed, {} pending, {} forfeited",
                in_points(points.confirmed),
                in_points(points.pending),
                in_points(points.forfeited)
            ),
        ]);
    }
    lines.push(table(&rows, &[]));
    lines.join("\n")
}

fn connection(connection: &Connection) -> String {
    match connection {
        Connection::Connecting => "not reached yet".to_owned(),
        Connection::Connected { reference: true } => "connected, as a reference node".to_owned(),
        Connection::Connected { reference: false } => "connected".to_owned(),
        Connection::Disconnected { reason, .. } => reason.to_string(),
        Connection::TurnedAway {
            why: TurnedAway::InvitationNeeded,
            ..
        } => "it takes new nodes by invitation only".to_owned(),
        Connection::TurnedAway { .. } => "it does not take this node now".to_owned(),
        Connection::Refused { .. } => "it refused this version".to_owned(),
    }
}

fn engine(status: &EngineStatus) -> String {
    match status {
        EngineStatus::Off => "not loaded".to_owned(),
        EngineStatus::Loading {
            done_bytes,
            total_bytes,
        } => {
            let percent = (done_bytes * 100).checked_div(*total_bytes).unwrap_or(0);
            format!("loading, {percent} %")
        }
        EngineStatus::Tuning { done, total } => format!("tuning, {done} of {total}"),
        EngineStatus::Ready => "ready".to_owned(),
        EngineStatus::Restarting { fault, .. } => format!("starting again: {fault}"),
        EngineStatus::Broken { fault } => fault.to_string(),
    }
}

fn history_table(entries: &[JobRow]) -> String {
    if entries.is_empty() {
        return "No work yet: jobs and checks will be listed here when they are done".to_owned();
    }
    let mut rows = vec![
        [
            "When", "Kind", "Model", "In", "Out", "Tokens/s", "Verdict", "Points",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(entries.iter().map(|entry| {
        let record = &entry.record;
        vec![
            SystemClock.describe(record.started_ms),
            match record.kind {
                WorkKind::Job => "job",
                WorkKind::Audit => "check",
            }
            .to_owned(),
            record.model_name.clone(),
            record.input_tokens.to_string(),
            record.output_tokens.to_string(),
            entry.tokens_per_second.map_or_else(|| "-".to_owned(), rate),
            match record.verdict {
                VerdictStatus::Verified => "verified",
                VerdictStatus::SampledOut => "not drawn",
                VerdictStatus::NotChecked => "not checked",
                VerdictStatus::Pending => "pending",
                VerdictStatus::Failed => "failed",
            }
            .to_owned(),
            in_points(record.points),
        ]
    }));
    table(&rows, &[3, 4, 5, 7])
}

pub(super) fn output<T: Serialize>(
    show: &Show,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<ExitCode, Fault> {
    if show.json {
        let json = serde_json::to_string_pretty(value).map_err(|error| {
            Fault::with_advice(
                &format!("the answer cannot be written as JSON: {error}"),
                "nothing is shown",
                "leave out `--json`",
            )
        })?;
        print_json(&json)
    } else {
        print(&text(value))
    }
}

const NOT_DONE: &str = "the node did not do what was asked";
const START_AGAIN: &str = "end the node and start it again if this stays so";

fn refused(error: &ApiError) -> Fault {
    if let Some(remedy) = &error.remedy {
        return Fault::with_advice(&error.message, NOT_DONE, remedy);
    }
    match error.refusal {
        // Their sentences end with what to do.
        Refusal::Account { .. }
        | Refusal::AccountKey { .. }
        | Refusal::AccountWords { .. }
        | Refusal::Link { .. } => Fault::new(&error.message, NOT_DONE),
        _ => Fault::with_advice(&error.message, NOT_DONE, START_AGAIN),
    }
}

/// The control API of the node that runs in a data folder.
pub(super) struct Control {
    client: Client,
    file: ControlFile,
    not_running: Fault,
}

impl Control {
    pub(super) fn of(show: &Show) -> Result<Self, Fault> {
        let folder = show.data.folder()?;
        let not_running =
            |error: DataDirError| Fault::new(&error.to_string(), "there is nothing to ask").code(3);
        let file = folder.control().map_err(not_running)?;
        // Plain HTTP to this machine: no certificates, but the client wants a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().map_err(|error| {
            Fault::with_advice(
                &format!("no connection can be made: {error}"),
                "the node was not asked",
                "try again",
            )
        })?;
        Ok(Self {
            client,
            file,
            not_running: not_running(DataDirError::NotRunning(folder.path().to_owned())),
        })
    }

    /// Carries out a command whose answer is the state, and gives the node's part of it.
    async fn node(&self, command: &str, request: &impl Serialize) -> Result<NodeSnapshot, Fault> {
        let state: AppState = self.call(command, request).await?;
        state.node.ok_or_else(|| {
            Fault::with_advice(
                &state.state.sentence,
                "the node cannot start its work",
                "end it and start it again if this stays so",
            )
        })
    }

    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        command: &str,
        request: &impl Serialize,
    ) -> Result<T, Fault> {
        self.answer(self.request(command, request).timeout(ANSWER_LIMIT))
            .await
    }

    /// For what takes as long as it takes.
    pub(super) async fn call_slowly<T: DeserializeOwned>(
        &self,
        command: &str,
        request: &impl Serialize,
    ) -> Result<T, Fault> {
        self.answer(self.request(command, request)).await
    }

    fn request(&self, command: &str, request: &impl Serialize) -> RequestBuilder {
        self.client
            .post(format!("{}/control/v1/{command}", self.file.url))
            .bearer_auth(&self.file.token)
            .json(request)
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Fault> {
        // A node that was killed leaves its control file behind.
        let response = request.send().await.map_err(|_| self.not_running.clone())?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(match response.json::<ApiError>().await {
                Ok(error) => refused(&error),
                Err(_) => Fault::with_advice(
                    &format!("the node answered with status {status}"),
                    NOT_DONE,
                    START_AGAIN,
                ),
            });
        }
        response.json().await.map_err(|_| {
            Fault::with_advice(
                "the node's answer is not one this version understands",
                "the node is of another version than this command",
                "end the node and start it again",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use infera_protocol::requirements::{Amount, RequirementId};

    use super::*;

    #[test]
    fn what_blocks_comes_first_with_its_remedy() {
        let row = |id, mark| Requirement {
            id,
            need: Amount::Memory { bytes: 8 << 30 },
            found: Amount::Memory { bytes: 6 << 30 },
            mark,
        };
        let check = Check {
            policy: "public".to_owned(),
            met: false,
            requirements: vec![
                row(RequirementId::Network, Mark::Pass),
                row(RequirementId::Ram, Mark::Fail),
            ],
            hardware: Hardware::default(),
        };
        let text = check_table(&check);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "This machine cannot work for the public network",
                "fail  Memory (RAM)   needs 8 GB  found 6 GB",
                "      Add memory, or join a network that asks for less",
                "pass  Network speed  needs 8 GB  found 6 GB",
            ]
        );
    }
}
