// Generated from the Rust types: run `cargo xtask bindings` after a change.

export type Adapter = { 
/**
 * Its PCI id, else its name: what settings and readings name it by.
 */
id: string, 
/**
 * As the driver or the system tells it; for a missing one, its id.
 */
name: string, 
/**
 * What decides whether its memory is its own. `other` for one that no compute API reaches.
 */
kind: GpuKind, 
/**
 * `Vulkan`, `Metal`, `DX12`; none if no compute API reaches it.
 */
api: string | null, 
/**
 * Name and version for one that can compute, else the kernel's driver; none where nothing
 * tells.
 */
driver: string | null, 
/**
 * Memory of its own; none if it shares the machine's, or does not tell.
 */
vram_bytes: number | null, 
/**
 * Whether it computes, and if not, why.
 */
standing: AdapterStanding, };
export type AdapterStanding = { "standing": "chosen" } | { "standing": "available" } | { "standing": "excluded" } | { "standing": "unsupported", 
/**
 * What is missing, which also says what to do.
 */
why: Unsupported, } | { "standing": "missing" };
export type Away = { 
/**
 * Without it somebody may be there.
 */
on: boolean, 
/**
 * So long nobody must have touched keyboard, mouse or gamepad.
 */
minutes: number, };
export type GpuHeat = { 
/**
 * Without it heat is no reason. The driver slows a GPU down by itself where it must.
 */
on: boolean, 
/**
 * Above this, but never above the driver's own limit. None is that limit less 10 °C.
 */
celsius: number | null, };
export type GpuLoad = { 
/**
 * Without it their load is no reason.
 */
on: boolean, 
/**
 * From this share on, in percent. What is seen of it comes in steps of
 * [`crate::gpu::LOAD_STEP_PERCENT`].
 */
percent: number, 
/**
 * For so long without a pause.
 */
seconds: number, };
export type GpuMemory = { 
/**
 * Without it their memory is no reason.
 */
on: boolean, };
export type GpuRules = { 
/**
 * Not while other programs compute on it.
 */
load: GpuLoad, 
/**
 * Not while other programs need its memory.
 */
memory: GpuMemory, 
/**
 * Not while it is hot.
 */
heat: GpuHeat, 
/**
 * The share of its time in which the node computes on it at most, for heat and noise: percent.
 */
duty_percent: number, };
export type GpuSeen = { 
/**
 * [`super::Adapter::id`].
 */
adapter: string, 
/**
 * The share of its time in which other programs compute on it, in percent; rounded down to a
 * step of [`LOAD_STEP_PERCENT`].
 */
load_others_percent: number | null, 
/**
 * Memory that other programs hold, the system's among them. About.
 */
vram_others_bytes: number | null, 
/**
 * Memory that this program's engines hold. About.
 */
vram_ours_bytes: number | null, 
/**
 * All of its memory.
 */
vram_total_bytes: number | null, 
/**
 * Of the chip.
 */
temperature_celsius: number | null, 
/**
 * Where the driver slows it down.
 */
temperature_limit_celsius: number | null, };
export type Hours = { 
/**
 * The days on which it begins. Monday is the first of seven.
 */
days: [boolean, boolean, boolean, boolean, boolean, boolean, boolean], 
/**
 * Minutes since midnight, less than 1440.
 */
from: number, 
/**
 * Minutes since midnight, less than 1440.
 */
to: number, };
export type Held = { 
/**
 * Which.
 */
rule: Rule, 
/**
 * What it said last.
 */
why: Why, 
/**
 * When it began: unix time in milliseconds.
 */
since_ms: number, 
/**
 * When its reason ended; none while it lasts.
 */
ended_ms: number | null, };
export type Input = { "input": "recent" } | { "input": "quiet", 
/**
 * The last one: unix time in milliseconds.
 */
since_ms: number, };
export type Memory = { 
/**
 * Without it memory is no reason.
 */
on: boolean, 
/**
 * So much must be free.
 */
bytes: number, };
export type Consumption = { 
/**
 * Why there is no measurement now. Figures of earlier days stay.
 */
unmeasured: Unmeasured | null, 
/**
 * What its money is counted with.
 */
tariff: Electricity, 
/**
 * Since midnight. None where nothing was measured.
 */
today: EnergySpan | null, 
/**
 * Today and the six days before.
 */
week: EnergySpan | null, 
/**
 * Today and the 29 days before.
 */
month: EnergySpan | null, };
export type Electricity = { 
/**
 * None until the owner has told it: then nothing is said of money.
 */
price_per_kwh: string | null, 
/**
 * What the price is in.
 */
currency: string, };
export type Energy = { 
/**
 * Never less than nothing.
 */
kilowatt_hours: number, 
/**
 * In billionths of the currency's unit. None without a price.
 */
cost_nano: number | null, };
export type EnergySpan = { 
/**
 * From the first of them on which something was measured to today: what a day's mean is of.
 */
days: number, 
/**
 * For so long work was measured, on all GPUs together.
 */
working_seconds: number, 
/**
 * The mean of a GPU at work.
 */
working_watts: number, 
/**
 * The mean of a GPU at rest, which does not count. None where one was never seen at rest: then
 * all that it draws counts.
 */
rest_watts: number | null, 
/**
 * What counts.
 */
kilowatt_hours: number, 
/**
 * Of all of it.
 */
cost_nano: number | null, 
/**
 * The mean of a day.
 */
cost_nano_per_day: number | null, 
/**
 * By what was written for jobs; none where nothing was.
 */
cost_nano_per_1000_tokens: number | null, 
/**
 * By what was earned, pending points included; none where nothing was.
 */
cost_nano_per_100_points: number | null, };
export type Unmeasured = { "why": "processor" } | { "why": "driver", 
/**
 * Names of the GPUs that they drive.
 */
adapters: Array<string>, };
export type Network = "offline" | "metered" | "unmetered";
export type Power = { 
/**
 * Nothing does but the battery.
 */
on_battery: boolean, 
/**
 * What is left in the battery; none without one.
 */
battery_percent: number | null, };
export type Preset = "away" | "nights" | "not_playing" | "always";
export type Rule = "sleep" | "games" | "programs" | "full_screen" | "memory" | "battery" | "gpu_heat" | "gpu_memory" | "gpu_load" | "away" | "schedule";
export type Rules = { 
/**
 * Work only while nobody uses the machine.
 */
away: Away, 
/**
 * Not while a game runs.
 */
games: boolean, 
/**
 * Not while a program fills the screen: a film, a talk.
 */
full_screen: boolean, 
/**
 * Not while one of these runs: names of programs without a path, in any case.
 */
programs: Array<string>, 
/**
 * Not on battery.
 */
battery: boolean, 
/**
 * Not with less than so much in the battery, whatever feeds the machine: percent. None lets it
 * be as empty as it likes.
 */
battery_percent: number | null, 
/**
 * Not while main memory is short.
 */
memory: Memory, 
/**
 * What other programs do on a GPU, and its heat: each GPU for itself.
 */
gpu: GpuRules, 
/**
 * Only in these hours.
 */
schedule: Schedule, 
/**
 * The machine does not fall asleep by itself while a job runs.
 */
keep_awake: boolean, 
/**
 * No model is downloaded over a connection that costs by the byte.
 */
metered_downloads: boolean, };
export type RunningProgram = { 
/**
 * As [`Wanted::programs`] would hold it.
 */
name: string, 
/**
 * Whether it has a graphics device open; none where the system does not tell.
 */
uses_gpu: boolean | null, 
/**
 * What all its processes have of the main memory to themselves; none where the system does not
 * tell.
 */
memory_bytes: number | null, };
export type Schedule = { 
/**
 * Without it the hour is no reason.
 */
on: boolean, 
/**
 * It may work in any of these.
 */
hours: Array<Hours>, };
export type Seen = { 
/**
 * The names, as a person knows them, each once, in order of the alphabet. Empty if there is
 * nothing.
 */
names: Array<string>, };
export type Session = "open" | "locked" | "remote";
export type Surroundings = { 
/**
 * Whether somebody uses keyboard, mouse or a gamepad.
 */
input: Input | null, 
/**
 * Where the person is, as the login service knows it.
 */
session: Session | null, 
/**
 * What fills a screen and has the focus.
 */
full_screen: Seen | null, 
/**
 * Programs out of a game library, and those that asked the system for its game mode.
 */
games: Seen | null, 
/**
 * Which of the [`Wanted::programs`] run.
 */
programs: Seen | null, 
/**
 * What feeds the machine.
 */
power: Power | null, 
/**
 * Whether there is a network, and what it costs.
 */
network: Network | null, 
/**
 * Main memory that programs can still have, in bytes. In steps, so that it does not change with
 * each page.
 */
available_memory_bytes: number | null, 
/**
 * The machine is about to sleep: it waits a moment for what has to be done before.
 */
going_to_sleep: boolean | null, };
export type Why = { "why": "sleep" } | { "why": "game", 
/**
 * What it is called.
 */
name: string, } | { "why": "program", 
/**
 * As they named it.
 */
name: string, } | { "why": "full_screen", 
/**
 * What it is called.
 */
name: string, } | { "why": "low_memory", 
/**
 * What they could still have.
 */
available_bytes: number, 
/**
 * The node goes on above this.
 */
resume_above_bytes: number, } | { "why": "battery", 
/**
 * What is left in it, where that is told.
 */
percent: number | null, } | { "why": "low_battery", 
/**
 * The node goes on with so much in it.
 */
resume_percent: number, } | { "why": "gpu_busy" } | { "why": "gpu_memory", 
/**
 * The node goes on with so much of it free.
 */
resume_above_bytes: number, } | { "why": "gpu_hot", 
/**
 * The node goes on at this.
 */
resume_celsius: number, } | { "why": "in_use", 
/**
 * So long nobody must have touched it.
 */
minutes: number, 
/**
 * They do so from afar.
 */
remote: boolean, } | { "why": "hours", 
/**
 * When the next begin: unix time in milliseconds; none if they never do.
 */
opens_ms: number | null, };
export type ForSeconds = { 
/**
 * From now.
 */
seconds: number, };
export type Stretch = { 
/**
 * Unix time in milliseconds.
 */
from_ms: number, 
/**
 * Unix time in milliseconds.
 */
to_ms: number, 
/**
 * The state as colour and shape.
 */
kind: StateKind, 
/**
 * The reason, without figures that change all the time. None where it was written by a version
 * that had other reasons.
 */
summary: Summary | null, };
export type StretchesQuery = { 
/**
 * Unix time in milliseconds.
 */
from_ms: number, 
/**
 * Unix time in milliseconds; the span ends before it.
 */
to_ms: number, };
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
export type AppEvent = { "event": "state", 
/**
 * The whole of it, in place of the one before.
 */
state: AppState, } | { "event": "gpu", 
/**
 * To be put behind what `gpu_history` gave.
 */
sample: GpuSample, } | { "event": "chat", 
/**
 * `ChatRequest.id` of the question.
 */
id: string, 
/**
 * What is new of it.
 */
update: ChatEvent, };
export type AppState = { 
/**
 * What the window's bar, the tray and the command line say first.
 */
state: State, 
/**
 * None while the node cannot be started: `state` says why.
 */
node: NodeSnapshot | null, 
/**
 * What the rules in `settings` are together; none where they were put together by hand.
 */
preset: Preset | null, 
/**
 * How far the first start has come; the window opens it until it is finished.
 */
setup: Setup, 
/**
 * All settings as they are kept.
 */
settings: Settings, 
/**
 * An invitation that was opened outside the window, by a click, and on which the person has not
 * decided yet. It may be any text.
 */
invitation: string | null, 
/**
 * The account that this machine belongs to.
 */
account: AccountState | null, 
/**
 * What became of a linking code; none while there is nothing to tell.
 */
link: LinkState | null, 
/**
 * The program and the machine it runs on.
 */
host: Host, 
/**
 * All graphics adapters, also those that cannot compute. Empty until the hardware is known.
 */
adapters: Array<Adapter>, 
/**
 * Model files in the models folder by name, then those in use from elsewhere.
 */
installed: Array<InstalledModel>, 
/**
 * Downloads in the order they were asked for. A finished one is among `installed` instead.
 */
downloads: Array<Download>, 
/**
 * Files that are being copied into the models folder, in the order they came.
 */
imports: Array<Import>, 
/**
 * What models take and what is left, for the models page.
 */
disk: DiskUse, 
/**
 * The day's jobs and points, since midnight by the machine's clock.
 */
today: Today, 
/**
 * Every reason that keeps jobs away now, the heaviest first.
 */
obstacles: Array<Obstacle>, 
/**
 * The last measurement or the one in progress. None before the first, and when it was
 * dismissed or gave way to something else.
 */
benchmark: Benchmark | null, };
export type Benchmark = { 
/**
 * The model file's path, as in `InstalledModel.path`.
 */
model: string, 
/**
 * How far it is, or its figures.
 */
progress: BenchmarkProgress, };
export type BenchmarkProgress = { "progress": "loading", 
/**
 * What is loaded of the weights; what counts is the share.
 */
done_bytes: number, 
/**
 * All weights; 0 while that is unknown.
 */
total_bytes: number, } | { "progress": "tuning", 
/**
 * Ways of computing that were tried.
 */
done: number, 
/**
 * Ways of computing to try.
 */
total: number, } | { "progress": "measuring", 
/**
 * From 0 to 100, by steps and not by time.
 */
percent: number, } | { "progress": "done", 
/**
 * Name of the device that computed.
 */
device: string, 
/**
 * Writing one answer, tokens per second.
 */
decode_tokens_per_second: number, 
/**
 * Reading a prompt, tokens per second.
 */
prefill_tokens_per_second: number, 
/**
 * From the question to the answer's first token, in milliseconds.
 */
first_token_ms: number, 
/**
 * The answer to a first question, as it was written.
 */
answer: string, } | { "progress": "failed", 
/**
 * What stood in the way.
 */
fault: ModelFault, };
export type BundleFile = { 
/**
 * The file's name, without a folder.
 */
name: string, 
/**
 * Its whole content. The window shows it before it is saved.
 */
text: string, };
export type ByAddress = { 
/**
 * As a person writes it, with or without a scheme; or an invitation to it, in either form.
 */
address: string, };
export type ById = { 
/**
 * `Download.id`, or `ChatRequest.id`.
 */
id: string, };
export type ByPath = { 
/**
 * `InstalledModel.path`; for `import_model`, where the file lies now.
 */
path: string, };
export type CatalogueEntry = { 
/**
 * `smollm2-135m-instruct-q4_1`.
 */
id: string, 
/**
 * What people call it; it is not translated.
 */
name: string, 
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
licence: string, 
/**
 * Its text on the web, for the person to read before they download.
 */
licence_url: string, 
/**
 * How the weights are stored, as in `Q4_K_M`.
 */
quantisation: string, 
/**
 * The file's size; what a download takes of line and disk.
 */
bytes: number, 
/**
 * The longest context that the model was trained for, prompt and answer together.
 */
context_tokens: number, 
/**
 * Weights, KV cache for a conversation and working space.
 */
minimum_vram_bytes: number, 
/**
 * Where it comes from; tried in order.
 */
sources: Array<string>, };
export type CatalogueItem = { 
/**
 * What the catalogue says of it.
 */
entry: CatalogueEntry, 
/**
 * Whether it fits the chosen device beside the reserve.
 */
fit: Fit, 
/**
 * The models folder has the file.
 */
installed: boolean, 
/**
 * The best one for this machine.
 */
suggested: boolean, };
export type ChatEvent = { "chat": "loading", 
/**
 * What is loaded of the weights; what counts is the share.
 */
done_bytes: number, 
/**
 * All weights; 0 while that is unknown.
 */
total_bytes: number, } | { "chat": "tuning", 
/**
 * Ways of computing that were tried.
 */
done: number, 
/**
 * Ways of computing to try.
 */
total: number, } | { "chat": "text", 
/**
 * To be put behind what came before.
 */
text: string, } | { "chat": "done", 
/**
 * Tokens of the answer.
 */
tokens: number, 
/**
 * While it was written, without the wait for the first token. None for an answer too short
 * to measure.
 */
tokens_per_second: number | null, 
/**
 * From the question to the first token, in milliseconds.
 */
first_token_ms: number, 
/**
 * By the person, or at the longest answer.
 */
cut_off: boolean, } | { "chat": "failed", 
/**
 * What stood in the way.
 */
fault: ModelFault, };
export type ChatMessage = { 
/**
 * Whose turn it was.
 */
role: ChatRole, 
/**
 * What was said, as plain text.
 */
content: string, };
export type ChatRequest = { 
/**
 * Chosen by the caller; its answer's events carry it.
 */
id: string, 
/**
 * [`InstalledModel::path`].
 */
model: string, 
/**
 * The whole conversation, oldest first, with the new question last. The node keeps none of it.
 */
messages: Array<ChatMessage>, };
export type ChatRole = "system" | "user" | "assistant";
export type Connection = { "state": "connecting" } | { "state": "connected", 
/**
 * The node re-scores other nodes' outputs instead of taking jobs.
 */
reference: boolean, } | { "state": "disconnected", 
/**
 * What the last try met with.
 */
reason: Unreachable, 
/**
 * Unix time in milliseconds of the next try.
 */
retry_at_ms: number, } | { "state": "turned_away", 
/**
 * What the balancer has against it.
 */
why: TurnedAway, 
/**
 * Unix time in milliseconds of the next try.
 */
retry_at_ms: number, } | { "state": "refused", 
/**
 * What the balancer says, in English.
 */
message: string, };
export type Decision = { 
/**
 * What the controller does with jobs and engines.
 */
mode: Mode, 
/**
 * Why it is not `Run`.
 */
reason: Reason | null, 
/**
 * The owner's rules that hold, whether or not one of them is the reason.
 */
held: Array<Held>, };
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
export type Download = { 
/**
 * What commands name it by; it stays the same when the program is started again.
 */
id: string, 
/**
 * The model's name from the catalogue, else the file's.
 */
name: string, 
/**
 * The source that is used.
 */
url: string, 
/**
 * What is on the disk, also from earlier runs.
 */
done_bytes: number, 
/**
 * None until the server has told.
 */
total_bytes: number | null, 
/**
 * Over the last seconds; none while nothing comes.
 */
bytes_per_second: number | null, 
/**
 * At the speed of the last seconds; none while that or the size is unknown.
 */
seconds_left: number | null, 
/**
 * What it does now. A finished one is no download any more.
 */
state: DownloadState, };
export type DownloadFault = "disk_full" | "over_quota" | "wrong_hash" | "unreachable" | "refused" | "not_a_model" | "storage";
export type DownloadRequest = { "from": "catalogue", 
/**
 * `CatalogueEntry.id`.
 */
id: string, } | { "from": "url", 
/**
 * An HTTPS address without a name or a password in it.
 */
url: string, };
export type DownloadState = { "state": "queued" } | { "state": "running" } | { "state": "stalled", 
/**
 * What went wrong last, in one sentence in English.
 */
message: string, 
/**
 * Unix time in milliseconds of the next try.
 */
retry_at_ms: number, } | { "state": "paused" } | { "state": "metered", 
/**
 * The same in one sentence in English.
 */
message: string, } | { "state": "verifying", 
/**
 * What of the file has been read for it, of `Download.total_bytes`.
 */
done_bytes: number, } | { "state": "failed", 
/**
 * What kind of fault; the window knows for each what to do.
 */
code: DownloadFault, 
/**
 * The same with numbers, in one sentence in English.
 */
message: string, };
export type DeviceModel = { 
/**
 * As [`ModelStatus::name`].
 */
name: string, 
/**
 * Whether it can compute there.
 */
engine: EngineStatus, };
export type DeviceSetting = { "device": "cpu" } | { "device": "adapter", 
/**
 * [`crate::gpu::Adapter::id`].
 */
id: string, } | { "device": "named", 
/**
 * The place on the PCI bus, the number in the list of `infera check`, or part of the name
 * or the API, in any case.
 */
name: string, };
export type DeviceStatus = { 
/**
 * [`crate::gpu::Adapter::id`], `cpu`, or what the settings name and is not there.
 */
id: string, 
/**
 * As the driver or the system tells it.
 */
name: string, 
/**
 * It was chosen, and is not there, or not any more.
 */
missing: boolean, 
/**
 * The person wants this one left alone.
 */
paused: boolean, 
/**
 * How far it steps back; never less than the node as a whole.
 */
mode: Mode, 
/**
 * Why it is not `run`: the node's reason before its own.
 */
reason: Reason | null, 
/**
 * The owner's rules about GPUs that hold on it, whether or not one of them is the reason.
 */
held: Array<Held>, 
/**
 * What those look at; none while nobody looks, and for what is no GPU.
 */
seen: GpuSeen | null, 
/**
 * The models that are to be on it.
 */
models: Array<DeviceModel>, 
/**
 * Jobs in progress on it.
 */
jobs: number, 
/**
 * Checks of other nodes' outputs in progress on it.
 */
audits: number, 
/**
 * Of its jobs together; none while no job has written anything.
 */
tokens_per_second: number | null, };
export type DeviceToday = { 
/**
 * An adapter's id, or `cpu`.
 */
device: string, 
/**
 * Confirmed and pending.
 */
micro_points: number, 
/**
 * As [`Today::jobs`].
 */
jobs: number, };
export type Earnings = { 
/**
 * All that this node has earned there, as far as this machine and the balancer know.
 */
total: PointSums, 
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
estimate: Estimate | null, 
/**
 * What the work of the last days took from the wall.
 */
consumption: Consumption, };
export type EarningsBucket = { 
/**
 * Unix time in milliseconds of its first moment.
 */
start_ms: number, 
/**
 * What its work earned.
 */
points: PointSums, 
/**
 * Audits earn points, but are no jobs.
 */
jobs: number, 
/**
 * Written for jobs.
 */
output_tokens: number, 
/**
 * What the work of its days took. None where nothing was measured.
 */
energy: Energy | null, };
export type EarningsQuery = { 
/**
 * How long each bucket is.
 */
period: Period, 
/**
 * Only what the network of this address paid; none for the active one, or for all while there
 * is none.
 */
network?: string, };
export type EngineStatus = { "state": "off" } | { "state": "loading", 
/**
 * What is loaded of the weights; what counts is the share.
 */
done_bytes: number, 
/**
 * All weights; 0 while that is unknown.
 */
total_bytes: number, } | { "state": "tuning", 
/**
 * Ways of computing that were tried.
 */
done: number, 
/**
 * Ways of computing to try.
 */
total: number, } | { "state": "ready" } | { "state": "restarting", 
/**
 * How it ended.
 */
fault: ModelFault, 
/**
 * How long until it is started again, in milliseconds; longer each time.
 */
retry_in_ms: number, } | { "state": "broken", 
/**
 * Why it cannot be loaded.
 */
fault: ModelFault, };
export type Estimate = { 
/**
 * Micro-points in 24 hours, pending ones included.
 */
micro_points_per_day: number, 
/**
 * For how much of the last fifteen minutes the node worked.
 */
basis_seconds: number, };
export type Fit = { "fit": "fits", 
/**
 * Device memory that stays free beside it and the reserve.
 */
spare_bytes: number, } | { "fit": "too_large", 
/**
 * Device memory that it needs beyond what there is, the reserve included.
 */
missing_bytes: number, } | { "fit": "on_cpu" } | { "fit": "unknown" };
export type HistoryFault = "newer" | "full" | "read_only" | "locked" | "damaged" | "other";
export type LibraryFault = "folder" | "not_in_catalogue" | "not_url" | "plain_http" | "password" | "no_download" | "installed" | "not_installed" | "in_folder" | "unreadable" | "interrupted" | "not_a_model" | "disk_full" | "over_quota" | "not_deleted" | "certificates" | "ended";
export type ModelCause = "unreadable" | "unsupported" | "damaged" | "template" | "no_device" | "out_of_memory" | "device_lost" | "not_started" | "silent" | "ended" | "context_full" | "broken_off" | "internal";
export type ModelFault = { 
/**
 * What kind of fault; the window has a sentence for each.
 */
cause: ModelCause, 
/**
 * What happened, in one sentence.
 */
message: string, };
export type Refusal = { "why": "malformed", 
/**
 * What does not fit, as the JSON reader says it.
 */
detail: string, } | { "why": "not_allowed", 
/**
 * Which rule was broken, in one sentence.
 */
detail: string, } | { "why": "no_such_command", 
/**
 * The command that was asked for.
 */
name: string, } | { "why": "no_such_model" } | { "why": "no_such_device" } | { "why": "away_minutes", 
/**
 * What was to be set.
 */
asked: number, 
/**
 * The most that can be.
 */
most: number, } | { "why": "out_of_range", 
/**
 * Its path: `rules.gpu.heat.celsius`.
 */
setting: string, 
/**
 * What was to be set.
 */
asked: number, 
/**
 * The least that can be.
 */
least: number, 
/**
 * The most that can be.
 */
most: number, } | { "why": "no_hours" } | { "why": "not_started", 
/**
 * What keeps it from starting.
 */
fault: StartFault, } | { "why": "starting" } | { "why": "ending" } | { "why": "key_has_place" } | { "why": "key_not_kept", 
/**
 * File and fault, and what to do.
 */
detail: string, } | { "why": "settings_not_kept", 
/**
 * File and fault, and what to do.
 */
detail: string, } | { "why": "history", 
/**
 * What is wrong with it.
 */
cause: HistoryFault, 
/**
 * What the database says, and what to do.
 */
detail: string, } | { "why": "model_broken", 
/**
 * Its name, as in `InstalledModel.name`.
 */
model: string, 
/**
 * Why it cannot be loaded.
 */
fault: ModelFault, } | { "why": "model_too_large", 
/**
 * Its name, as in `InstalledModel.name`.
 */
model: string, 
/**
 * Device memory that it needs beyond what there is, the reserve included.
 */
missing_bytes: number, } | { "why": "network_address", 
/**
 * What is wrong with it.
 */
fault: AddressFault, 
/**
 * The same with the address, and how to write it.
 */
detail: string, } | { "why": "invitation", 
/**
 * What is wrong with it.
 */
fault: InvitationFault, 
/**
 * The same, with what to do.
 */
detail: string, } | { "why": "network_silent", 
/**
 * Its whole address.
 */
url: string, 
/**
 * What the try met with.
 */
reason: Unreachable, } | { "why": "not_joined" } | { "why": "too_many_networks", 
/**
 * The most that can be.
 */
most: number, } | { "why": "no_network" } | { "why": "no_certificate" } | { "why": "has_account" } | { "why": "no_account" } | { "why": "account_elsewhere" } | { "why": "key_is_here" } | { "why": "account_key", 
/**
 * Where it is, what is wrong, and what to do.
 */
detail: string, } | { "why": "account_words", 
/**
 * What is wrong with them.
 */
fault: WordsFault, } | { "why": "link", 
/**
 * What is wrong with it.
 */
fault: LinkFault, } | { "why": "account", 
/**
 * Why.
 */
fault: AccountFault, 
/**
 * The same in the balancer's words.
 */
detail: string, } | { "why": "jobs_at_once", 
/**
 * The number that was asked for.
 */
asked: number, 
/**
 * The highest that is possible; the lowest is 1.
 */
most: number, } | { "why": "no_download_rate" } | { "why": "library", 
/**
 * What stands in the way.
 */
cause: LibraryFault, 
/**
 * The same with file and numbers, and what to do.
 */
detail: string, } | { "why": "not_removed", 
/**
 * Each with its path and the system's words, for the person to delete by hand.
 */
places: Array<string>, } | { "why": "not_saved", 
/**
 * Where it was to go.
 */
path: string, 
/**
 * What the system says.
 */
detail: string, } | { "why": "address_not_opened" } | { "why": "desktop", 
/**
 * What the system says.
 */
detail: string, };
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
 * Oldest first, a second apart while somebody looks or works, two for the owner's rules alone.
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
 * The part of that in which other programs have it compute.
 */
