//! `infera fleet`: all machines of the account, and what they are told.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use infera_node::app::api::{FleetAnswer, FleetOrder};
use infera_node::clock::{Clock, SystemClock};
use infera_node::state::rate;
use infera_protocol::NodeId;
use infera_protocol::account::{FleetAction, Machine};

use super::Show;
use super::duration::parse_duration;
use super::remote::{Control, output};
use super::terminal::{Fault, points, print, table};

#[derive(Subcommand)]
pub(super) enum FleetCommand {
    /// List the account's machines, and what each does
    List(Show),
    /// Pause machines until they are resumed
    Pause(Which),
    /// Pause machines for a while
    Snooze {
        /// For how long: 15m, 4h, 1h30m
        #[arg(value_parser = parse_duration)]
        duration: Duration,
        #[command(flatten)]
        which: Which,
    },
    /// Have machines take jobs again
    Resume(Which),
}

#[derive(Args)]
pub(super) struct Which {
    /// Machines by their names or ids, or the first digits of an id
    #[arg(value_name = "NODE", required_unless_present = "all")]
    machines: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "machines")]
    all: bool,
    #[command(flatten)]
    show: Show,
}

const UNCHANGED: &str = "no machine was told anything";

pub(super) async fn run(show: &Show, command: Option<FleetCommand>) -> Result<ExitCode, Fault> {
    match command {
        None => list(show).await,
        Some(FleetCommand::List(show)) => list(&show).await,
        Some(FleetCommand::Pause(which)) => tell(which, FleetAction::Pause).await,
        Some(FleetCommand::Snooze { duration, which }) => {
            let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
            let until_ms = SystemClock.now_ms().saturating_add(ms);
            tell(which, FleetAction::Snooze { until_ms }).await
        }
        Some(FleetCommand::Resume(which)) => tell(which, FleetAction::Resume).await,
    }
}

async fn list(show: &Show) -> Result<ExitCode, Fault> {
    let machines: Vec<Machine> = Control::of(show)?.call("fleet", &()).await?;
    output(show, &machines, |machines| describe(machines))
}

