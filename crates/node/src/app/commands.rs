//! What each command does. The table is in [`super::api`].

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::stream::BoxStream;
use infera_engine::message::DeviceChoice;
use infera_surroundings::RunningProgram;

use super::App;
use super::api::{
    ApiError, AppState, BundleFile, ById, ByPath, ChatRequest, ForSeconds, PauseRequest, Refusal,
    RemovalItem, UseModel,
};
use super::settings::{Settings, SettingsChange};
use super::supervisor::Running;
use crate::books::{Earnings, EarningsQuery, JobsPage, JobsQuery};
use crate::governor::gpu_rules::{CELSIUS, LEAST_DUTY_PERCENT, MOST_LOAD_SECONDS};
use crate::governor::rules::{MOST_BATTERY_PERCENT, MOST_MINUTES, MOST_PROGRAMS, Preset, Rules};
use crate::governor::schedule::{DAY, Hours};
use crate::gpu::{Adapter, AdapterStanding, GpuHistory};
use crate::http_link::normal;
use crate::identity;
use crate::library::{self, CatalogueItem, DownloadRequest, Fit, InstalledFile, InstalledModel};
use crate::model_fault::ModelFault;
use crate::networks;
use crate::node::Node;
use crate::state::{EngineStatus, NodeSnapshot, StartFault};

const MOST_JOBS_AT_ONCE: u32 = 256;
/// When "until tomorrow" ends, by the machine's clock.
const MORNING_HOUR: i8 = 8;

impl App {
    pub(super) fn state(&self, (): ()) -> AppState {
        self.publish(None)
    }

    pub(super) fn agree(&self, (): ()) -> Result<AppState, ApiError> {
        self.change(|preferences| preferences.setup.agreed = true)
    }

    pub(super) fn withdraw(&self, (): ()) -> Result<AppState, ApiError> {
        self.change(|preferences| preferences.setup.agreed = false)
    }

    pub(super) fn finish_setup(&self, finished: bool) -> Result<AppState, ApiError> {
        self.change(|preferences| preferences.setup.finished = finished)
    }

    pub(super) async fn pause(&self, request: PauseRequest) -> Result<AppState, ApiError> {
        let duration = if request.until_tomorrow {
            Some(until_morning(&self.0.clock.now())?)
        } else {
            request.seconds.map(Duration::from_secs)
        };
        let finish_first = request.finish_first;
        let pause = |node: Node| async move { node.pause(duration, finish_first).await };
        let snapshot = self.ask_node(pause).await?;
        Ok(self.publish(Some(snapshot)))
    }

    pub(super) async fn resume(&self, (): ()) -> Result<AppState, ApiError> {
        self.try_again().await;
        let snapshot = self
            .ask_node(|node| async move { node.resume().await })
            .await?;
        Ok(self.publish(Some(snapshot)))
    }

    pub(super) async fn pause_device(&self, request: ById) -> Result<AppState, ApiError> {
        self.leave_device(request.id, true).await
    }

    pub(super) async fn resume_device(&self, request: ById) -> Result<AppState, ApiError> {
        self.leave_device(request.id, false).await
    }

    async fn leave_device(&self, device: String, pause: bool) -> Result<AppState, ApiError> {
        let node = self.node().await?;
        let known = node
            .snapshots()
            .borrow()
            .devices
            .iter()
            .any(|one| one.id == device);
        if !known {
            return Err(Refusal::NoSuchDevice.into());
        }
        let leave = |node: Node| {
            let device = device.clone();
            async move { node.pause_device(device, pause).await }
        };
        let snapshot = self.ask_node(leave).await?;
        Ok(self.publish(Some(snapshot)))
    }

    pub(super) async fn work_anyway(&self, duration: ForSeconds) -> Result<AppState, ApiError> {
        self.try_again().await;
        let duration = Duration::from_secs(duration.seconds);
        let work = |node: Node| async move { node.work_anyway(duration).await };
        let snapshot = self.ask_node(work).await?;
        Ok(self.publish(Some(snapshot)))
    }

    pub(super) fn choose_preset(&self, preset: Preset) -> Result<AppState, ApiError> {
        self.change(|preferences| {
            let rules = std::mem::take(&mut preferences.settings.rules);
            preferences.settings.rules = rules.with(preset);
        })
    }

