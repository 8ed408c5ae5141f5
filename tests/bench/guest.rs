//! How fast a node leaves the machine to its owner, and what it costs to look out for them.
//!
//!     guest-bench
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

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
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use infera_system_tests::{Streamed, World, slow_model_of, story};
    use xtask::network::{BalancerOptions, Node, NodeOptions, START_LIMIT};
    use xtask::process::children_of;
    use xtask::{Result, wait};

    const ROUNDS: usize = 20;
    const WATCHED: Duration = Duration::from_mins(1);
    /// What becomes of a signal is looked at so often.
    const LOOK_EVERY: Duration = Duration::from_millis(1);
    const LIMIT: Duration = Duration::from_secs(10);
    /// The kernel's clock of processes.
    const TICKS_PER_SECOND: f64 = 100.0;

    /// A rule, and how it is switched on and off.
    struct Rule {
        name: &'static str,
        setting: &'static str,
        on: &'static str,
        off: &'static str,
        /// Where its program lies.
        program: &'static str,
    }

    const RULES: [Rule; 2] = [
        Rule {
            name: "a named program",
            setting: "rules.programs",
            on: "[\"infera-bench-program\"]",
            off: "[]",
            program: "infera-bench-program",
        },
        Rule {
            name: "a game",
            setting: "rules.games",
            on: "true",
            off: "false",
            program: "steamapps/common/Infera Bench/game",
        },
    ];

    pub(crate) fn bench() -> Result<()> {
        // An answer lasts seconds, so that there is something to stop.
        let nodes = NodeOptions::on_cpu(&slow_model_of(50_000)?);
        let world = World::with_nodes(BalancerOptions::default(), &nodes, 1, 0)?;
        let node = &world.workers[0];
        for rule in &RULES {
            let program = world.data.path().join(rule.program);
            if let Some(folder) = program.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::copy("/bin/sleep", &program)?;
            let times = (0..ROUNDS)
                .map(|_| leave(&world, node, rule, &program))
                .collect::<Result<Vec<_>>>()?;
            let (stopped, gone) = times.into_iter().unzip();
            println!("{}, {ROUNDS} times", rule.name);
            print("from its start until nothing is computed", stopped);
            print("from its start until the engine is gone", gone);
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

    /// How long after the program's start the engine computed for the last time, and was gone.
    fn leave(
        world: &World,
        node: &Node,
        rule: &Rule,
        program: &Path,
    ) -> Result<(Duration, Duration)> {
        node.run(&["config", rule.setting, rule.on])?;
        until_ready(node)?;
        let mut streamed = Streamed::default();
        // The balancer learns a moment later than we that the node is ready.
        let mut events = wait::until("the balancer takes a job", START_LIMIT, || {
            Ok(world.stream(&story(1, 300)).ok())
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
        let mut command = Command::new(program);
        let mut running = command.arg("600").stdout(Stdio::null()).spawn()?;
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
            if start.elapsed() > LIMIT {
                return Err("the engine does not end".into());
            }
            sleep(LOOK_EVERY);
        };
        running.kill()?;
        running.wait()?;
        // Nobody waits for a rule that is off.
        node.run(&["config", rule.setting, rule.off])?;
        Ok((stopped, gone))
    }

    fn cost(state: &str, node: &Node) -> Result<()> {
        let pid = node.pid().ok_or("the node does not run")?;
        let before = cpu_seconds(pid).ok_or("the node has ended")?;
        sleep(WATCHED);
        let after = cpu_seconds(pid).ok_or("the node has ended")?;
        let percent = (after - before) / WATCHED.as_secs_f64() * 100.0;
        println!("  {state:<42} {percent:.2} %, all of the node's threads");
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
            "  {what:<42} {:>4.0} ms median, {:>4.0} ms p95",
            at(0.5),
            at(0.95)
        );
    }
}