load_others_percent: number | null, 
/**
 * Memory that this program's engine holds.
 */
vram_ours_bytes: number | null, 
/**
 * Memory that other programs hold, the system's among them.
 */
vram_others_bytes: number | null, 
/**
 * Memory that all programs hold, ours included.
 */
vram_used_bytes: number | null, 
/**
 * All of its memory, as the driver counts it.
 */
vram_total_bytes: number | null, 
/**
 * Of the chip, where there are several sensors.
 */
temperature_celsius: number | null, 
/**
 * Where the driver slows the adapter down.
 */
temperature_limit_celsius: number | null, 
/**
 * What it draws now.
 */
power_watts: number | null, 
/**
 * What the driver lets it draw at most.
 */
power_limit_watts: number | null, 
/**
 * How fast its processors run now.
 */
core_megahertz: number | null, 
/**
 * How fast its memory runs now.
 */
memory_megahertz: number | null, 
/**
 * The fan's speed, as a share of the highest; of the first fan, where there are several.
 */
fan_percent: number | null, };
export type GpuSample = { 
/**
 * Unix time in milliseconds.
 */
at_ms: number, 
/**
 * One for each adapter that tells anything.
 */
readings: Array<GpuReading>, };
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
export type Host = { 
/**
 * The machine's own name.
 */
name: string, 
/**
 * The program's, as in `0.1.0`.
 */
version: string, 
/**
 * In a window of its own; else in a browser.
 */
desktop: boolean, 
/**
 * As Rust names it: `linux`, `macos`, `windows`. What to do about a driver depends on it.
 */
os: string, 
/**
 * The whole path of the folder with settings, history and logs.
 */
data_folder: string, 
/**
 * The whole path of the folder that downloads and imports go to.
 */
models_folder: string, 
/**
 * Where a browser on this machine finds the same window; secret, for it holds the token.
 */
web_address: string | null, };
export type Import = { 
/**
 * Counted from the program's start, to tell two files of the same name apart.
 */
id: number, 
/**
 * The file's name.
 */
name: string, 
/**
 * What has been copied.
 */
done_bytes: number, 
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
name: string, 
/**
 * From the file's metadata, as in `llama`; empty if it cannot be read.
 */
architecture: string, 
/**
 * How most weights are stored, as in `Q4_K_M`; empty if it cannot be read.
 */
quantisation: string, 
/**
 * The file's size.
 */
bytes: number, 
/**
 * The longest context that the model was trained for; 0 if the file does not tell.
 */
context_tokens: number, 
/**
 * As the file's metadata names it; none if it does not tell.
 */
licence: string | null, 
/**
 * Known once it has been loaded.
 */
id: ModelId | null, 
/**
 * Its entry in the catalogue, if it came from there.
 */
catalogue_id: string | null, 
/**
 * When the file came or was last changed: Unix time in milliseconds.
 */
added_ms: number, 
/**
 * Whether it fits the chosen device beside the reserve; unknown for a file that cannot be
 * used.
 */
fit: Fit, 
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
 * What computed it: an adapter's id, or `cpu`. None where this program did not see it.
 */
device: string | null, 
/**
 * The address of the network that it was done for. None for what was done before that was kept.
 */
network: string | null, 
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
export type JobsPage = { 
/**
 * Rows of this page, in the query's order.
 */
jobs: Array<JobRow>, 
/**
 * All rows that the query finds, not only this page's.
 */
count: number, 
/**
 * Points of all rows that the query finds, pending ones included.
 */
total_micro_points: number, 
/**
 * What was read for all rows that the query finds.
 */
total_input_tokens: number, 
/**
 * What was written for all rows that the query finds.
 */
total_output_tokens: number, };
export type JobsQuery = { 
/**
 * In the model's name or the job's id.
 */
search: string, 
/**
 * Only work with this verdict; none for any.
 */
verdict: VerdictStatus | null, 
/**
 * Only jobs, or only audits; none for both.
 */
kind: WorkKind | null, 
/**
 * Only work for the network of this address; none for all.
 */
network?: string, 
/**
 * Begun at this Unix time in milliseconds or later.
 */
since_ms: number | null, 
/**
 * Begun before it.
 */
until_ms: number | null, 
/**
 * What decides the order. What is equal stands newest first.
 */
sort: JobsSort, 
/**
 * The smallest or oldest first. What is unknown comes last either way.
 */
ascending: boolean, 
/**
 * Rows to leave out before the first one.
 */
offset: number, 
/**
 * At most 1000; 0 counts only.
 */
limit: number, };
export type JobsSort = "started" | "model" | "input_tokens" | "output_tokens" | "tokens_per_second" | "duration" | "verdict" | "points";
export type LookedUp = { "answer": "network", 
/**
 * The whole address, with its scheme.
 */
url: string, 
/**
 * The name that its owner gave it.
 */
name: string, 
/**
 * Who runs it, in their own words.
 */
operator: string | null, 
/**
 * What they ask of those who join, in words; may have several lines.
 */
rules: string | null, 
/**
 * Whether answers are checked.
 */
checking: Checking, 
/**
 * Who may join.
 */
admission: AdmissionRule, 
/**
 * Nodes that are there now.
 */
nodes: number, 
/**
 * How many of them check the others.
 */
references: number, 
/**
 * How many must, for an answer to be checked.
 */
references_needed: number, 
/**
 * What its certificate is known by; none where the usual authorities vouch for it.
 */
fingerprint: Fingerprint | null, 
/**
 * What the invitation is worth; none for an address.
 */
invitation: InvitationTerms | null, 
/**
 * This machine against the network's rules, as far as it is known.
 */
requirements: Array<Requirement>, 
/**
 * What it serves and pays, for the choice of a model.
 */
models: Array<ModelOffer>, } | { "answer": "bad_address", 
/**
 * What is wrong with it.
 */
fault: AddressFault, 
/**
 * The same with the address and its way out, in English.
 */
message: string, } | { "answer": "bad_invitation", 
/**
 * What is wrong with it.
 */
fault: InvitationFault, 
/**
 * The same with what to do, in English.
 */
message: string, } | { "answer": "unreachable", 
/**
 * The whole address that was tried, with its scheme.
 */
url: string, 
/**
 * What it met with.
 */
reason: Unreachable, };
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
name: string, 
/**
 * What the network knows it by. None until it was loaded once.
 */
id: ModelId | null, 
/**
 * Whether the network serves it; none while that is unknown.
 */
served: boolean | null, 
/**
 * What computes it, and why that was chosen; none until it was loaded once.
 */
device: DeviceInfo | null, 
/**
 * Whether it can compute.
 */
engine: EngineStatus, };
export type NodeId = string;
export type NodeSnapshot = { 
/**
 * Its name on the network: the public half of its key.
 */
node: NodeId, 
/**
 * Name and version of the program.
 */
software: string, 
/**
 * The network's address; empty while none is chosen.
 */
balancer: string, 
/**
 * The whole snapshot in one sentence.
 */
state: State, 
/**
 * Whether the governor lets the node work.
 */
decision: Decision, 
/**
 * How the node stands with the balancer.
 */
connection: Connection, 
/**
 * The chosen models, in the settings' order. Empty while none is chosen.
 */
models: Array<ModelStatus>, 
/**
 * What computes, in the settings' order, each beside the others. Empty until the hardware is
 * known.
 */
devices: Array<DeviceStatus>, 
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
policy: string | null, 
/**
 * The machine against the network's rules; empty until both are known.
 */
requirements: Array<Requirement>, 
/**
 * The models that the network serves; none while that is unknown.
 */
offers: Array<ModelOffer> | null, 
/**
 * What is seen around the program, which the owner's rules are held against.
 */
surroundings: Surroundings, 
/**
 * The owner wants work done whatever their rules say, until then: unix time in milliseconds.
 */
anyway_until_ms: number | null, 
/**
 * What came last from afar, and what was done. A restart forgets it.
 */
command: CommandSeen | null, };
export type Obstacle = { "obstacle": "not_agreed" } | { "obstacle": "no_balancer" } | { "obstacle": "cannot_start", 
/**
 * What stands in the way.
 */
fault: StartFault, } | { "obstacle": "paused", 
/**
 * Unix time in milliseconds at which it ends by itself; none until the person resumes.
 */
until_ms: number | null, } | { "obstacle": "own_use" } | { "obstacle": "rule", 
/**
 * What for.
 */
why: Why, 
/**
 * It is over, and the node goes on then: unix time in milliseconds. None while it lasts.
 */
goes_on_ms: number | null, } | { "obstacle": "offline", 
/**
 * What the last try met with.
 */
reason: Unreachable, } | { "obstacle": "turned_away", 
/**
 * What the balancer has against it.
 */
why: TurnedAway, } | { "obstacle": "outdated", 
/**
 * What the balancer says, in English.
 */
message: string, } | { "obstacle": "requirement", 
/**
 * The row that failed.
 */
requirement: Requirement, } | { "obstacle": "storage_fault", 
/**
 * What the system says, in one sentence in English.
 */
message: string, } | { "obstacle": "low_disk", 
/**
 * What this user may still write there.
 */
free_bytes: number, 
/**
 * The node goes on by itself above this.
 */
resume_above_bytes: number, } | { "obstacle": "no_model" } | { "obstacle": "model_broken", 
/**
 * Its name, as `ModelStatus.name` has it.
 */
model: string, 
/**
 * Why it does not run.
 */
fault: ModelFault, } | { "obstacle": "model_loading", 
/**
 * Its name, as `ModelStatus.name` has it.
 */
model: string, } | { "obstacle": "model_not_served", 
/**
 * Its name, as `ModelStatus.name` has it.
 */
model: string, } | { "obstacle": "no_demand" };
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
export type PointSums = { 
/**
 * Earned by what was verified or needed no check.
 */
confirmed: number, 
/**
 * Earned by what has no verdict yet; a failed one takes it away.
 */
pending: number, 
/**
 * Lost because verification failed. No part of the other two.
 */
forfeited: number, };
export type Price = { 
/**
 * For each token that is read.
 */
input: number, 
/**
 * For each token that is written.
 */
output: number, };
export type Reason = { "reason": "closing" } | { "reason": "not_agreed" } | { "reason": "no_balancer" } | { "reason": "own_use" } | { "reason": "refused" } | { "reason": "paused", 
/**
 * Unix time in milliseconds at which it ends by itself; none until the person resumes.
 */
until_ms: number | null, 
/**
 * Jobs in progress are still being finished.
 */
finishing: boolean, } | { "reason": "rule", 
/**
 * What for.
 */
why: Why, 
/**
 * It is over, and the node goes on then: unix time in milliseconds. None while it lasts.
 */
goes_on_ms: number | null, } | { "reason": "storage_fault", 
/**
 * What the system says, in one sentence in English.
 */
message: string, } | { "reason": "low_disk", 
/**
 * What this user may still write there.
 */
free_bytes: number, 
/**
 * The node goes on by itself above this. It is more than what stopped it, so that it does
 * not come and go.
 */
resume_above_bytes: number, } | { "reason": "requirement_failed", 
/**
 * The first row that failed.
 */
requirement: Requirement, };
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
export type RemovalItem = { 
/**
 * What is lost with it.
 */
what: RemovalKind, 
/**
 * A path, or the keychain's account.
 */
place: string, 
/**
 * Its size on the disk; 0 for what is no file, or is not there.
 */
bytes: number, };
export type RemovalKind = "models" | "history" | "logs" | "settings" | "identity" | "account" | "autostart";
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
 * The active network's address, which is in `networks`; none until one is chosen.
 */