    pub(super) async fn keep_key_in_file(&self, (): ()) -> Result<AppState, ApiError> {
        let fault = match &*self.0.running.borrow() {
            Running::Failed { fault } => Some(fault.clone()),
            Running::Starting | Running::Node { .. } => None,
        };
        if fault != Some(StartFault::KeychainMissing) {
            return Err(Refusal::KeyHasPlace.into());
        }
        let file = self.0.data.folder().key_file();
        identity::from_file(&file, &*self.0.entropy)?;
        self.try_again().await;
        Ok(self.publish(None))
    }

    pub(super) async fn check(&self, (): ()) -> Result<AppState, ApiError> {
        self.try_again().await;
        self.0.library.refresh().await?;
        self.look_for_cards();
        let snapshot = self
            .ask_node(|node| async move { node.check().await })
            .await?;
        Ok(self.publish(Some(snapshot)))
    }

    pub(super) fn change_settings(&self, change: SettingsChange) -> Result<AppState, ApiError> {
        self.try_change(|preferences| {
            let changed = change.apply(&preferences.settings);
            let changed = changed.map_err(|error| Refusal::malformed(&error))?;
            preferences.settings = checked(changed, self.0.clock.now_ms())?;
            Ok(())
        })
    }

    pub(super) async fn running_programs(
        &self,
        (): (),
    ) -> Result<Option<Vec<RunningProgram>>, ApiError> {
        // Reads files of every process.
        let programs = tokio::task::spawn_blocking(infera_surroundings::running_programs);
        Ok(programs.await.unwrap_or_default())
    }

    pub(super) fn gpu_history(&self, (): ()) -> GpuHistory {
        self.0.telemetry.history()
    }

    pub(super) async fn jobs(&self, query: JobsQuery) -> Result<JobsPage, ApiError> {
        Ok(self.store().await?.jobs(query).await?)
    }

    pub(super) async fn jobs_csv(&self, query: JobsQuery) -> Result<String, ApiError> {
        Ok(self.store().await?.jobs_csv(query).await?)
    }

    pub(super) async fn earnings(&self, mut query: EarningsQuery) -> Result<Earnings, ApiError> {
        let active = self.0.preferences.borrow().settings.balancer.clone();
        query.network = query.network.or_else(|| active.clone());
        let points = self
            .states()
            .borrow()
            .node
            .as_ref()
            // What the active one counts says nothing of another.
            .filter(|node| query.network.as_ref() == Some(&node.balancer))
            .and_then(|node| node.points);
        let since_ms = match &*self.0.running.borrow() {
            Running::Node { since_ms, .. } => Some(*since_ms),
            Running::Starting | Running::Failed { .. } => None,
        };
        let (store, now) = (self.store().await?, self.0.clock.now());
        let mut earnings = store.earnings(query, points, &now, since_ms).await?;
        self.add_consumption(&mut earnings, &store, &now).await?;
        Ok(earnings)
    }

    pub(super) fn catalogue(&self, (): ()) -> Vec<CatalogueItem> {
        let state = self.states().borrow().clone();
        let library = &self.0.library;
        let memory = device_memory(&state.adapters);
        let entries = library.catalogue();
        let suggested = library::suggest(entries, memory, state.settings.vram_reserve_bytes)
            .map(|entry| entry.id.clone());
        let items = entries.iter().map(|entry| CatalogueItem {
            fit: library::fit(
                entry.minimum_vram_bytes,
                memory,
                state.settings.vram_reserve_bytes,
            ),
            installed: state
                .installed
                .iter()
                .any(|model| model.catalogue_id.as_ref() == Some(&entry.id)),
            suggested: suggested.as_ref() == Some(&entry.id),
            entry: entry.clone(),
        });
        items.collect()
    }

    pub(super) async fn download(&self, request: DownloadRequest) -> Result<AppState, ApiError> {
        self.0.library.download(request).await?;
        Ok(self.publish(None))
    }

    pub(super) async fn pause_download(&self, request: ById) -> Result<AppState, ApiError> {
        self.0.library.pause(&request.id).await?;
        Ok(self.publish(None))
    }

    pub(super) async fn resume_download(&self, request: ById) -> Result<AppState, ApiError> {
        self.0.library.resume(&request.id).await?;
        Ok(self.publish(None))
    }

