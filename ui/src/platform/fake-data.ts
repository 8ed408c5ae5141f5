// A made-up machine, its models and thousands of jobs: always the same ones.

import type {
  Adapter,
  Amount,
  AppState,
  CatalogueItem,
  GpuSample,
  GpuSeen,
  Hardware,
  InstalledModel,
  JobRow,
  Held,
  Requirement,
  Rule,
  Rules,
  RunningProgram,
  StateKind,
  Stretch,
  Summary,
  Surroundings,
  VerdictStatus,
  Why,
} from "./types";

const GB = 1e9;
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
export const MODELS_FOLDER = "/home/mia/.local/share/infera-node/models";
export const LLAMA = `${MODELS_FOLDER}/llama-3.2-3b-instruct-q4_1.gguf`;

/** A stream of numbers in 0..1 that is the same at every start (mulberry32). */
export function dice(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let x = Math.imul(a ^ (a >>> 15), a | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const adapters: Adapter[] = [
  {
    id: "0000:01:00.0",
    name: "NVIDIA GeForce RTX 4070",
    kind: "discrete",
    api: "Vulkan",
    driver: "NVIDIA 575.57.08",
    vram_bytes: 12_878_610_432,
    standing: { standing: "chosen" },
  },
  {
    id: "0000:00:02.0",
    name: "Intel UHD Graphics 770",
    kind: "integrated",
    api: "Vulkan",
    driver: "Mesa 25.2.6",
    vram_bytes: null,
    standing: { standing: "available" },
  },
  {
    id: "0000:02:00.0",
    name: "NVIDIA GeForce GT 710",
    kind: "discrete",
    api: null,
    driver: "nouveau",
    vram_bytes: 2_147_483_648,
    standing: {
      standing: "unsupported",
      why: { cause: "nouveau" },
    },
  },
];

export const hardware: Hardware = {
  os: "Ubuntu 24.04.3 LTS",
  cpu: "AMD Ryzen 7 7700",
  cpu_cores: 8,
  ram_bytes: 33_554_432_000,
  free_disk_bytes: 212 * GB,
  network_bytes_per_second: 11_400_000,
  gpus: [
    {
      name: "NVIDIA GeForce RTX 4070",
      kind: "discrete",
      api: "Vulkan",
      driver: "NVIDIA 575.57.08",
      pci_id: "0000:01:00.0",
      vram_bytes: 12_878_610_432,
    },
    {
      name: "Intel UHD Graphics 770",
      kind: "integrated",
      api: "Vulkan",
      driver: "Mesa 25.2.6",
      pci_id: "0000:00:02.0",
      vram_bytes: null,
    },
  ],
};

const gpuNeed: Amount = { amount: "vram", bytes: 8 * 2 ** 30, or_apple_silicon: true };

export const requirements: Requirement[] = [
  {
    id: "ram",
    need: { amount: "memory", bytes: 16 * 2 ** 30 },
    found: { amount: "memory", bytes: 33_554_432_000 },
    mark: "pass",
  },
  {
    id: "free_disk",
    need: { amount: "disk", bytes: 20e9 },
    found: { amount: "disk", bytes: 197e9 },
    mark: "pass",
  },
  {
    id: "network",
    need: { amount: "rate", bytes_per_second: 2e6 },
    found: { amount: "unknown" },
    mark: "warn",
  },
  {
    id: "gpu",
    need: gpuNeed,
    found: { amount: "gpus", gpus: hardware.gpus.slice(0, 1) },
    mark: "pass",
  },
];

export const smallGpu: Requirement = {
  id: "gpu",
  need: gpuNeed,
  found: {
    amount: "gpus",
    gpus: [{ ...hardware.gpus[0]!, name: "NVIDIA GeForce GTX 1660", vram_bytes: 6 * 2 ** 30 }],
  },
  mark: "fail",
};

export const noGpu: Requirement = {
  id: "gpu",
  need: gpuNeed,
  found: { amount: "gpus", gpus: [] },
  mark: "fail",
};

type Made = [
  id: string,
  name: string,
  summary: string,
  billions: number,
  licence: string,
  bytes: number,
  context: number,
];

const made: Made[] = [
  [
    "smollm2-135m-instruct-q4_1",
    "SmolLM2 135M Instruct",
    "Tiny and quick: for trying things out, on any machine.",
    0.135,
    "Apache-2.0",
    0.094 * GB,
    8192,
  ],
  [
    "llama-3.2-1b-instruct-q4_1",
    "Llama 3.2 1B Instruct",
    "Short answers and summaries on small GPUs.",
    1.24,
    "Llama 3.2 Community License",
    0.83 * GB,
    131_072,
  ],
  [
    "llama-3.2-3b-instruct-q4_1",
    "Llama 3.2 3B Instruct",
    "A good all-rounder for 6 GB and more.",
    3.21,
    "Llama 3.2 Community License",
    2.09 * GB,
    131_072,
  ],
  [
    "qwen2.5-7b-instruct-q4_1",
    "Qwen2.5 7B Instruct",
    "Strong at code and at many languages.",
    7.62,
    "Apache-2.0",
    4.87 * GB,
    32_768,
  ],
  [
    "mistral-nemo-12b-instruct-q4_1",
    "Mistral Nemo 12B Instruct",
    "Long texts and careful answers.",
    12.2,
    "Apache-2.0",
    7.79 * GB,
    131_072,
  ],
  [
    "qwen2.5-32b-instruct-q4_1",
    "Qwen2.5 32B Instruct",
    "The best answers here; asks for a large GPU.",
    32.8,
    "Apache-2.0",
    20.6 * GB,
    32_768,
  ],
];

export function catalogue(installed: InstalledModel[], hasGpu: boolean): CatalogueItem[] {
  return made.map(([id, name, summary, billions, licence, bytes, context], index) => {
    const minimum = bytes * 1.18 + 0.6 * GB;
    const spare = 12.9 * GB - minimum;
    return {
      entry: {
        id,
        name,
        summary: { en: summary },
        parameters_billions: billions,
        licence,
        licence_url: "https://example.org/licence",
        quantisation: "Q4_1",
        bytes,
        context_tokens: context,
        minimum_vram_bytes: minimum,
        sources: [`https://example.org/${id}.gguf`],
      },
      fit: !hasGpu
        ? { fit: "on_cpu" }
        : spare >= 0
          ? { fit: "fits", spare_bytes: spare }
          : { fit: "too_large", missing_bytes: -spare },
      installed: installed.some((model) => model.catalogue_id === id),
      suggested: index === 3,
    };
  });
}

export function installedModels(now: number): InstalledModel[] {
  return [
    {
      path: LLAMA,
      name: "Llama 3.2 3B Instruct",
      architecture: "llama",
      quantisation: "Q4_1",
      bytes: 2.09 * GB,
      context_tokens: 131_072,
      licence: "Llama 3.2 Community License",
      id: "5f0c3e9b7d21aa48c6e4f1b0937d5528e1c2f6a4b8d90e7351a6c4f2e8b7d013",
      catalogue_id: "llama-3.2-3b-instruct-q4_1",
      added_ms: now - 21 * DAY,
      fit: { fit: "fits", spare_bytes: 9.8 * GB },
      in_use: true,
      price: { input: 40, output: 120 },
      fault: null,
    },
    {
      path: `${MODELS_FOLDER}/smollm2-135m-instruct-q4_1.gguf`,
      name: "SmolLM2 135M Instruct",
      architecture: "llama",
      quantisation: "Q4_1",
      bytes: 0.094 * GB,
      context_tokens: 8192,
      licence: "Apache-2.0",
      id: null,
      catalogue_id: "smollm2-135m-instruct-q4_1",
      added_ms: now - 3 * DAY,
      fit: { fit: "fits", spare_bytes: 12.2 * GB },
      in_use: false,
      price: null,
      fault: null,
    },
    {
      path: `${MODELS_FOLDER}/half-a-file.gguf`,
      name: "half-a-file",
      architecture: "",
      quantisation: "",
      bytes: 0.4 * GB,
      context_tokens: 0,
      licence: null,
      id: null,
      catalogue_id: null,
      added_ms: now - DAY,
      fit: { fit: "unknown" },
      in_use: false,
      price: null,
      fault: {
        cause: "damaged",
        message: "The file ends in the middle of tensor blk.11.ffn_up.weight",
      },
    },
  ];
}

/** Newest first. */
export function pastJobs(count: number, now: number): JobRow[] {
  const roll = dice(7);
  const jobs: JobRow[] = [];
  let at = now - 42_000;
  for (let index = 0; index < count; index += 1) {
    const job = pastJob(index, at, roll);
    jobs.push(job);
    const night = new Date(at).getHours() < 7 ? 5 : 1;
    at = job.started_ms - 10_000 - roll() * 900_000 * night;
  }
  return jobs;
}

/** Three jobs, of which the first was verified a moment ago. */
export function newcomersJobs(now: number): JobRow[] {
  const job = (id: string, minutes: number, output: number) =>
    finishedJob(id, now - minutes * 60_000 - 4000, now - minutes * 60_000, 120, output);
  return [
    job("c0ffee0000000003", 1, 214),
    judged(job("c0ffee0000000002", 9, 73), "sampled_out"),
    judged(job("c0ffee0000000001", 26, 380), "verified"),
  ];
}

/** Embeddings pay little: two of 0.02 points, and one of 0.008. */
export function smallJobs(now: number): JobRow[] {
  return [20_000, 20_000, 8_000].map((points, index) => ({
    ...judged(
      finishedJob(
        `0000000000000${index}a1`,
        now - (index + 1) * 60_000,
        now - index * 60_000,
        9,
        2,
      ),
      "sampled_out",
    ),
    points,
  }));
}

export function finishedJob(
  id: string,
  started: number,
  finished: number,
  input: number,
  output: number,
): JobRow {
  return {
    kind: "job",
    network: "https://balancer.example.org",
    id,
    attempt: 1,
    model: "5f0c3e9b7d21aa48c6e4f1b0937d5528e1c2f6a4b8d90e7351a6c4f2e8b7d013",
    model_name: "Llama 3.2 3B Instruct",
    input_tokens: input,
    output_tokens: output,
    tokens_per_second: (output / (finished - started)) * 1000,
    started_ms: started,
    finished_ms: finished,
    verdict: "pending",
    reason: "",
    points: input * 60 + output * 10_000,
    references: [],
    device: "0000:01:00.0",
  };
}

/** What the references made of a job. */
export function judged(job: JobRow, verdict: VerdictStatus): JobRow {
  const reasons: Record<VerdictStatus, string> = {
    verified: `2 reference nodes agree on all ${job.output_tokens} tokens.`,
    sampled_out: "The lottery chose no audit for this job.",
    not_checked: "This network checks nothing: its operator trusts the nodes that answer.",
    pending: "",
    failed: `2 of 2 reference nodes find that this model did not write this: 38 of ${job.output_tokens} tokens differ by more than rounding can explain.`,
  };
  const checked = verdict === "verified" || verdict === "failed";
  // One in four has a tie that rounding decided.
  const tie = verdict === "verified" && "048c".includes(job.id.at(-1)!);
  return {
    ...job,
    verdict,
    reason: tie
      ? `2 reference nodes agree but for 1 of ${job.output_tokens} tokens, where they differ by rounding only.`
      : reasons[verdict],
    points: verdict === "failed" ? 0 : job.points,
    references: checked
      ? ["a41f09", "77c2e8"].map((reference) => ({
          reference,
          finding: verdict === "failed" ? "fail" : "clean",
          positions: job.output_tokens,
          mismatches: verdict === "failed" ? 38 : tie ? 1 : 0,
          largest_margin: verdict === "failed" ? 4100 : tie ? 0.8 : 0,
        }))
      : [],
  };
}

function pastJob(index: number, finished: number, roll: () => number): JobRow {
  const audit = roll() < 0.06;
  const output = audit ? 0 : Math.round(40 + roll() ** 2 * 900);
  const input = Math.round(30 + roll() ** 3 * 4000);
  const duration = audit ? 900 + roll() * 1200 : (output / (38 + roll() * 9)) * 1000 + 300;
  const id = Array.from({ length: 16 }, () => Math.floor(roll() * 16).toString(16)).join("");
  const job = finishedJob(id, finished - duration, finished, input, output);
  const draw = roll();
  if (audit) {
    return {
      ...judged(job, "verified"),
      kind: "audit",
      references: [],
      tokens_per_second: null,
      points: 250_000,
      reason: "Your check was counted",
    };
  }
  if (index < 2) return job;
  return judged(job, draw < 0.2 ? "verified" : draw < 0.997 ? "sampled_out" : "failed");
}

/** A second of the made-up GPUs. */
export function reading(at: number, working: boolean, roll: () => number): GpuSample {
  const wave = Math.sin(at / 9000) * 6;
  const load = working ? 64 + wave + roll() * 8 : 2 + roll() * 3;
  return {
    at_ms: at,
    readings: [
      {
        adapter: "0000:01:00.0",
        load_percent: load,
        load_others_percent: 1 + roll() * 2,
        vram_ours_bytes: working ? 5.1 * GB : 3.4 * GB,
        vram_others_bytes: 0.8 * GB,
        vram_used_bytes: (working ? 5.9 : 4.2) * GB + roll() * 0.02 * GB,
        vram_total_bytes: 12_878_610_432,
        temperature_celsius: (working ? 61 : 42) + Math.round(wave / 4),
        temperature_limit_celsius: 90,
        power_watts: (working ? 142 : 18) + wave,
        power_limit_watts: 200,
        core_megahertz: working ? 2610 : 210,
        memory_megahertz: working ? 10_501 : 405,
        fan_percent: working ? 38 : 0,
      },
      {
        adapter: "0000:00:02.0",
        load_percent: 4 + roll() * 5,
        load_others_percent: 4,
        vram_ours_bytes: null,
        vram_others_bytes: null,
        vram_used_bytes: null,
        vram_total_bytes: null,
        temperature_celsius: null,
        temperature_limit_celsius: null,
        power_watts: null,
        power_limit_watts: null,
        core_megahertz: 350,
        memory_megahertz: null,
        fan_percent: null,
      },
    ],
  };
}

export const rules: Rules = {
  away: { on: false, minutes: 10 },
  games: true,
  full_screen: true,
  programs: ["blender", "obs"],
  battery: true,
  battery_percent: null,
  gpu: {
    load: { on: true, percent: 30, seconds: 10 },
    memory: { on: true },
    heat: { on: true, celsius: null },
    duty_percent: 100,
  },
  memory: { on: true, bytes: 2 ** 30 },
  schedule: { on: false, hours: [{ days: allDays(), from: 22 * 60, to: 7 * 60 }] },
  keep_awake: false,
  metered_downloads: true,
};

/** What somebody runs, the first in the foreground. */
export const runningPrograms: RunningProgram[] = [
  { name: "blender", uses_gpu: true, memory_bytes: 2.4 * 2 ** 30 },
  { name: "firefox", uses_gpu: true, memory_bytes: 1.9 * 2 ** 30 },
  { name: "darktable", uses_gpu: true, memory_bytes: 1.1 * 2 ** 30 },
  { name: "code", uses_gpu: false, memory_bytes: 0.9 * 2 ** 30 },
  { name: "HandBrakeCLI", uses_gpu: false, memory_bytes: 0.4 * 2 ** 30 },
];

function allDays(): Rules["schedule"]["hours"][number]["days"] {
  return [true, true, true, true, true, true, true];
}

export function surroundings(now: number): Surroundings {
  return {
    input: { input: "quiet", since_ms: now - 4 * 60_000 },
    session: "open",
    full_screen: { names: [] },
    games: { names: [] },
    programs: { names: [] },
    power: { on_battery: false, battery_percent: 87 },
    network: "unmetered",
    available_memory_bytes: 12.5 * 2 ** 30,
    going_to_sleep: false,
  };
}

/** What the rules see of the made-up GPU. */
export const seenGpu: GpuSeen = {
  adapter: "0000:01:00.0",
  load_others_percent: 5,
  vram_others_bytes: 0.8 * 2 ** 30,
  vram_ours_bytes: 3.4 * 2 ** 30,
  vram_total_bytes: 12 * 2 ** 30,
  temperature_celsius: 61,
  temperature_limit_celsius: 90,
};

/** One whose driver tells nothing. */
export const unseenGpu: GpuSeen = {
  adapter: "0000:01:00.0",
  load_others_percent: null,
  vram_others_bytes: null,
  vram_ours_bytes: null,
  vram_total_bytes: null,
  temperature_celsius: null,
  temperature_limit_celsius: null,
};

/** A system that tells nothing. */
export const unseen: Surroundings = {
  input: null,
  session: null,
  full_screen: null,
  games: null,
  programs: null,
  power: null,
  network: null,
  available_memory_bytes: null,
  going_to_sleep: null,
};

/** What the rules say of what is seen, as far as it is played here. */
export function heldBy(
  rules: Rules,
  seen: Surroundings,
  gpu: GpuSeen | null,
  reserve: number,
  now: number,
): Held[] {
  const held: Held[] = [];
  const hold = (rule: Rule, why: Why) =>
    held.push({ rule, why, since_ms: now - 60_000, ended_ms: null });
  const game = seen.games?.names[0];
  if (rules.games && game !== undefined) hold("games", { why: "game", name: game });
  const program = seen.programs?.names.find((name) => rules.programs.includes(name));
  if (program !== undefined) hold("programs", { why: "program", name: program });
  const film = seen.full_screen?.names[0];
  if (rules.full_screen && film !== undefined) {
    hold("full_screen", { why: "full_screen", name: film });
  }
  const available_bytes = seen.available_memory_bytes ?? Infinity;
  if (rules.memory.on && available_bytes < rules.memory.bytes) {
    const resume_above_bytes = rules.memory.bytes * 1.25;
    hold("memory", { why: "low_memory", available_bytes, resume_above_bytes });
  }
  if (rules.battery && seen.power?.on_battery === true) {
    hold("battery", { why: "battery", percent: seen.power.battery_percent });
  } else if ((seen.power?.battery_percent ?? 100) < (rules.battery_percent ?? 0)) {
    const resume_percent = (rules.battery_percent ?? 0) + 5;
    hold("battery", { why: "low_battery", resume_percent });
  }
  const limit = gpu?.temperature_limit_celsius ?? Infinity;
  const above = Math.min(rules.gpu.heat.celsius ?? limit - 10, limit);
  if (rules.gpu.heat.on && (gpu?.temperature_celsius ?? 0) > above) {
    hold("gpu_heat", { why: "gpu_hot", resume_celsius: above - 5 });
  }
  const ours = gpu?.vram_ours_bytes ?? 0;
  const free = (gpu?.vram_total_bytes ?? Infinity) - (gpu?.vram_others_bytes ?? 0) - ours;
  if (rules.gpu.memory.on && free < reserve / 2) {
    hold("gpu_memory", { why: "gpu_memory", resume_above_bytes: ours + (reserve * 3) / 4 });
  }
  if (rules.gpu.load.on && (gpu?.load_others_percent ?? 0) >= rules.gpu.load.percent) {
    hold("gpu_load", { why: "gpu_busy" });
  }
  const { on, minutes } = rules.away;
  const since = seen.input?.input === "quiet" ? seen.input.since_ms : now;
  if (on && seen.input !== null && now - since < minutes * 60_000) {
    hold("away", { why: "in_use", minutes, remote: false });
  }
  const time = new Date(now);
  const minute = time.getHours() * 60 + time.getMinutes();
  const open = rules.schedule.hours.some(({ from, to }) =>
    from < to ? minute >= from && minute < to : minute >= from || minute < to,
  );
  if (rules.schedule.on && !open) {
    const from = rules.schedule.hours[0]?.from ?? 0;
    const opens = new Date(time).setHours(0, from, 0, 0);
    hold("schedule", { why: "hours", opens_ms: opens > now ? opens : opens + DAY });
  }
  return held;
}

/** Thirty days of a machine that is used in the daytime, played on in the evening, and switched off
 * on some nights: oldest first, up to now. */
export function pastStretches(now: number, days = 30): Stretch[] {
  const stretches: Stretch[] = [];
  const add = (from_ms: number, length: number, kind: StateKind, summary: Summary) => {
    const to_ms = Math.min(now, from_ms + length);
    if (to_ms > from_ms) stretches.push({ from_ms, to_ms, kind, summary });
    return from_ms + length;
  };
  const rule = (why: Why): Summary => ({ summary: "rule", why, goes_on_ms: null });
  const MINUTE = 60_000;
  for (let back = days; back >= 0; back -= 1) {
    const midnight = new Date(now);
    midnight.setHours(0, 0, 0, 0);
    midnight.setDate(midnight.getDate() - back);
    const start = midnight.getTime();
    const end = new Date(start).setDate(midnight.getDate() + 1);
    const roll = dice(start / HOUR);
    let at = start;
    while (at < Math.min(end, now)) {
      const hour = (at - start) / HOUR;
      const chance = roll();
      if (hour > 1 && hour < 6.5 && back % 3 === 1) {
        at = start + 6.5 * HOUR;
      } else if (hour >= 19 && hour < 21.4 && back % 2 === 0) {
        at = add(at, (80 + roll() * 70) * MINUTE, "paused", rule({ why: "game", name: "Hades" }));
      } else if (hour > 9 && hour < 18 && chance < 0.07) {
        at = add(
          at,
          (20 + roll() * 50) * MINUTE,
          "paused",
          rule({ why: "battery", percent: null }),
        );
      } else if (hour > 9 && hour < 18 && chance < 0.1) {
        at = add(at, (10 + roll() * 30) * MINUTE, "paused", {
          summary: "paused",
          until_ms: null,
          finishing: false,
        });
      } else if (chance < 0.12 && back % 5 === 2) {
        at = add(at, (12 + roll() * 30) * MINUTE, "needs_you", {
          summary: "low_disk",
          free_bytes: 0,
          resume_above_bytes: 1e9,
        });
      } else if (chance < 0.14) {
        at = add(at, (2 + roll() * 8) * MINUTE, "waiting", {
          summary: "unreachable",
          balancer: "balancer.example.org",
          retry_at_ms: 0,
        });
      } else if (chance < 0.6) {
        at = add(at, (0.3 + roll() ** 3 * 40) * MINUTE, "working", {
          summary: "working",
          jobs: 1,
          audits: 0,
          tokens_per_second: null,
        });
      } else {
        at = add(at, (0.5 + roll() ** 2 * 70) * MINUTE, "waiting", { summary: "waiting_for_jobs" });
      }
    }
  }
  return stretches;
}

export function firstState(now: number): AppState {
  const installed = installedModels(now);
  return {
    state: {
      kind: "waiting",
      sentence: "Waiting for jobs",
      remedy: null,
      summary: { summary: "waiting_for_jobs" },
    },
    node: {
      node: "9d1f6c02b7e4583aa6d0c19f4e72b8350c6ad91fe2735b480dc16ea9f4b27c58",
      software: "infera-node 0.1.0",
      balancer: "https://balancer.example.org",
      state: {
        kind: "waiting",
        sentence: "Waiting for jobs",
        remedy: null,
        summary: { summary: "waiting_for_jobs" },
      },
      decision: { mode: "run", reason: null, held: [] },
      connection: { state: "connected", reference: false },
      models: [
        {
          name: "Llama 3.2 3B Instruct",
          id: installed[0]!.id,
          served: true,
          device: {
            name: "NVIDIA GeForce RTX 4070",
            backend: "wgpu/vulkan",
            reason: "The discrete GPU with the most memory",
          },
          engine: { state: "ready" },
        },
      ],
      devices: [],
      work: [],
      points: { confirmed: 18_412_600_000, pending: 8_400_000, forfeited: 3_100_000 },
      hardware,
      policy: "public",
      requirements,
      offers: [
        {
          model: "5f0c3e9b7d21aa48c6e4f1b0937d5528e1c2f6a4b8d90e7351a6c4f2e8b7d013",
          name: "llama-3.2-3b",
          price: { input: 40, output: 120 },
          context_tokens: 8192,
        },
      ],
      surroundings: surroundings(now),
      anyway_until_ms: null,
      command: null,
    },
    preset: "not_playing",
    setup: { agreed: true, finished: true },
    invitation: null,
    account: null,
    link: null,
    settings: {
      balancer: "https://balancer.example.org",
      networks: [
        {
          address: "https://balancer.example.org",
          name: "Example network",
          fingerprint: null,
          standing: { trusted: false, reference: false },
          joined_ms: now - 40 * 86_400_000,
        },
      ],
      devices: [],
      excluded_adapters: [],
      vram_reserve_bytes: 2 ** 30,
      jobs_at_once: 2,
      models: [LLAMA],
      rules: structuredClone(rules),
      electricity: { price_per_kwh: "0.32", currency: "EUR" },
      download_bytes_per_second: null,
      models_quota_bytes: 50 * GB,
      start_with_system: true,
      web_control: false,
      machine_name: null,
      takes_commands: false,
      notifications: true,
      language: null,
      theme: "system",
      look_for_updates: true,
      closing_explained: true,
    },
    host: {
      name: "workshop",
      version: "0.1.0",
      desktop: true,
      os: "linux",
      data_folder: "/home/mia/.local/share/infera-node",
      models_folder: MODELS_FOLDER,
      web_address: null,
    },
    adapters,
    installed,
    downloads: [],
    imports: [],
    disk: {
      models_bytes: installed.reduce((sum, model) => sum + model.bytes, 0),
      partial_bytes: 0,
      free_bytes: 212 * GB,
      quota_bytes: 50 * GB,
    },
    today: { micro_points: 0, jobs: 0, verified: 0, pending: 0, failed: 0, devices: [] },
    obstacles: [{ obstacle: "no_demand" }],
    benchmark: null,
  };
}
