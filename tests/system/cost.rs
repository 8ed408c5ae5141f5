//! What the work costs, from a GPU's power to the window and the command line: the node's program
//! runs in this process with a driver of the test's own, beside a real engine on software Vulkan, a
//! real balancer and a browser.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_node::app::api::AppState;
use infera_node::app::settings::DeviceSetting;
use infera_node::app::{App, AppConfig, KeySource, Overrides};
use infera_node::clock::{SystemClock, SystemEntropy};
use infera_node::control::ControlServer;
use infera_node::data_dir::DataDir;
use infera_node::engine_link::{ChildEngine, EngineProcesses};
use infera_node::gpu::{AdapterStanding, GpuReader, GpuReading};
use infera_node::state::Summary;
use infera_surroundings::Observers;
use infera_system_tests::{World, browser, story, tiny_model};
use serde_json::{Value, json};
use xtask::network::START_LIMIT;
use xtask::{Result, process};

#[test]
fn a_price_is_told_and_the_cost_of_measured_work_is_seen() -> Result<()> {
    let world = World::start(0, 0)?;
    let data = world.data.path().join("measured");
    let driver = Driver::default();
    let runtime = tokio::runtime::Runtime::new()?;
    let app = runtime.block_on(start(&world, &data, &driver))?;
    let Some(adapter) = runtime.block_on(adapter_at_work(&app))? else {
        eprintln!("skipped: there is no software Vulkan adapter (Mesa's llvmpipe) on this machine");
        runtime.block_on(app.shut_down());
        return Ok(());
    };
    driver.state().adapter = Some(adapter);
    let address = "127.0.0.1:0".parse()?;
    let server = runtime.block_on(ControlServer::start(app.clone(), address, &SystemEntropy))?;
    app.data().publish_control(server.control())?;
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
    let given = json!({ "address": server.web_address() });
    let mut seed = 0;
    browser::run("cost", &pictures, &given, |question| match question {
        "a job" => {
            seed += 1;
            driver.state().watts = 142.0;
            let answer = world.chat(&story(seed, 200))?;
            driver.state().watts = 18.0;
            Ok(answer["infera"]["job_id"].clone())
        }
        _ => Err(format!("the script asks for `{question}`, which is not there").into()),
    })?;

    let told = infera(&world, &data, &["earnings"])?;
    assert!(told.contains("Last 30 days"), "{told}");
    assert!(told.contains("A kilowatt-hour costs 0.5 EUR"), "{told}");
    let changed = infera(
        &world,
        &data,
        &["config", "electricity.price_per_kwh", "0.30"],
    )?;
    assert_eq!(changed.trim(), "\"0.30\"", "it is kept as it was written");
    let before = costs(&infera(&world, &data, &["earnings", "--json"])?)?;
    assert_eq!(
        before["tariff"],
        json!({ "price_per_kwh": "0.30", "currency": "EUR" })
    );

    // It outlives the program.
    runtime.block_on(async {
        server.stop().await;
        app.shut_down().await;
    });
    drop(app);
    let app = runtime.block_on(async {
        let started = async {
            loop {
                // Tasks that end by themselves let go of the folder a moment later.
                match start(&world, &data, &driver).await {
                    Ok(app) => break app,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(START_LIMIT, started).await
    })?;
    let query = json!({ "period": "day" });
    let earnings = runtime.block_on(app.call("earnings", query))?;
    let hours = |consumption: &Value| consumption["month"]["kilowatt_hours"].as_f64();
    let (before, after) = (hours(&before), hours(&earnings["consumption"]));
    assert!(before.is_some_and(|hours| hours > 0.0), "{before:?}");
    let differs = before
        .zip(after)
        .map(|(before, after)| (before - after).abs());
    assert!(
        differs.is_some_and(|kwh| kwh < 1e-7),
        "{before:?} {after:?}"
    );
    runtime.block_on(app.shut_down());
    Ok(())
}

/// A driver that tells what the test wants.
#[derive(Clone, Default)]
struct Driver(Arc<Mutex<DriverState>>);

#[derive(Default)]
struct DriverState {
    adapter: Option<String>,
    watts: f32,
}

impl Driver {
    fn state(&self) -> MutexGuard<'_, DriverState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GpuReader for Driver {
    fn read(&mut self) -> Vec<GpuReading> {
        let state = self.state();
        let reading = state.adapter.as_ref().map(|adapter| GpuReading {
            adapter: adapter.clone(),
            load_percent: Some(1.0),
            power_watts: Some(state.watts),
            ..GpuReading::default()
        });
        reading.into_iter().collect()
    }
}

async fn start(world: &World, data: &Path, driver: &Driver) -> Result<App> {
    let key: PathBuf = world.data.path().join("measured.key");
    let config = AppConfig {
        data: DataDir::new(data).lock()?,
        key: KeySource::File(key),
        ca_file: None,
        context_tokens: None,
        models_folder: None,
        desktop: false,
        overrides: Overrides {
            agreed: Some(true),
            balancer: Some(world.balancer.url().to_owned()),
            models: Some(vec![tiny_model()]),
            devices: Some(vec![DeviceSetting::Named {
                name: "llvmpipe".to_owned(),
            }]),
            ..Overrides::default()
        },
        engine: ChildEngine {
            program: world.binaries.node.clone(),
            arguments: vec!["engine".to_owned(), "--quiet".to_owned()],
            processes: EngineProcesses::default(),
        },
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        observers: Observers::none(),
        gpu_readers: Some(vec![Box::new(driver.clone())]),
    };
    Ok(App::start(config).await?)
}

/// What the node computes on, once it is ready for jobs; none where there is no software Vulkan.
async fn adapter_at_work(app: &App) -> Result<Option<String>> {
    let mut states = app.states();
    let chosen = |state: &AppState| {
        let mut adapters = state.adapters.iter();
        let chosen = adapters.find(|adapter| adapter.standing == AdapterStanding::Chosen);
        chosen.map(|adapter| adapter.id.clone())
    };
    let ready = states.wait_for(|state| {
        let known = (state.node.as_ref()).is_some_and(|node| node.hardware.is_some());
        let nothing = known && chosen(state).is_none();
        nothing || state.state.summary == Summary::WaitingForJobs
    });
    let state = tokio::time::timeout(START_LIMIT + Duration::from_mins(1), ready).await??;
    Ok(chosen(&state))
}

/// As a person calls it.
fn infera(world: &World, data: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new(&world.binaries.node);
    command.args(words).arg("--data").arg(data);
    process::output(command)
}

fn costs(earnings: &str) -> Result<Value> {
    let earnings: Value = serde_json::from_str(earnings)?;
    Ok(earnings["consumption"].clone())
}