balancer: string | null, 
/**
 * All that were joined.
 */
networks: Array<NetworkSetting>, 
/**
 * What computes, each device beside the others. Without any: the best GPU there is, else the
 * processor.
 */
devices: Array<DeviceSetting>, 
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
models: Array<string>, 
/**
 * When the node leaves the machine to its owner.
 */
rules: Rules, 
/**
 * What electricity costs here, for what the work costs.
 */
electricity: Electricity, 
/**
 * What all downloads may take of the line together; none for no limit.
 */
download_bytes_per_second: number | null, 
/**
 * What models and unfinished downloads may take of the disk; none for all that there is.
 */
models_quota_bytes: number | null, 
/**
 * The program begins in the background when the person logs in.
 */
start_with_system: boolean, 
/**
 * The same window in a browser on this machine.
 */
web_control: boolean, 
/**
 * As the owner of the account sees it among others; none for the machine's own name.
 */
machine_name: string | null, 
/**
 * The account that this machine belongs to may pause and resume it from afar.
 */
takes_commands: boolean, 
/**
 * The desktop program tells when something fails, needs the person, or a milestone is reached.
 */
notifications: boolean, 
/**
 * `en`, `de`; none follows the system.
 */
language: string | null, 
/**
 * How the window looks.
 */
theme: Theme, 
/**
 * The desktop program asks once a day whether there is a newer version, but not over a metered
 * connection.
 */