async fn tell(which: Which, action: FleetAction) -> Result<ExitCode, Fault> {
    let show = which.show;
    let control = Control::of(&show)?;
    let machines: Vec<Machine> = control.call("fleet", &()).await?;
    let nodes = if which.all {
        machines.iter().map(|machine| machine.node).collect()
    } else {
        let named = which.machines.iter();
        named
            .map(|name| find(&machines, name))
            .collect::<Result<Vec<_>, _>>()?
    };
    if nodes.is_empty() {
        return print("The account has no machines in this network yet");
    }
    let order = FleetOrder { nodes, action };
    let answers: Vec<FleetAnswer> = control.call_slowly("command_fleet", &order).await?;
    output(&show, &answers, |answers| told(&machines, answers))?;
    Ok(if answers.iter().all(|answer| answer.fault.is_none()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// By its whole name or id, or how an id begins; never one of several.
fn find(machines: &[Machine], asked: &str) -> Result<NodeId, Fault> {
    let fits =
        |machine: &&Machine| name(machine) == asked || machine.node.to_string().starts_with(asked);
    let found: Vec<_> = machines.iter().filter(fits).collect();
    match &found[..] {
        [machine] => Ok(machine.node),
        [] => Err(Fault::with_advice(
            &format!("the account has no machine `{asked}` in this network"),
            UNCHANGED,
            "name one as `infera fleet` lists it",
        )
        .code(2)),
        _ => Err(Fault::with_advice(
            &format!("`{asked}` are several machines"),
            UNCHANGED,
            "name one by its id, as `infera fleet --json` has it",
        )
        .code(2)),
    }
}

fn name(machine: &Machine) -> &str {
    machine.report.as_ref().map_or("", |report| &report.name)
}

fn shown_name(machine: &Machine) -> String {
    match name(machine) {
        "" => machine.node.short(),
        name => name.to_owned(),
    }
}

fn told(machines: &[Machine], answers: &[FleetAnswer]) -> String {
    let rows: Vec<_> = answers
        .iter()
        .map(|answer| {
            let machine = machines.iter().find(|it| it.node == answer.node);
            let name = machine.map_or_else(|| answer.node.short(), shown_name);
            let outcome = answer
                .fault
                .as_ref()
                .map_or_else(|| "was told".to_owned(), ToString::to_string);
            vec![name, outcome]
        })
        .collect();
    table(&rows, &[])
}

fn describe(machines: &[Machine]) -> String {
    if machines.is_empty() {
        return "The account has no machines in this network yet: `infera account link-code` makes a code for one".to_owned();
    }
    let titles = [
        "Name", "Id", "State", "Devices", "Jobs", "Tokens/s", "Points", "Version",
    ];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    rows.extend(machines.iter().map(|machine| {
        let report = machine.report.as_ref();
        let devices = report.map_or(&[][..], |report| &report.devices);
        let speed: f32 = devices.iter().map(|device| device.tokens_per_second).sum();
        vec![
            shown_name(machine),
            machine.node.short(),
            state(machine),
            devices_shown(machine),
            machine.running.to_string(),
            if speed > 0.0 {
                rate(speed)
            } else {
                "-".to_owned()
            },
            points(machine.points.confirmed),
            report.map_or("-", |report| &*report.software).to_owned(),
        ]
    }));
    table(&rows, &[4, 5, 6])
}

fn state(machine: &Machine) -> String {
    if !machine.here {
        return match machine.last_seen_ms {
            Some(at) => format!("not here since {}", SystemClock.describe(at)),
            None => "not here".to_owned(),
        };
    }
    if let Some(paused) = &machine.paused {
        return paused.clone();
    }
    if machine.running > 0 {
        "working".to_owned()
    } else {
        "waiting for jobs".to_owned()
    }
}

/// Each kind once, with how many there are.
fn devices_shown(machine: &Machine) -> String {
    let mut kinds: Vec<(&str, u32)> = Vec::new();
    for device in machine.report.iter().flat_map(|report| &report.devices) {
        match kinds.iter_mut().find(|(name, _)| *name == device.name) {
            Some((_, count)) => *count += 1,
            None => kinds.push((&device.name, 1)),
        }
    }
    let kinds = kinds.into_iter().map(|(name, count)| match count {
        1 => name.to_owned(),
        count => format!("{count} × {name}"),
    });
    let kinds: Vec<_> = kinds.collect();
    if kinds.is_empty() {
        "-".to_owned()
    } else {
        kinds.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use infera_node::app::api::FleetFault;
    use infera_protocol::account::{DeviceReport, MachineReport};
    use infera_protocol::node_api::Points;

    use super::*;

    fn machine(number: u8, name: &str) -> Machine {
        let device = DeviceReport {
            name: "RTX 4090".to_owned(),
            paused: None,
            tokens_per_second: 42.0,
        };
        Machine {
            node: NodeId::from_bytes([number; 32]),
            report: Some(MachineReport {
                name: name.to_owned(),
                software: "infera 0.1.0".to_owned(),
                takes_commands: true,
                devices: vec![device.clone(), device],
            }),
            here: true,
            paused: None,
            running: 3,
            verified: 9,
            points: Points {
                confirmed: 12_000_000,
                ..Points::default()
            },
            last_seen_ms: None,
        }
    }

    #[test]
    fn a_fleet_stands_in_one_table() {
        let mut gone = machine(2, "");
        gone.report = None;
        gone.here = false;
        gone.running = 0;
        let mut paused = machine(3, "attic");
        paused.paused = Some("Paused by you".to_owned());
        let text = describe(&[machine(1, "rack"), gone, paused]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("rack"), "{text}");
        assert!(lines[1].contains("working") && lines[1].contains("2 × RTX 4090"));
        assert!(lines[1].contains("84"), "{text}");
        assert!(lines[2].contains("not here"), "{text}");
        assert!(lines[3].contains("Paused by you"), "{text}");
        assert!(describe(&[]).contains("account link-code"));
    }

    #[test]
    fn machines_are_named_without_doubt() {
        let machines = [machine(1, "rack"), machine(2, "rack"), machine(3, "attic")];
        assert_eq!(find(&machines, "attic").unwrap(), machines[2].node);
        assert_eq!(find(&machines, "0101").unwrap(), machines[0].node);
        for (asked, words) in [
            ("rack", "several"),
            ("cellar", "no machine"),
            ("0", "several"),
        ] {
            let fault = format!("{:?}", find(&machines, asked).unwrap_err());
            assert!(fault.contains(words), "{fault}");
        }
        let answers = [FleetAnswer {
            node: machines[2].node,
            fault: Some(FleetFault::NotAllowed),
        }];
        assert!(told(&machines, &answers).contains("attic  it takes no commands from afar"));
    }
}
