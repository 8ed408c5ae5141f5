//! How fast a node leaves the machine to its owner, and what it costs to look out for them.
//!
//!     guest-bench
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

#[cfg(target_os = "linux")]
mod owner;

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    let outcome = linux::bench();
    #[cfg(not(target_os = "linux"))]
    let outcome: xtask::Result<()> = Err("it reads Linux's files about processes".into());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use infera_system_tests::desktop::{self, Desktop};
    use infera_system_tests::{Streamed, World, slow_model_of, story};
    use xtask::network::{BalancerOptions, Node, NodeOptions, START_LIMIT};
    use xtask::process::children_of;
    use xtask::{Result, wait};

    use super::owner::{Act, Owner};

    const ROUNDS: usize = 20;
    const WATCHED: Duration = Duration::from_mins(1);
    /// What becomes of a signal is looked at so often.
    const LOOK_EVERY: Duration = Duration::from_millis(1);
    const LIMIT: Duration = Duration::from_secs(10);
    /// An engine that has computed nothing for so long does not compute.
    const QUIET: Duration = Duration::from_secs(1);
    /// Long enough that no rule lets it be finished first.
    const TOKENS: u32 = 450;
    /// The kernel's clock of processes.
    const TICKS_PER_SECOND: f64 = 100.0;

    /// A rule, and how it is switched on and off.
    struct Rule {
        name: &'static str,
        /// A setting with its values; none for what has no switch.
        setting: Option<[&'static str; 3]>,
        act: Act,
        begins: &'static str,
        /// The engine goes at once; else the model stays loaded for a while.
        frees: bool,
    }

    const RULES: [Rule; 6] = [
        Rule {
            name: "a named program",
            setting: Some(["rules.programs", "[\"infera-bench-program\"]", "[]"]),
            act: Act::Program("infera-bench-program"),
            begins: "its start",
            frees: true,
        },
        Rule {
            name: "a game",
            setting: Some(["rules.games", "true", "false"]),
            act: Act::Program("steamapps/common/Infera Bench/game"),
            begins: "its start",
            frees: true,
        },
        Rule {
            name: "full screen",
            setting: Some(["rules.full_screen", "true", "false"]),
            act: Act::FullScreen,
            begins: "its window",
            frees: true,
        },
        Rule {
            name: "input, while the owner was away",
            setting: Some(["rules.away.on", "true", "false"]),
            act: Act::Input,
            begins: "the input",
            frees: false,
        },
        Rule {
            name: "battery",
            setting: Some(["rules.battery", "true", "false"]),
            act: Act::Unplug,
            begins: "the signal",
            frees: true,
        },
        Rule {
            name: "sleep",
            setting: None,
            act: Act::Sleep,
            begins: "the signal",
            frees: true,
        },
    ];

    pub(crate) fn bench() -> Result<()> {
        if let Some(program) = desktop::missing(&["Xvfb", "dbus-daemon"]) {
            return Err(format!("{program} is not installed").into());
        }
        let folder = tempfile::tempdir()?;
        let desktop = Desktop::start(folder.path())?;
        let mut owner = Owner::at(&desktop, folder.path())?;
        // An answer lasts more than ten seconds: what is done sooner is finished on battery.
        let nodes = NodeOptions {
            environment: owner.environment(&desktop),
            ..NodeOptions::on_cpu(&slow_model_of(120_000)?)
        };
        let world = World::with_nodes(BalancerOptions::default(), &nodes, 1, 0)?;
        let node = &world.workers[0];
        for rule in &RULES {
            owner.prepare(rule.act)?;
            let times = (0..ROUNDS)
                .map(|_| leave(&world, node, rule, &mut owner))
                .collect::<Result<Vec<_>>>()?;
            let (stopped, gone): (Vec<_>, Vec<_>) = times.into_iter().unzip();
            println!("{}, {ROUNDS} times", rule.name);
            let begins = rule.begins;
            print(&format!("from {begins} until nothing is computed"), stopped);
            if rule.frees {
                print(&format!("from {begins} until the engine is gone"), gone);
            }
        }
        println!("what observing costs, of one core");
        node.run(&["pause"])?;
        cost("paused", node)?;
        node.run(&["resume"])?;
        until_ready(node)?;
        cost("waiting for jobs", node)
    }

    fn until_ready(node: &Node) -> Result<()> {
        wait::until("the node is ready", START_LIMIT, || {
            Ok(node.is_ready().then_some(()))
        })
    }

    /// How long after the owner's act the engine computed for the last time, and was gone.
    fn leave(
        world: &World,
        node: &Node,
        rule: &Rule,
        owner: &mut Owner,
    ) -> Result<(Duration, Duration)> {
        if let Some([name, on, _]) = rule.setting {
            node.run(&["config", name, on])?;
        }
        until_ready(node)?;
        let mut streamed = Streamed::default();
        // The balancer learns a moment later than we that the node is ready.
        let mut events = wait::until("the balancer takes a job", START_LIMIT, || {
            Ok(world.stream(&story(1, TOKENS)).ok())
        })?;
        while streamed.pieces < 3 {
            streamed.take(&events.next().ok_or("the answer ended too early")??)?;
        }
        let pid = node.pid().ok_or("the node does not run")?;
        let engines = children_of(pid)?;
        let [engine] = engines[..] else {
            return Err(format!("one engine was to run, not {engines:?}").into());
        };
        let start = Instant::now();
        owner.begin(rule.act)?;
        let mut computed = cpu_seconds(engine);
        let mut stopped = start.elapsed();
        let gone = loop {
            let now = cpu_seconds(engine);
            if now.is_none() {
                break start.elapsed();
            }
            if now != computed {
                computed = now;
                stopped = start.elapsed();
            }
            if !rule.frees && start.elapsed() > stopped + QUIET {
                break start.elapsed();
            }
            if start.elapsed() > LIMIT {
                let status = node.run(&["status"])?;
                return Err(format!("{}: the engine does not stop: {status}", rule.name).into());
            }
            sleep(LOOK_EVERY);
        };
        owner.end(rule.act)?;
        // Nobody waits for a rule that is off.
        if let Some([name, _, off]) = rule.setting {
            node.run(&["config", name, off])?;
        }
        Ok((stopped, gone))
    }

    fn cost(state: &str, node: &Node) -> Result<()> {
        let pid = node.pid().ok_or("the node does not run")?;
        let before = cpu_seconds(pid).ok_or("the node has ended")?;
        sleep(WATCHED);
        let after = cpu_seconds(pid).ok_or("the node has ended")?;
        let percent = (after - before) / WATCHED.as_secs_f64() * 100.0;
        println!("  {state:<45} {percent:.2} %, all of the node's threads");
        Ok(())
    }

    /// What a process has computed; none once it has ended.
    fn cpu_seconds(pid: u32) -> Option<f64> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Its name, which may hold anything, stands in brackets.
        let mut words = line.rsplit_once(')')?.1.split_whitespace();
        if words.next() == Some("Z") {
            return None;
        }
        let ticks: Vec<f64> = words
            .skip(10)
            .take(2)
            .map_while(|word| word.parse().ok())
            .collect();
        Some(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
    }

    fn print(what: &str, mut times: Vec<Duration>) {
        times.sort();
        let at = |share: f64| {
            let place = (times.len() as f64 * share).ceil() as usize;
            times[place.clamp(1, times.len()) - 1].as_secs_f64() * 1e3
        };
        println!(
            "  {what:<45} {:>4.0} ms median, {:>4.0} ms p95",
            at(0.5),
            at(0.95)
        );
    }
}
