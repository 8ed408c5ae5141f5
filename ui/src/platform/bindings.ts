// Generated from the Rust types: run `cargo xtask bindings` after a change.

export type Adapter = { 
/**
 * Its PCI id, else its name: what settings and readings name it by.
 */
id: string, name: string, kind: GpuKind, 
/**
 * `Vulkan`, `Metal`, `DX12`; none if no compute API reaches it.
 */
api: string | null, driver: string | null, 
/**
 * Memory of its own; none if it shares the machine's, or does not tell.
 */
vram_bytes: number | null, standing: AdapterStanding, };
export type AdapterStanding = { "standing": "chosen" } | { "standing": "available" } | { "standing": "excluded" } | { "standing": "unsupported", why: Unsupported, } | { "standing": "missing" };
export type Amount = { "amount": "unknown" } | { "amount": "memory", 
/**
 * In steps of 2^30, as RAM is sold.
 */
bytes: number, } | { "amount": "disk", 
/**
 * In steps of 10^9, as disks are sold.
 */
bytes: number, } | { "amount": "rate", 
/**
 * Megabytes are 10^6 bytes.
 */
bytes_per_second: number, } | { "amount": "vram", 
/**
 * In steps of 2^30, as GPUs are sold.
 */
bytes: number, 
/**
 * Whether any GPU of the M series will do instead.
 */
or_apple_silicon: boolean, } | { "amount": "gpus", 
/**
 * Empty where there is none.
 */
gpus: Array<Gpu>, };
export type AddressFault = "not_url" | "plain_http" | "certificates";
export type ApiError = { 
/**
 * As data, for a window that speaks another language.
 */
refusal: Refusal, 
/**
 * What happened, in one sentence.
 */
message: string, 
/**
 * What the person can do.
 */
remedy: string | null, };
export type AppEvent = { "event": "state", state: AppState, } | { "event": "gpu", sample: GpuSample, } | { "event": "chat", id: string, update: ChatEvent, };
export type AppState = { state: State, 
/**
 * None while the node cannot be started: `state` says why.
 */
node: NodeSnapshot | null, setup: Setup, settings: Settings, host: Host, adapters: Array<Adapter>, installed: Array<InstalledModel>, downloads: Array<Download>, imports: Array<Import>, disk: DiskUse, today: Today, 
/**
 * Every reason that keeps jobs away now, the heaviest first.
 */
obstacles: Array<Obstacle>, benchmark: Benchmark | null, };
export type Benchmark = { model: string, progress: BenchmarkProgress, };
export type BenchmarkProgress = { "progress": "loading", done_bytes: number, total_bytes: number, } | { "progress": "tuning", done: number, total: number, } | { "progress": "measuring", percent: number, } | { "progress": "done", device: string, 
/**
 * Writing one answer, tokens per second.
 */
decode_tokens_per_second: number, 
/**
 * Reading a prompt, tokens per second.
 */
prefill_tokens_per_second: number, first_token_ms: number, 
/**
 * The answer to a first question, as it was written.
 */
answer: string, } | { "progress": "failed", fault: ModelFault, };
export type BundleFile = { name: string, text: string, };
export type ByAddress = { 
/**
 * As a person writes it, with or without a scheme.
 */
address: string, };
export type ById = { id: string, };
export type ByPath = { path: string, };
export type CatalogueEntry = { 
/**
 * `smollm2-135m-instruct-q4_1`.
 */
id: string, name: string, 
/**
 * One sentence by language: what it is good for.
 */
summary: { [key in string]: string }, 
/**
 * The model's parameters, in billions.
 */
parameters_billions: number, 
/**
 * An SPDX identifier, or the licence's own name.
 */
licence: string, licence_url: string, quantisation: string, bytes: number, context_tokens: number, 
/**
 * Weights, KV cache for a conversation and working space.
 */
minimum_vram_bytes: number, 
/**
 * Where it comes from; tried in order.
 */
sources: Array<string>, };
export type CatalogueItem = { entry: CatalogueEntry, fit: Fit, installed: boolean, 
/**
 * The best one for this machine.
 */
suggested: boolean, };
export type ChatEvent = { "chat": "loading", done_bytes: number, total_bytes: number, } | { "chat": "tuning", done: number, total: number, } | { "chat": "text", text: string, } | { "chat": "done", tokens: number, tokens_per_second: number | null, first_token_ms: number, 
/**
 * By the person, or at the longest answer.
 */
cut_off: boolean, } | { "chat": "failed", fault: ModelFault, };
export type ChatMessage = { role: ChatRole, content: string, };
export type ChatRequest = { 
/**
 * Chosen by the caller; its answer's events carry it.
 */
id: string, 
/**
 * [`InstalledModel::path`].
 */
model: string, messages: Array<ChatMessage>, };
export type ChatRole = "system" | "user" | "assistant";
export type Connection = { "state": "connecting" } | { "state": "connected", 
/**
 * The node re-scores other nodes' outputs instead of taking jobs.
 */
reference: boolean, } | { "state": "disconnected", reason: Unreachable, 
/**
 * Unix time in milliseconds of the next try.
 */
retry_at_ms: number, } | { "state": "turned_away", why: TurnedAway, 
/**
 * Unix time in milliseconds of the next try.
 */
retry_at_ms: number, } | { "state": "refused", message: string, };
export type Decision = { mode: Mode, 
/**
 * Why it is not `Run`.
 */
reason: Reason | null, };
export type DeviceInfo = { 
/**
 * The adapter's or the CPU's name.
 */
name: string, 
/**
 * For reports: `cpu/avx2`, `wgpu/vulkan`, `wgpu/metal`.
 */
backend: string, 
/**
 * Why this one was chosen, in one sentence.
 */
reason: string, };
export type DiskUse = { 
/**
 * Installed models in the models folder.
 */
models_bytes: number, 
/**
 * Downloads that are not finished.
 */
partial_bytes: number, 
/**
 * On that disk; none while unknown.
 */
free_bytes: number | null, 
/**
 * As set by the user.
 */
quota_bytes: number | null, };
export type Download = { id: string, name: string, 
/**
 * The source that is used.
 */
url: string, done_bytes: number, 
/**
 * None until the server has told.
 */
total_bytes: number | null, 
/**
 * Over the last seconds; none while nothing comes.
 */
bytes_per_second: number | null, seconds_left: number | null, state: DownloadState, };
export type DownloadFault = "disk_full" | "over_quota" | "wrong_hash" | "unreachable" | "refused" | "not_a_model" | "storage";
export type DownloadRequest = { "from": "catalogue", id: string, } | { "from": "url", url: string, };
export type DownloadState = { "state": "queued" } | { "state": "running" } | { "state": "stalled", message: string, retry_at_ms: number, } | { "state": "paused" } | { "state": "verifying", done_bytes: number, } | { "state": "failed", code: DownloadFault, message: string, };
export type DeviceSetting = { "device": "auto" } | { "device": "cpu" } | { "device": "adapter", id: string, } | { "device": "named", name: string, };
export type Earnings = { total: PointSums, 
/**
 * Oldest first, without gaps, to the current one.
 */
buckets: Array<EarningsBucket>, 
/**
 * What the balancer counts and this machine has no record of: an earlier installation.
 */
unlisted: PointSums, 
/**
 * None until the node has worked for five of the last fifteen minutes.
 */
estimate: Estimate | null, };
export type EarningsBucket = { 
/**
 * Unix time in milliseconds of its first moment.
 */
start_ms: number, points: PointSums, 
/**
 * Audits earn points, but are no jobs.
 */
jobs: number, 
/**
 * Written for jobs.
 */
output_tokens: number, };
export type EarningsQuery = { period: Period, };
export type EngineStatus = { "state": "off" } | { "state": "loading", done_bytes: number, total_bytes: number, } | { "state": "tuning", done: number, total: number, } | { "state": "ready" } | { "state": "restarting", fault: ModelFault, retry_in_ms: number, } | { "state": "broken", fault: ModelFault, };
export type Estimate = { micro_points_per_day: number, 
/**
 * For how much of the last fifteen minutes the node worked.
 */
basis_seconds: number, };
export type Fit = { "fit": "fits", spare_bytes: number, } | { "fit": "too_large", missing_bytes: number, } | { "fit": "on_cpu" } | { "fit": "unknown" };
export type HistoryFault = "newer" | "full" | "read_only" | "locked" | "damaged" | "other";
export type LibraryFault = "folder" | "not_in_catalogue" | "not_url" | "plain_http" | "password" | "no_download" | "installed" | "not_installed" | "in_folder" | "unreadable" | "interrupted" | "not_a_model" | "disk_full" | "over_quota" | "not_deleted" | "certificates" | "ended";
export type ModelCause = "unreadable" | "unsupported" | "damaged" | "template" | "no_device" | "out_of_memory" | "device_lost" | "not_started" | "silent" | "ended" | "context_full" | "broken_off" | "internal";
export type ModelFault = { cause: ModelCause, 
/**
 * What happened, in one sentence.
 */
message: string, };
export type Refusal = { "why": "malformed", detail: string, } | { "why": "not_allowed", detail: string, } | { "why": "no_such_command", name: string, } | { "why": "no_such_model" } | { "why": "not_started", fault: StartFault, } | { "why": "starting" } | { "why": "ending" } | { "why": "key_has_place" } | { "why": "key_not_kept", detail: string, } | { "why": "settings_not_kept", detail: string, } | { "why": "history", cause: HistoryFault, detail: string, } | { "why": "model_broken", model: string, fault: ModelFault, } | { "why": "model_too_large", model: string, missing_bytes: number, } | { "why": "network_address", fault: AddressFault, detail: string, } | { "why": "jobs_at_once", asked: number, most: number, } | { "why": "no_download_rate" } | { "why": "library", cause: LibraryFault, detail: string, } | { "why": "not_removed", places: Array<string>, } | { "why": "not_saved", path: string, detail: string, } | { "why": "address_not_opened" } | { "why": "desktop", detail: string, };
export type Gpu = { 
/**
 * As the driver tells it.
 */
name: string, 
/**
 * What decides whether its memory is its own.
 */
kind: GpuKind, 
/**
 * `Vulkan`, `Metal`, `DX12` or `GL`.
 */
api: string, 
/**
 * Name and version, as the driver tells them.
 */
driver: string, 
/**
 * `0000:01:00.0`, where the driver tells.
 */
pci_id: string | null, 
/**
 * Memory of its own. `None` for unknown and for shared memory.
 */
vram_bytes: number | null, };
export type GpuHistory = { 
/**
 * Oldest first, a second apart while somebody looks or works.
 */
samples: Array<GpuSample>, };
export type GpuKind = "discrete" | "integrated" | "apple_silicon" | "software" | "other";
export type GpuReading = { 
/**
 * [`Adapter::id`].
 */
adapter: string, 
/**
 * The share of its time in which it computes, in percent.
 */
load_percent: number | null, 
/**
 * Memory that this program's engine holds.
 */
vram_ours_bytes: number | null, 
/**
 * Memory that all programs hold, ours included.
 */
vram_used_bytes: number | null, vram_total_bytes: number | null, temperature_celsius: number | null, 
/**
 * Where the driver slows the adapter down.
 */
temperature_limit_celsius: number | null, power_watts: number | null, power_limit_watts: number | null, core_megahertz: number | null, memory_megahertz: number | null, fan_percent: number | null, };
export type GpuSample = { 
/**
 * Unix time in milliseconds.
 */
at_ms: number, readings: Array<GpuReading>, };
export type Hardware = { 
/**
 * Name and version of the system, for people.
 */
os: string, 
/**
 * The processor's name; `unknown` where the system tells none.
 */
cpu: string, 
/**
 * As the system counts them: two threads of one core are two.
 */
cpu_cores: number | null, 
/**
 * All RAM that the system has, used or not.
 */
ram_bytes: number | null, 
/**
 * On the disk that holds the data folder.
 */
free_disk_bytes: number | null, 
/**
 * Download rate measured from the balancer.
 */
network_bytes_per_second: number | null, 
/**
 * Every adapter, software ones included.
 */
gpus: Array<Gpu>, };
export type Host = { version: string, 
/**
 * In a window of its own; else in a browser.
 */
desktop: boolean, os: string, data_folder: string, models_folder: string, 
/**
 * Where a browser on this machine finds the same window; secret, for it holds the token.
 */
web_address: string | null, };
export type Import = { id: number, name: string, done_bytes: number, 
/**
 * None where the sender did not tell.
 */
total_bytes: number | null, };
export type InstalledModel = { 
/**
 * Its path; what commands name it by.
 */
path: string, 
/**
 * From the file's metadata, or the file's name.
 */
name: string, architecture: string, quantisation: string, bytes: number, context_tokens: number, licence: string | null, 
/**
 * Known once it has been loaded.
 */
id: ModelId | null, 
/**
 * Its entry in the catalogue, if it came from there.
 */
catalogue_id: string | null, added_ms: number, fit: Fit, 
/**
 * The node answers jobs with it.
 */
in_use: boolean, 
/**
 * What the network pays; none if it does not serve the model, or that is unknown.
 */
price: Price | null, 
/**
 * Why it cannot be used, in one sentence.
 */
fault: ModelFault | null, };
export type JobRow = { 
/**
 * None where this node did not measure it.
 */
tokens_per_second: number | null, 
/**
 * What `id` is the id of.
 */
kind: WorkKind, 
/**
 * The job's id, or the audit's.
 */
id: string, 
/**
 * The job's, counted from 1; 0 for an audit.
 */
attempt: number, 
/**
 * What it was computed with.
 */
model: ModelId, 
/**
 * The name that clients used.
 */
model_name: string, 
/**
 * Tokens of the prompt, or of all texts of an embedding.
 */
input_tokens: number, 
/**
 * Tokens of this attempt; for an audit, of the whole output.
 */
output_tokens: number, 
/**
 * Unix time in milliseconds.
 */
started_ms: number, 
/**
 * Unix time in milliseconds; none while it runs.
 */
finished_ms: number | null, 
/**
 * On this attempt; for an audit, on the job.
 */
verdict: VerdictStatus, 
/**
 * The rule that decided, in one sentence.
 */
reason: string, 
/**
 * Micro-points for it, pending ones included; 0 once they are lost.
 */
points: number, 
/**
 * Micro-points that were lost because verification failed.
 */
forfeited?: number, 
/**
 * What each reference found about this part of the output, once the verdict is final. For an
 * audit, what it found itself.
 */
references: Array<ReferenceFigures>, };
export type JobsPage = { jobs: Array<JobRow>, 
/**
 * All rows that the query finds, not only this page's.
 */
count: number, total_micro_points: number, total_input_tokens: number, total_output_tokens: number, };
export type JobsQuery = { 
/**
 * In the model's name or the job's id.
 */
search: string, verdict: VerdictStatus | null, kind: WorkKind | null, 
/**
 * Begun at this Unix time in milliseconds or later.
 */
since_ms: number | null, 
/**
 * Begun before it.
 */
until_ms: number | null, sort: JobsSort, ascending: boolean, offset: number, 
/**
 * At most 1000; 0 counts only.
 */
limit: number, };
export type JobsSort = "started" | "model" | "input_tokens" | "output_tokens" | "tokens_per_second" | "duration" | "verdict" | "points";
export type LookedUp = { "answer": "network", 
/**
 * The whole address, with its scheme.
 */
url: string, name: string, 
/**
 * This machine against the network's rules, as far as it is known.
 */
requirements: Array<Requirement>, models: Array<ModelOffer>, } | { "answer": "bad_address", fault: AddressFault, 
/**
 * The same with the address and its way out, in English.
 */
message: string, } | { "answer": "unreachable", url: string, reason: Unreachable, };
export type Mark = "pass" | "warn" | "fail";
export type Mode = "run" | "drain" | "stop_now" | "release_gpu";
export type ModelId = string;
export type ModelOffer = { 
/**
 * In its profile.
 */
model: ModelId, 
/**
 * The name that clients use.
 */
name: string, 
/**
 * What clients pay for it.
 */
price: Price, 
/**
 * Prompt and output together.
 */
context_tokens: number, };
export type ModelStatus = { 
/**
 * From the file's metadata, or the file's name until it is loaded.
 */
name: string, id: ModelId | null, 
/**
 * Whether the network serves it; none while that is unknown.
 */
served: boolean | null, device: DeviceInfo | null, engine: EngineStatus, };
export type NodeId = string;
export type NodeSnapshot = { node: NodeId, 
/**
 * Name and version of the program.
 */
software: string, balancer: string, state: State, decision: Decision, connection: Connection, models: Array<ModelStatus>, 
/**
 * Jobs and audits in progress.
 */
work: Array<WorkInProgress>, 
/**
 * None until the balancer has told them.
 */
points: Points | null, 
/**
 * None while it is being found out.
 */
hardware: Hardware | null, 
/**
 * The network's policy by name.
 */
policy: string | null, requirements: Array<Requirement>, 
/**
 * The models that the network serves; none while that is unknown.
 */
offers: Array<ModelOffer> | null, };
export type Obstacle = { "obstacle": "not_agreed" } | { "obstacle": "no_balancer" } | { "obstacle": "cannot_start", fault: StartFault, } | { "obstacle": "paused", until_ms: number | null, } | { "obstacle": "own_use" } | { "obstacle": "offline", reason: Unreachable, } | { "obstacle": "turned_away", why: TurnedAway, } | { "obstacle": "outdated", message: string, } | { "obstacle": "requirement", requirement: Requirement, } | { "obstacle": "storage_fault", message: string, } | { "obstacle": "low_disk", free_bytes: number, resume_above_bytes: number, } | { "obstacle": "no_model" } | { "obstacle": "model_broken", model: string, fault: ModelFault, } | { "obstacle": "model_loading", model: string, } | { "obstacle": "model_not_served", model: string, } | { "obstacle": "no_demand" };
export type PauseRequest = { 
/**
 * Until the user resumes, if absent.
 */
seconds?: number, 
/**
 * Until the next morning at 8, by the machine's clock. Stands above `seconds`.
 */
until_tomorrow?: boolean, 
/**
 * Jobs in progress are finished first.
 */
finish_first?: boolean, };
export type Period = "day" | "week" | "month";
export type Points = { 
/**
 * Earned by what was verified.
 */
confirmed: number, 
/**
 * Earned, but not yet verified; of a reference node, not yet confirmed by what its own work
 * was found to be worth.
 */
pending: number, 
/**
 * Lost because verification failed, or with a reference node's role.
 */
forfeited: number, };
export type PointSums = { confirmed: number, pending: number, forfeited: number, };
export type Price = { 
/**
 * For each token that is read.
 */
input: number, 
/**
 * For each token that is written.
 */
output: number, };
export type Reason = { "reason": "closing" } | { "reason": "not_agreed" } | { "reason": "no_balancer" } | { "reason": "own_use" } | { "reason": "refused" } | { "reason": "paused", until_ms: number | null, finishing: boolean, } | { "reason": "storage_fault", message: string, } | { "reason": "low_disk", free_bytes: number, resume_above_bytes: number, } | { "reason": "requirement_failed", requirement: Requirement, };
export type ReferenceFigures = { 
/**
 * The first digits of its node id.
 */
reference: string, 
/**
 * What its figures mean by the profile's thresholds.
 */
finding: ReferenceFinding, 
/**
 * Tokens or vectors compared.
 */
positions: number, 
/**
 * Tokens that the reference would have chosen otherwise, or vectors that are not the same.
 */
mismatches: number, 
/**
 * The largest margin of a mismatch, or distance of two vectors, in units of the profile's
 * noise scale.
 */
largest_margin: number, };
export type ReferenceFinding = "clean" | "alarm" | "fail";
export type RemovalItem = { what: RemovalKind, 
/**
 * A path, or the keychain's account.
 */
place: string, bytes: number, };
export type RemovalKind = "models" | "history" | "logs" | "settings" | "identity" | "autostart";
export type Requirement = { 
/**
 * What the row is about.
 */
id: RequirementId, 
/**
 * What the policy asks for.
 */
need: Amount, 
/**
 * What the machine has.
 */
found: Amount, 
/**
 * What follows from the two.
 */
mark: Mark, };
export type RequirementId = "ram" | "free_disk" | "network" | "gpu";
export type Settings = { 
/**
 * The network's address; none until one is chosen.
 */
balancer: string | null, device: DeviceSetting, 
/**
 * [`crate::gpu::Adapter::id`]s that are never used.
 */
excluded_adapters: Array<string>, 
/**
 * GPU memory that is left to other programs.
 */
vram_reserve_bytes: number, 
/**
 * How many jobs may run at once, for each model.
 */
jobs_at_once: number, 
/**
 * Paths of the model files that answer jobs.
 */
models: Array<string>, download_bytes_per_second: number | null, models_quota_bytes: number | null, start_with_system: boolean, 
/**
 * The same window in a browser on this machine.
 */
web_control: boolean, notifications: boolean, 
/**
 * `en`, `de`; none follows the system.
 */
language: string | null, theme: Theme, look_for_updates: boolean, 
/**
 * The person has been told that closing the window does not end the program.
 */
closing_explained: boolean, };
export type Setup = { 
/**
 * The person has agreed to lend their GPU. Nothing is shared before.
 */
agreed: boolean, 
/**
 * The five steps were gone through, or skipped.
 */
finished: boolean, };
export type StartFault = { "fault": "keychain_locked" } | { "fault": "keychain_missing" } | { "fault": "keychain_silent" } | { "fault": "other", message: string, };
export type State = { kind: StateKind, 
/**
 * State and reason, in the words of a person.
 */
sentence: string, 
/**
 * What the person can do about it, where there is something.
 */
remedy: string | null, 
/**
 * What the sentence says, for another language.
 */
summary: Summary, };
export type StateKind = "working" | "waiting" | "paused" | "needs_you";
export type Summary = { "summary": "reading_hardware" } | { "summary": "cannot_start", fault: StartFault, } | { "summary": "not_agreed" } | { "summary": "no_balancer" } | { "summary": "outdated", message: string, } | { "summary": "closing" } | { "summary": "paused", until_ms: number | null, finishing: boolean, } | { "summary": "own_use" } | { "summary": "storage_fault", message: string, } | { "summary": "low_disk", free_bytes: number, resume_above_bytes: number, } | { "summary": "requirement_failed", requirement: Requirement, finishing: boolean, } | { "summary": "no_model" } | { "summary": "models_broken", fault: ModelFault, } | { "summary": "unreachable", balancer: string, retry_at_ms: number, } | { "summary": "turned_away", why: TurnedAway, } | { "summary": "loading", model: string, percent: number, } | { "summary": "tuning", model: string, done: number, total: number, } | { "summary": "restarting", fault: ModelFault, retry_in_ms: number, } | { "summary": "not_served", models: Array<string>, } | { "summary": "connecting" } | { "summary": "waiting_for_jobs" } | { "summary": "waiting_for_audits" } | { "summary": "working", jobs: number, audits: number, tokens_per_second: number | null, };
export type Theme = "system" | "light" | "dark";
export type Today = { 
/**
 * Confirmed and pending.
 */
micro_points: number, jobs: number, verified: number, pending: number, failed: number, };
export type TurnedAway = "identity_in_use" | "too_much";
export type UseModel = { path: string, in_use: boolean, };
export type VerdictStatus = "verified" | "sampled_out" | "pending" | "failed";
export type WorkKind = "job" | "audit";
export type Unreachable = { "why": "host_not_found" } | { "why": "nobody_listens" } | { "why": "no_way" } | { "why": "too_slow" } | { "why": "broken" } | { "why": "plain_http" } | { "why": "certificate", detail: string, } | { "why": "failing", status: number, } | { "why": "not_a_network", status: number, } | { "why": "other", detail: string, };
export type Unsupported = { "cause": "software" } | { "cause": "screen_only" } | { "cause": "lent" } | { "cause": "old_macos" } | { "cause": "old_driver", maker: string, } | { "cause": "nouveau" } | { "cause": "radeon" } | { "cause": "nvidia_without_vulkan", driver: string, } | { "cause": "mesa_without_vulkan", driver: string, } | { "cause": "nvidia_without_driver" } | { "cause": "without_driver" };
export type WorkInProgress = { kind: WorkKind, id: string, model: string, input_tokens: number, output_tokens: number, max_tokens: number, 
/**
 * None until there are tokens to count.
 */
tokens_per_second: number | null, started_ms: number, };
export type WorkRecord = { 
/**
 * What `id` is the id of.
 */
kind: WorkKind, 
/**
 * The job's id, or the audit's.
 */
id: string, 
/**
 * The job's, counted from 1; 0 for an audit.
 */
attempt: number, 
/**
 * What it was computed with.
 */
model: ModelId, 
/**
 * The name that clients used.
 */
model_name: string, 
/**
 * Tokens of the prompt, or of all texts of an embedding.
 */
input_tokens: number, 
/**
 * Tokens of this attempt; for an audit, of the whole output.
 */
output_tokens: number, 
/**
 * Unix time in milliseconds.
 */
started_ms: number, 
/**
 * Unix time in milliseconds; none while it runs.
 */
finished_ms: number | null, 
/**
 * On this attempt; for an audit, on the job.
 */
verdict: VerdictStatus, 
/**
 * The rule that decided, in one sentence.
 */
reason: string, 
/**
 * Micro-points for it, pending ones included; 0 once they are lost.
 */
points: number, 
/**
 * Micro-points that were lost because verification failed.
 */
forfeited?: number, 
/**
 * What each reference found about this part of the output, once the verdict is final. For an
 * audit, what it found itself.
 */
references: Array<ReferenceFigures>, };