    pub(super) async fn download_anyway(&self, request: ById) -> Result<AppState, ApiError> {
        self.0.library.resume_anyway(&request.id).await?;
        Ok(self.publish(None))
    }

    pub(super) async fn cancel_download(&self, request: ById) -> Result<AppState, ApiError> {
        self.0.library.cancel(&request.id).await?;
        Ok(self.publish(None))
    }

    pub(super) async fn import_model(&self, request: ByPath) -> Result<AppState, ApiError> {
        self.0.library.import(request.path).await?;
        Ok(self.publish(None))
    }

    /// Takes a model file as it comes.
    pub(crate) async fn import_upload(
        &self,
        name: &str,
        total_bytes: Option<u64>,
        bytes: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<(), ApiError> {
        self.0
            .library
            .import_stream(name, total_bytes, bytes)
            .await?;
        Ok(())
    }

    pub(super) async fn delete_model(&self, request: ByPath) -> Result<AppState, ApiError> {
        // The node lets go of the file first.
        self.change(|preferences| {
            preferences
                .settings
                .models
                .retain(|path| *path != request.path);
        })?;
        self.0.library.delete(request.path).await?;
        Ok(self.publish(None))
    }

    pub(super) fn use_model(&self, request: UseModel) -> Result<AppState, ApiError> {
        let state = self.publish(None);
        let model = state
            .installed
            .iter()
            .find(|model| model.path == request.path)
            .ok_or(Refusal::NoSuchModel)?;
        if request.in_use {
            if let Some(fault) = &model.fault {
                return Err(broken(model, fault));
            }
            if let Fit::TooLarge { missing_bytes } = model.fit {
                return Err(Refusal::ModelTooLarge {
                    model: model.name.clone(),
                    missing_bytes,
                }
                .into());
            }
        }
        self.change(|preferences| {
            let models = &mut preferences.settings.models;
            models.retain(|path| *path != request.path);
            if request.in_use {
                models.push(request.path);
            }
        })
    }

    pub(super) fn chat(&self, request: ChatRequest) -> Result<(), ApiError> {
        self.installed_model(&request.model)?;
        self.0.owner.chat(request, self.first_device());
        Ok(())
    }

    pub(super) fn stop_chat(&self, request: ById) {
        self.0.owner.stop_chat(request.id);
    }

    pub(super) fn end_chat(&self, (): ()) -> AppState {
        self.0.owner.end_chat();
        self.publish(None)
    }

    pub(super) fn benchmark(&self, request: ByPath) -> Result<AppState, ApiError> {
        self.installed_model(&request.path)?;
        self.0
            .owner
            .benchmark(request.path.into(), self.first_device());
        Ok(self.publish(None))
    }

    pub(super) fn stop_benchmark(&self, (): ()) -> AppState {
        self.0.owner.stop_benchmark();
        self.publish(None)
    }

    pub(super) async fn support_bundle(&self, (): ()) -> Result<Vec<BundleFile>, ApiError> {
        let state = self.publish(None);
        Ok(super::support::bundle(self.0.data.folder(), &state).await)
    }

    pub(super) async fn removal_plan(&self, (): ()) -> Result<Vec<RemovalItem>, ApiError> {
        Ok(super::removal::plan(&self.removal()).await)
    }

    pub(super) async fn remove_everything(&self, (): ()) -> Result<(), ApiError> {
        let removal = self.removal();
        self.stop_working().await;
        let done = super::removal::carry_out(removal).await;
        self.0.ended.send_replace(true);
        done
    }

    /// What its owner computes on.
    fn first_device(&self) -> DeviceChoice {
        let devices = self.0.preferences.borrow().settings.device_choices();
        devices.into_iter().next().unwrap_or_default()
    }

    /// A model of this machine, if it can be used.
    fn installed_model(&self, path: &str) -> Result<InstalledModel, ApiError> {
        let state = self.publish(None);
        let model = state
            .installed
            .into_iter()
            .find(|model| model.path == path)
            .ok_or(Refusal::NoSuchModel)?;
        match &model.fault {
            Some(fault) => Err(broken(&model, fault)),
            None => Ok(model),
        }
    }
}

/// Model files as the settings and the node see them.
pub(super) fn installed<'a>(
    files: impl Iterator<Item = &'a InstalledFile>,
    settings: &Settings,
    node: Option<&NodeSnapshot>,
    adapters: &[Adapter],
) -> Vec<InstalledModel> {
    let memory = device_memory(adapters);
    let mut models: Vec<InstalledModel> = files
        .map(|file| {
            let fit = file.needed_bytes.map_or(Fit::Unknown, |needed| {
                library::fit(needed, memory, settings.vram_reserve_bytes)
            });
            let in_use = settings
                .models
                .iter()
                .any(|path| file.path.as_os_str() == &**path);
            file.clone().into_model(fit, in_use)
        })
        .collect();
    let statuses = node.map_or(&[][..], |node| &node.models);
    let offers = node
        .and_then(|node| node.offers.as_deref())
        .unwrap_or_default();
    for (path, status) in settings.models.iter().zip(statuses) {
        if let Some(model) = models.iter_mut().find(|model| model.path == *path) {
            model.id = status.id;
            model.price = offers
                .iter()
                .find(|offer| Some(offer.model) == status.id)
                .map(|offer| offer.price);
            if let EngineStatus::Broken { fault } = &status.engine {
                model.fault = Some(fault.clone());
            }
        }
    }
    models
}