look_for_updates: boolean, 
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
export type StartFault = { "fault": "keychain_locked" } | { "fault": "keychain_missing" } | { "fault": "keychain_silent" } | { "fault": "other", 
/**
 * What happened and what to do, in English.
 */
message: string, };
export type State = { 
/**
 * What the window, the tray and the page's mark show as colour and shape.
 */
kind: StateKind, 
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
export type Summary = { "summary": "reading_hardware" } | { "summary": "cannot_start", 
/**
 * What stands in the way.
 */
fault: StartFault, } | { "summary": "not_agreed" } | { "summary": "no_balancer" } | { "summary": "outdated", 
/**
 * What the balancer says, in English.
 */
message: string, } | { "summary": "closing" } | { "summary": "paused", 
/**
 * Unix time in milliseconds at which it ends by itself; none until the person resumes.
 */
until_ms: number | null, 
/**
 * Jobs in progress are still being finished.
 */
finishing: boolean, } | { "summary": "own_use" } | { "summary": "rule", 
/**
 * What for.
 */
why: Why, 
/**
 * It is over, and the node goes on then: unix time in milliseconds. None while it lasts.
 */
goes_on_ms: number | null, } | { "summary": "storage_fault", 
/**
 * What the system says, in one sentence in English.
 */
message: string, } | { "summary": "low_disk", 
/**
 * What this user may still write there.
 */
free_bytes: number, 
/**
 * The node goes on by itself above this.
 */
resume_above_bytes: number, } | { "summary": "requirement_failed", 
/**
 * The first row that failed.
 */
requirement: Requirement, 
/**
 * Jobs in progress are still being finished.
 */
finishing: boolean, } | { "summary": "no_model" } | { "summary": "models_broken", 
/**
 * The first model's.
 */
fault: ModelFault, } | { "summary": "unreachable", 
/**
 * The address that was tried.
 */
balancer: string, 
/**
 * Unix time in milliseconds of the next try.
 */
retry_at_ms: number, } | { "summary": "turned_away", 
/**
 * What it has against it now.
 */
why: TurnedAway, } | { "summary": "loading", 
/**
 * Its name, as in [`ModelStatus::name`].
 */
model: string, 
/**
 * From 0 to 100, of the weights' bytes.
 */
percent: number, } | { "summary": "tuning", 
/**
 * Its name, as in [`ModelStatus::name`].
 */
model: string, 
/**
 * Ways of computing that were tried.
 */
done: number, 
/**
 * Ways of computing to try.
 */
total: number, } | { "summary": "restarting", 
/**
 * How it ended.
 */
fault: ModelFault, 
/**
 * How long until it is started again, in milliseconds.
 */
retry_in_ms: number, } | { "summary": "not_served", 
/**
 * Their names, in the settings' order.
 */
models: Array<string>, } | { "summary": "connecting" } | { "summary": "waiting_for_jobs" } | { "summary": "waiting_for_audits" } | { "summary": "working", 
/**
 * Jobs in progress.
 */
jobs: number, 
/**
 * Checks of other nodes' outputs in progress.
 */
audits: number, 
/**
 * Of all jobs together; none while no job has written anything.
 */
tokens_per_second: number | null, };
export type Theme = "system" | "light" | "dark";
export type Today = { 
/**
 * Confirmed and pending.
 */
micro_points: number, 
/**
 * Attempts at jobs that ended today, or began today and still run. Audits are none.
 */
jobs: number, 
/**
 * Those of them that the references agree with.
 */
verified: number, 
/**
 * Those of them without a verdict.
 */
pending: number, 
/**
 * Those of them that lost their points.
 */
failed: number, 
/**
 * The same by what computed them, as far as this program saw it.
 */
devices: Array<DeviceToday>, };
export type TurnedAway = "identity_in_use" | "too_much" | "invitation_needed";
export type UseModel = { 
/**
 * `InstalledModel.path`.
 */
path: string, 
/**
 * `InstalledModel.in_use`, as it is to be.
 */
in_use: boolean, };
export type VerdictStatus = "verified" | "sampled_out" | "not_checked" | "pending" | "failed";
export type WorkKind = "job" | "audit";
export type AdmissionRule = "open" | "work" | "invitation";
export type Checking = "none" | "always";
export type PublicNetwork = { 
/**
 * By the operator, for people.
 */
name: string, 
/**
 * Who runs it, in the operator's words.
 */
operator?: string | null, 
/**
 * What the operator asks of those who join, in words.
 */
rules?: string | null, 
/**
 * What a node's machine must have.
 */
policy: Policy, 
/**
 * What clients can ask for now.
 */
models: Array<ModelOffer>, 
/**
 * Whether answers are checked.
 */
checking: Checking, 
/**
 * Who may join.
 */
admission: AdmissionRule, 
/**
 * Nodes that are here now.
 */
nodes: number, 
/**
 * How many of them check the others.
 */
references: number, 
/**
 * How many must, for an answer to be checked.
 */
references_needed: number, };
export type Invited = { 
/**
 * What anybody may know of the network.
 */
network: PublicNetwork, 
/**
 * What those who join by it become.
 */
standing: Standing, 
/**
 * How many more may join by it; none for any number.
 */
uses_left: number | null, 
/**
 * Unix time in milliseconds; none for no end.
 */
expires_ms: number | null, };
export type Policy = { 
/**
 * `public`, `practice`, or a name by the operator.
 */
name: string, 
/**
 * RAM; a machine with up to a sixteenth less passes, since firmware keeps some.
 */
ram_bytes?: number | null, 
/**
 * Free space on the disk of the data folder.
 */
free_disk_bytes?: number | null, 
/**
 * Download rate, as the balancer measures it.
 */
network_bytes_per_second?: number | null, 
/**
 * A GPU; none where the CPU may do the work.
 */
gpu?: GpuNeed | null, };
export type GpuNeed = { 
/**
 * Memory that only the GPU has; a card with up to a twelfth less passes, since drivers keep
 * some.
 */
own_vram_bytes: number, 
/**
 * Whether a GPU of the M series passes, which shares the machine's memory.
 */
apple_silicon_is_enough: boolean, };
export type InvitationFault = "not_one" | "cut_off" | "changed" | "plain_http" | "unknown" | "used_up" | "expired" | "revoked";
export type InvitationTerms = { 
/**
 * What those who join by it become.
 */
standing: Standing, 
/**
 * How many more may join by it; none for any number.
 */
uses_left: number | null, 
/**
 * Unix time in milliseconds; none for no end.
 */
expires_ms: number | null, };
export type NetworkSetting = { 
/**
 * The whole address, with its scheme. It tells two networks of one name apart.
 */
address: string, 
/**
 * The name that its operator gave it; the host until it has been asked.
 */
name: string, 
/**
 * What its certificate is known by; none where the usual authorities vouch for it.
 */
fingerprint: Fingerprint | null, 
/**
 * What the invitation made of this node.
 */
standing: Standing, 
/**
 * Unix time in milliseconds; 0 for one that was in use before this was kept.
 */
joined_ms: number, };
export type Fingerprint = string;
export type Standing = { 
/**
 * The operator vouches for it: its answers count without a check where there is none.
 */
trusted: boolean, 
/**
 * It checks other nodes' outputs in place of taking jobs.
 */
reference: boolean, };
export type AccountId = string;
export type AccountState = { 
/**
 * Its public key.
 */
id: AccountId, 
/**
 * Its key is on this machine: from here it spends, and commands its machines.
 */
holds_key: boolean, 
/**
 * This machine is the account's in the active network.
 */
linked: boolean, };
export type LinkState = { "link": "waiting" } | { "link": "failed", 
/**
 * What is wrong with it.
 */
fault: LinkFault, 
/**
 * The same in English.
 */
message: string, };
export type LinkFault = { "fault": "not_a_code" } | { "fault": "unknown" } | { "fault": "used_up" } | { "fault": "expired" } | { "fault": "forged" } | { "fault": "full" } | { "fault": "no_answer", 
/**
 * What the try met with.
 */
reason: Unreachable, };
export type AccountBackup = { 
/**
 * 24 words, to be written down in their order.
 */
words: Array<string>, 
/**
 * A name for the file, without a folder.
 */
file_name: string, 
/**
 * The same words as a file, with an explanation.
 */
text: string, };
export type AccountWords = { 
/**
 * Its words as they are typed, or a backup file's text.
 */
words: string, };
export type LinkCodeRequest = { 
/**
 * How many machines may be linked by it.
 */
uses: number, 
/**
 * For how long.
 */
seconds: number, };
export type NewLinkCode = { 
/**
 * Secret: whoever has it can make their machine this account's.
 */
code: string, 
/**
 * How many machines may be linked by it.
 */
uses: number, 
/**
 * Unix time in milliseconds.
 */
expires_ms: number, };
export type ByCode = { 
/**
 * In any case, with or without dashes.
 */
code: string, };
export type ByName = { 
/**
 * `AccountKeyRow.name`.
 */
name: string, };
export type ByNode = { 
/**
 * `Machine.node`.
 */
node: NodeId, };
export type SpendingQuery = { 
/**
 * Up to 92, today included.
 */
days: number, };
export type FleetOrder = { 
/**
 * Which; empty for all.
 */
nodes: Array<NodeId>, 
/**
 * What.
 */
action: FleetAction, };
export type FleetAnswer = { 
/**
 * Which.
 */
node: NodeId, 
/**
 * None where it was told.
 */
fault: FleetFault | null, };
export type FleetFault = { "fault": "not_here" } | { "fault": "not_allowed" } | { "fault": "no_such" } | { "fault": "other", 
/**
 * In English.
 */
message: string, };
export type AccountFault = "no_machine" | "full" | "name_taken" | "no_such" | "malformed";
export type WordsFault = { "fault": "count", 
/**
 * How many there are.
 */
found: number, } | { "fault": "unknown", 
/**
 * Which, counted from 1.
 */
place: number, 
/**
 * As it was typed.
 */
word: string, 
/**
 * The one of the list that is most like it.
 */
nearest: string, } | { "fault": "checksum" };
export type CommandSeen = { 
/**
 * When it came: unix time in milliseconds.
 */
at_ms: number, 
/**
 * Who it says it is from.
 */
account: AccountId, 
/**
 * What was to be done.
 */
action: FleetAction, 
/**
 * Whether it was.
 */
outcome: CommandOutcome, };
export type CommandOutcome = "done" | "not_allowed" | "forged" | "stale" | "replayed";
export type AccountKeyRow = { 
/**
 * As its owner calls it.
 */
name: string, 
/**
 * Micro-points on one day in UTC; none for no limit but the balance.
 */
daily_limit: number | null, 
/**
 * Where its requests go when they do not say.
 */
route: Route, 
/**
 * Micro-points, ever.
 */
spent: number, 
/**
 * Micro-points on this day in UTC.
 */
spent_today: number, 
/**
 * Unix time in milliseconds.
 */
created_ms: number, 
/**
 * Unix time in milliseconds; none while it is in use.
 */
revoked_ms: number | null, };
export type FleetAction = { "type": "pause" } | { "type": "snooze", 
/**
 * Unix time in milliseconds.
 */
until_ms: number, } | { "type": "resume" };
export type KeyRequest = { 
/**
 * 1 to 64 letters, digits, `-`, `_`, `.` or `@`; no two of an account in use have the same.
 */
name: string, 
/**
 * Micro-points on one day in UTC; none for no limit but the balance.
 */
daily_limit: number | null, 
/**
 * Where its requests go when they do not say.
 */
route: Route, };
export type Machine = { 
/**
 * Which.
 */
node: NodeId, 
/**
 * What it last said; none of one that was not here since the balancer started.
 */
report: MachineReport | null, 
/**
 * Whether it is here now.
 */
here: boolean, 
/**
 * Why it takes no jobs, in words for a person; none while it takes some.
 */
paused: string | null, 
/**
 * Jobs and checks that it has now.
 */
running: number, 
/**
 * Jobs that passed, ever.
 */
verified: number, 
/**
 * What it has earned in this network.
 */
points: Points, 
/**
 * Unix time in milliseconds.
 */
last_seen_ms: number | null, };
export type NewKey = { 
/**
 * Secret: what a client sends.
 */
key: string, };
export type Overview = { 
/**
 * Micro-points that can be spent: [`Self::earned`] less [`Self::spent`].
 */
balance: number, 
/**
 * Confirmed micro-points of its nodes, those that were its nodes once included.
 */
earned: number, 
/**
 * Micro-points that its keys have spent, with what is set aside for what runs now.
 */
spent: number, 
/**
 * How many nodes it has.
 */
nodes: number, };
export type Statement = { 
/**
 * As it is now.
 */
overview: Overview, 
/**
 * Newest first. They add up to what the books say of these days.
 */
spent: Array<Spending>, };
export type MachineReport = { 
/**
 * As its owner calls it.
 */
name: string, 
/**
 * Name and version of the program.
 */
software: string, 
/**
 * Whether it does what its account tells it from afar.
 */
takes_commands: boolean, 
/**
 * Its GPUs, or its CPU.
 */
devices: Array<DeviceReport>, };
export type DeviceReport = { 
/**
 * Its maker's name of it.
 */
name: string, 
/**
 * Why it takes no jobs, in words for a person; none while it takes some.
 */
paused?: string, 
/**
 * Of all jobs that it writes now.
 */
tokens_per_second: number, };
export type Spending = { 
/**
 * When the day began, in UTC: Unix time in milliseconds.
 */
day_ms: number, 
/**
 * Name of the key.
 */
key: string, 
/**
 * The name that the client used.
 */
model: string, 
/**
 * Requests that began on this day.
 */
requests: number, 
/**
 * Micro-points that were posted on this day, less what came back.
 */
micro: number, };
export type Route = "own" | "trusted" | "any";
export type Unreachable = { "why": "host_not_found" } | { "why": "nobody_listens" } | { "why": "no_way" } | { "why": "too_slow" } | { "why": "broken" } | { "why": "plain_http" } | { "why": "certificate", 
/**
 * What is wrong with it, in the words of the TLS library.
 */
detail: string, } | { "why": "certificate_changed" } | { "why": "failing", 
/**
 * The HTTP status: from 500, or 408, or 429.
 */
status: number, } | { "why": "not_a_network", 
/**
 * The HTTP status.
 */
status: number, } | { "why": "other", 
/**
 * One line, in English, for a report.
 */
detail: string, };
export type Unsupported = { "cause": "software" } | { "cause": "screen_only" } | { "cause": "lent" } | { "cause": "old_macos" } | { "cause": "old_driver", 
/**
 * Whose driver to update: `NVIDIA`, `AMD`, `Intel`.
 */
maker: string, } | { "cause": "nouveau" } | { "cause": "radeon" } | { "cause": "nvidia_without_vulkan", 
/**
 * The kernel's driver, as Linux names it.
 */
driver: string, } | { "cause": "mesa_without_vulkan", 
/**
 * The kernel's driver, as Linux names it: the package to install depends on it.
 */
driver: string, } | { "cause": "nvidia_without_driver" } | { "cause": "without_driver" };
export type WorkInProgress = { 
/**
 * What `id` is the id of.
 */
kind: WorkKind, 
/**
 * The job's, or the audit's; the history lists it under the same.
 */
id: string, 
/**
 * The model's name, as the network calls it where that is known.
 */
model: string, 
/**
 * [`DeviceStatus::id`] of what computes it.
 */
device: string, 
/**
 * Tokens of the prompt; for an audit, all tokens that it reads.
 */
input_tokens: number, 
/**
 * Tokens written so far; 0 for an audit, which writes none.
 */
output_tokens: number, 
/**
 * Where the output ends at the latest; 0 for an audit.
 */
max_tokens: number, 
/**
 * None until there are tokens to count.
 */
tokens_per_second: number | null, 
/**
 * Unix time in milliseconds.
 */
started_ms: number, };
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
  /** Leave one device alone; the others go on. */
  pause_device: { request: ById; answer: AppState };
  /** Take jobs on it again. */
  resume_device: { request: ById; answer: AppState };
  /** Work for a while whatever the owner's rules say. */
  work_anyway: { request: ForSeconds; answer: AppState };
  /** Sets the rules that a preset is about; the others stay as they are. */
  choose_preset: { request: Preset; answer: AppState };
  /** Keeps the node's key in a file of the data folder, where there is no keychain. */
  keep_key_in_file: { request: null; answer: AppState };
  /** Look at the machine again. */
  check: { request: null; answer: AppState };
  /** Asks a network who it is. Nothing is kept. */
  look_up_network: { request: ByAddress; answer: LookedUp };
  /** Joins a network by an invitation or its address, and works for it from now on. */
  join_network: { request: ByAddress; answer: AppState };
  /** Works for another of the networks that were joined. Jobs in progress are handed back. */
  choose_network: { request: ByAddress; answer: AppState };
  /** Forgets a network, but not what was done for it. If it was the active one, jobs in progress are handed back, and none is active. */
  leave_network: { request: ByAddress; answer: AppState };
  /** Shows the person an invitation that was opened outside the window. Nothing is joined. */
  offer_invitation: { request: ByAddress; answer: AppState };
  /** Shows it no longer. */
  put_invitation_away: { request: null; answer: AppState };
  /** Makes an account, whose key is kept on this machine. */
  create_account: { request: null; answer: AppState };
  /** The account's words, for the person to keep. */
  account_backup: { request: null; answer: AccountBackup };
  /** Brings an account to this machine, from its words or a backup file. */
  restore_account: { request: AccountWords; answer: AppState };
  /** Takes the account and its key off this machine, which is nobody's then. */
  remove_account: { request: null; answer: AppState };
  /** Takes this machine from an account whose key is elsewhere. */
  unlink_machine: { request: null; answer: AppState };
  /** Makes a code by which other machines become the account's. */
  make_link_code: { request: LinkCodeRequest; answer: NewLinkCode };
  /** Makes this machine the account's that made a code. */
  link_machine: { request: ByCode; answer: AppState };
  /** What the account has in the active network. */
  account_overview: { request: null; answer: Overview };
  /** What its keys spent. */
  spending: { request: SpendingQuery; answer: Statement };
  /** Its keys, those that were revoked included. */
  account_keys: { request: null; answer: Array<AccountKeyRow> };
  /** Makes a key that spends the account's points. It is shown this one time. */
  create_key: { request: KeyRequest; answer: NewKey };
  /** Ends a key. */
  revoke_key: { request: ByName; answer: Array<AccountKeyRow> };
  /** The certificate that the active network made for itself, for clients that ask it. */
  network_certificate: { request: null; answer: string };
  /** The account's machines in the active network. */
  fleet: { request: null; answer: Array<Machine> };
  /** Tells machines of the account what to do. */
  command_fleet: { request: FleetOrder; answer: Array<FleetAnswer> };
  /** Takes another machine from the account. */
  unlink_node: { request: ByNode; answer: Array<Machine> };
  /** Sets what is named; the other settings stay as they are. */
  change_settings: { request: Partial<Settings>; answer: AppState };
  /** The GPUs' last ten minutes. */
  gpu_history: { request: null; answer: GpuHistory };
  /** The jobs done, a part at a time. */
  jobs: { request: JobsQuery; answer: JobsPage };
  /** The same as a CSV file's text; `offset` and `limit` do not count. */
  jobs_csv: { request: JobsQuery; answer: string };
  /** The programs that the person runs now, to name some in the rules: at most 12, those that use a GPU first, then by memory. None where the system does not tell. */
  running_programs: { request: null; answer: Array<RunningProgram> | null };
  /** What the node did in a span of time, of the last 30 days. */
  stretches: { request: StretchesQuery; answer: Array<Stretch> };
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
  /** Goes on with a download though the connection costs by the byte. */
  download_anyway: { request: ById; answer: AppState };
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