/** Each command with its request and its answer. */
export type Commands = {
  /** Everything that a window shows. */
  state: { request: null; answer: AppState };
  /** The person agrees to lend their GPU; the node begins. */
  agree: { request: null; answer: AppState };
  /** Nothing is shared any more, until the person agrees again. */
  withdraw: { request: null; answer: AppState };
  /** The first start is over, or is to be gone through again. */
  finish_setup: { request: boolean; answer: AppState };
  /** Take no more jobs, until `resume` or for a while. */
  pause: { request: PauseRequest; answer: AppState };
  /** Take jobs again. */
  resume: { request: null; answer: AppState };
  /** Keeps the node's key in a file of the data folder, where there is no keychain. */
  keep_key_in_file: { request: null; answer: AppState };
  /** Look at the machine again. */
  check: { request: null; answer: AppState };
  /** Asks a network who it is. Nothing is kept. */
  look_up_network: { request: ByAddress; answer: LookedUp };
  /** Sets what is named; the other settings stay as they are. */
  change_settings: { request: Partial<Settings>; answer: AppState };
  /** The GPUs' last ten minutes. */
  gpu_history: { request: null; answer: GpuHistory };
  /** The jobs done, a part at a time. */
  jobs: { request: JobsQuery; answer: JobsPage };
  /** The same as a CSV file's text; `offset` and `limit` do not count. */
  jobs_csv: { request: JobsQuery; answer: string };
  /** Points over time. */
  earnings: { request: EarningsQuery; answer: Earnings };
  /** The models that can be downloaded. */
  catalogue: { request: null; answer: Array<CatalogueItem> };
  /** Begins a download, or goes on with it. */
  download: { request: DownloadRequest; answer: AppState };
  /** Keeps what has come. */
  pause_download: { request: ById; answer: AppState };
  /** Goes on where it stopped. */
  resume_download: { request: ById; answer: AppState };
  /** Ends a download and deletes what came. */
  cancel_download: { request: ById; answer: AppState };
  /** Copies a GGUF file of this machine into the models folder. */
  import_model: { request: ByPath; answer: AppState };
  /** Deletes a file from the models folder. */
  delete_model: { request: ByPath; answer: AppState };
  /** Answer jobs with a model, or no longer. */
  use_model: { request: UseModel; answer: AppState };
  /** Its answer comes as events. */
  chat: { request: ChatRequest; answer: null };
  /** Ends an answer early. */
  stop_chat: { request: ById; answer: null };
  /** Frees the GPU that a chat holds; jobs go on. */
  end_chat: { request: null; answer: AppState };
  /** Measures a model for half a minute. */
  benchmark: { request: ByPath; answer: AppState };
  /** Ends a measurement early. */
  stop_benchmark: { request: null; answer: AppState };
  /** Logs, settings and hardware, with what is private left out. */
  support_bundle: { request: null; answer: Array<BundleFile> };
  /** What `remove_everything` deletes. */
  removal_plan: { request: null; answer: Array<RemovalItem> };
  /** Deletes all data of this program and ends it. */
  remove_everything: { request: null; answer: null };
};