/// What the largest of the chosen devices has for models.
fn device_memory(adapters: &[Adapter]) -> library::DeviceMemory {
    let chosen = adapters
        .iter()
        .filter(|adapter| adapter.standing == AdapterStanding::Chosen);
    let memories: Vec<_> = chosen.map(|adapter| adapter.vram_bytes).collect();
    match memories.iter().flatten().max() {
        Some(bytes) => library::DeviceMemory::Bytes(*bytes),
        None if memories.is_empty() => library::DeviceMemory::Cpu,
        None => library::DeviceMemory::Unknown,
    }
}

fn checked(mut settings: Settings, now_ms: i64) -> Result<Settings, ApiError> {
    settings.networks = networks::checked(settings.networks)?;
    settings.balancer = settings
        .balancer
        .map(|url| url.trim().trim_end_matches('/').to_owned())
        .filter(|url| !url.is_empty());
    if let Some(url) = settings.balancer.take() {
        let address = normal(&url)?;
        settings.activate(&address, now_ms)?;
    }
    if !(1..=MOST_JOBS_AT_ONCE).contains(&settings.jobs_at_once) {
        return Err(Refusal::JobsAtOnce {
            asked: settings.jobs_at_once,
            most: MOST_JOBS_AT_ONCE,
        }
        .into());
    }
    check_rules(&mut settings.rules)?;
    if settings.download_bytes_per_second == Some(0) {
        return Err(Refusal::NoDownloadRate.into());
    }
    Ok(settings)
}

fn check_rules(rules: &mut Rules) -> Result<(), Refusal> {
    rules
        .programs
        .iter_mut()
        .for_each(|name| *name = name.trim().to_owned());
    rules.programs.retain(|name| !name.is_empty());
    rules.programs.sort_unstable();
    rules.programs.dedup();
    let hours_fit = |hours: &Hours| hours.from < DAY && hours.to < DAY;
    if !(1..=MOST_MINUTES).contains(&rules.away.minutes) {
        return Err(Refusal::AwayMinutes {
            asked: rules.away.minutes,
            most: MOST_MINUTES,
        });
    }
    if rules.programs.len() > MOST_PROGRAMS || !rules.schedule.hours.iter().all(hours_fit) {
        return Err(Refusal::Malformed {
            detail: format!(
                "at most {MOST_PROGRAMS} programs, and hours as minutes of a day below {DAY}"
            ),
        });
    }
    for (setting, asked, range) in numbers(rules) {
        if !range.contains(&asked) {
            return Err(Refusal::OutOfRange {
                setting: format!("rules.{setting}"),
                asked,
                least: *range.start(),
                most: *range.end(),
            });
        }
    }
    if rules.schedule.is_never() {
        return Err(Refusal::NoHours);
    }
    Ok(())
}

/// What is set of the rules about battery and GPUs, and what it may be.
fn numbers(rules: &Rules) -> Vec<(&'static str, u32, RangeInclusive<u32>)> {
    let gpu = &rules.gpu;
    let (coolest, hottest) = (u32::from(*CELSIUS.start()), u32::from(*CELSIUS.end()));
    let battery = rules.battery_percent.map(|percent| {
        let most = u32::from(MOST_BATTERY_PERCENT);
        ("battery_percent", u32::from(percent), 1..=most)
    });
    let celsius = gpu
        .heat
        .celsius
        .map(|celsius| ("gpu.heat.celsius", u32::from(celsius), coolest..=hottest));
    let always = [
        ("gpu.load.percent", u32::from(gpu.load.percent), 1..=100),
        ("gpu.load.seconds", gpu.load.seconds, 1..=MOST_LOAD_SECONDS),
        (
            "gpu.duty_percent",
            u32::from(gpu.duty_percent),
            u32::from(LEAST_DUTY_PERCENT)..=100,
        ),
    ];
    always.into_iter().chain(battery).chain(celsius).collect()
}

fn until_morning(now: &jiff::Zoned) -> Result<Duration, ApiError> {
    let morning = || {
        let today = now
            .date()
            .at(MORNING_HOUR, 0, 0, 0)
            .to_zoned(now.time_zone().clone())?;
        let morning = if *now < today {
            today
        } else {
            today.tomorrow()?
        };
        // Until the next day's morning: before dawn that is still this day's.
        Ok::<_, jiff::Error>(now.duration_until(&morning))
    };
    let duration = morning().map_err(|error| Refusal::malformed(&error))?;
    Ok(duration.unsigned_abs())
}

fn broken(model: &InstalledModel, fault: &ModelFault) -> ApiError {
    Refusal::ModelBroken {
        model: model.name.clone(),
        fault: fault.clone(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tomorrow_begins_in_the_morning() {
        let cases = [
            ("2026-11-22T23:30:00[Europe/Berlin]", 8 * 60 + 30),
            ("2026-11-22T12:00:00[Europe/Berlin]", 20 * 60),
            ("2026-11-22T02:00:00[Europe/Berlin]", 6 * 60),
            // The clocks go back that night.
            ("2026-10-24T20:00:00[Europe/Berlin]", 13 * 60),
        ];
        for (now, minutes) in cases {
            let duration = until_morning(&now.parse().unwrap()).unwrap();
            assert_eq!(duration.as_secs() / 60, minutes, "{now}");
        }
    }

    #[test]
    fn bad_settings_as_a_table() {
        type Change = fn(&mut Settings);
        let settings = |change: Change| {
            let mut settings = Settings::default();
            change(&mut settings);
            checked(settings, 7)
        };
        let bad: [(Change, &str); 14] = [
            (
                |settings| settings.networks = vec![networks::NetworkSetting::at("net", 0)],
                "not_url",
            ),
            (
                |settings| settings.balancer = Some("net".to_owned()),
                "not_url",
            ),
            (
                |settings| settings.balancer = Some("http://net.example".to_owned()),
                "plain_http",
            ),
            (|settings| settings.jobs_at_once = 0, "jobs_at_once"),
            (
                |settings| settings.download_bytes_per_second = Some(0),
                "no_download_rate",
            ),
            (|it| it.rules.battery_percent = Some(0), "out_of_range"),
            (|it| it.rules.battery_percent = Some(91), "out_of_range"),
            (|it| it.rules.gpu.load.percent = 0, "out_of_range"),
            (|it| it.rules.gpu.load.percent = 101, "out_of_range"),
            (|it| it.rules.gpu.load.seconds = 0, "out_of_range"),
            (|it| it.rules.gpu.load.seconds = 601, "out_of_range"),
            (|it| it.rules.gpu.heat.celsius = Some(39), "out_of_range"),
            (|it| it.rules.gpu.duty_percent = 9, "out_of_range"),
            (|it| it.rules.gpu.duty_percent = 101, "out_of_range"),
        ];
        for (change, why) in bad {
            let error = settings(change).unwrap_err();
            let refusal = serde_json::to_value(&error.refusal).unwrap();
            let is = |name: &str| refusal[name] == why;
            assert!(is("why") || is("fault"), "{why}: {refusal}");
        }
        let good = settings(|settings| settings.balancer = Some(" https://net.example/ ".into()));
        let good = good.unwrap();
        assert_eq!(good.balancer.as_deref(), Some("https://net.example"));
        let listed = networks::NetworkSetting::at("https://net.example", 7);
        assert_eq!(good.networks, [listed]);
        let empty = settings(|settings| settings.balancer = Some(" ".into()));
        assert_eq!(empty.unwrap().balancer, None);
    }
}
