// A lively backend in memory, for development, tests and pictures. Never in a release's bundle.

import {
  fakeAccount,
  fakeBackup,
  fakeKeys,
  fakeSpending,
  otherMachines,
  thisMachine,
} from "./fake-account";
import {
  catalogue,
  dice,
  finishedJob,
  firstState,
  heldBy,
  judged,
  newcomersJobs,
  MODELS_FOLDER,
  noGpu,
  pastJobs,
  pastStretches,
  reading,
  runningPrograms,
  seenGpu,
  smallGpu,
  smallJobs,
  unseen,
  unseenGpu,
} from "./fake-data";
import type {
  AccountKeyRow,
  AppEvent,
  AppState,
  CallError,
  Commands,
  Consumption,
  DeviceStatus,
  DeviceToday,
  Download,
  DownloadFault,
  Earnings,
  Electricity,
  Energy,
  EnergySpan,
  GpuSample,
  GpuSeen,
  Held,
  JobRow,
  JobsPage,
  JobsQuery,
  LookedUp,
  Machine,
  ModelFault,
  NodeSnapshot,
  Obstacle,
  Overview,
  Period,
  Platform,
  PointSums,
  Preset,
  Reason,
  Requirement,
  Rules,
  Settings,
  StartFault,
  StateKind,
  Stretch,
  Summary,
} from "./types";

/** What `?fake=` may say. */
export const SCENARIOS = [
  "working",
  "account",
  "account-lab",
  "linked",
  "two-jobs",
  "waiting",
  "audit",
  "paused",
  "snoozed",
  "finishing",
  "own-use",
  "game",
  "game-closed",
  "battery",
  "low-battery",
  "gpu-busy",
  "gpu-memory",
  "gpu-hot",
  "two-gpus",
  "away",
  "schedule",
  "anyway",
  "unseen",
  "loading",
  "restarting",
  "reading",
  "empty",
  "newcomer",
  "quiet",
  "small-points",
  "no-tariff",
  "no-power",
  "gaps",
  "gpus",
  "browser",
  "many-obstacles",
  "many-jobs",
  "downloads",
  "metered",
  "download-faults",
  "chat-fails",
  "first-start",
  "first-no-network",
  "first-invited",
  "invited",
  "first-no-gpu",
  "first-faults",
  "first-locked",
  "first-measured",
  "not-agreed",
  "no-network",
  "no-model",
  "no-gpu",
  "requirement-failed",
  "disk-full",
  "storage-fault",
  "model-broken",
  "not-served",
  "offline",
  "identity-in-use",
  "outdated",
  "keychain-locked",
  "lost",
  "unauthorised",
] as const;
/** A link that was opened outside the window. */
const INVITATION =
  "infera://join?to=192.168.1.5:8431&pin=BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc&token=CQkJCQkJCQkJCQkJCQkJCf7oeMKz";

export type Scenario = (typeof SCENARIOS)[number];

export function isScenario(text: string | null): text is Scenario {
  return (SCENARIOS as readonly string[]).includes(text ?? "");
}

const STEP_MS = 500;
const SPEED = 42;
const FAULT: ModelFault = {
  cause: "out_of_memory",
  message: "The GPU has no memory left for 2.1 GB of weights",
};
const ANSWER =
  "A graphics card does many small sums at the same moment. A language model is made of just " +
  "such sums, so it answers there about twenty times faster than on the processor. You can ask " +
  "me something else, or stop me at any time.";

export function fakePlatform(scenario: Scenario = "working"): Platform {
  return new Fake(scenario);
}

class Fake implements Platform {
  readonly kind = "fake";
  #scenario: Scenario;
  #state: AppState;
  /** What the rules look at of each GPU. */
  readonly #gpus = new Map<string, GpuSeen>([["0000:01:00.0", structuredClone(seenGpu)]]);
  #jobs: JobRow[];
  #lastFound: { key: string; of: JobRow[]; jobs: JobRow[] } | undefined;
  #lastSummed: JobRow[] | undefined;
  #samples: GpuSample[] = [];
  #stretches: Stretch[] = [];
  #roll = dice(11);
  #listeners = new Set<(event: AppEvent) => void>();
  #timer: ReturnType<typeof setInterval> | undefined;
  #steps = 0;
  #chats = new Map<string, ReturnType<typeof setInterval>>();
  #until: number | null = null;
  #finishing = false;
  #paused = false;
  readonly #pausedDevices = new Set<string>();
  readonly #pausedMachines = new Set<string>();
  readonly #unlinked = new Set<string>();
  #keys: AccountKeyRow[] = [];
  #ownUse = false;
  /** When the game's rule lets go. */
  #closes: number | null = null;

  constructor(scenario: Scenario) {
    const now = Date.now();
    this.#scenario = scenario;
    const fresh = ["empty", "not-agreed"].includes(scenario) || scenario.startsWith("first-");
    this.#jobs = fresh ? [] : pastJobs(scenario === "many-jobs" ? 100_000 : 4200, now);
    if (scenario === "newcomer") this.#jobs = newcomersJobs(now);
    if (scenario === "small-points") this.#jobs = smallJobs(now);
    this.#state = firstState(now);
    if (!fresh) this.#stretches = pastStretches(now, scenario === "newcomer" ? 0 : 30);
    this.#arrange(now);
    this.#countToday();
    this.#sum();
    const from = scenario === "first-start" || scenario === "empty" ? 40 : 600;
    for (let second = from; second > 0; second -= 1) {
      if (scenario === "gaps" && second > 200 && second < 330) continue;
      this.#samples.push(reading(now - second * 1000, this.#busyThen(second), this.#roll));
    }
  }

  async call<C extends keyof Commands>(
    name: C,
    request: Commands[C]["request"],
  ): Promise<Commands[C]["answer"]> {
    // A little late, as a program is.
    await new Promise((resolve) => setTimeout(resolve, 40));
    if (this.#scenario === "unauthorised") {
      throw refused({ why: "unauthorised" });
    }
    const answer = this.#commands[name](request as never);
    return structuredClone(answer) as Commands[C]["answer"];
  }

  events(listener: (event: AppEvent) => void, lost: (isLost: boolean) => void): () => void {
    const begin = setTimeout(() => {
      if (this.#scenario === "unauthorised") return lost(true);
      listener({ event: "state", state: structuredClone(this.#state) });
      lost(false);
      if (this.#scenario === "lost") setTimeout(() => lost(true), 1500);
    }, 0);
    this.#listeners.add(listener);
    this.#timer ??= setInterval(() => this.#step(Date.now()), STEP_MS);
    return () => {
      clearTimeout(begin);
      this.#listeners.delete(listener);
      if (this.#listeners.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    };
  }

  async importFile(file: File): Promise<AppState> {
    const { name, size } = file;
    this.#change((state) => {
      state.imports = [{ id: 1, name, done_bytes: size / 2, total_bytes: size }];
    });
    await new Promise((resolve) => setTimeout(resolve, 800));
    return this.#import(name, size);
  }

  onFileDrop = () => () => {};

  chooseModel = () => Promise.resolve(null);

  async saveText(name: string): Promise<string> {
    return `/home/mia/Downloads/${name}`;
  }

  async open(): Promise<void> {}

  #commands: {
    [C in keyof Commands]: (request: Commands[C]["request"]) => Commands[C]["answer"];
  } = {
    state: () => this.#state,
    create_account: () => this.#change((state) => (state.account = fakeAccount(true))),
    account_backup: () => fakeBackup,
    restore_account: ({ words }) => {
      const typed = words.split(/[^a-z]+/i).filter(Boolean);
      if (typed.length !== 24) {
        throw refused({ why: "account_words", fault: { fault: "count", found: typed.length } });
      }
      return this.#change((state) => (state.account = fakeAccount(true)));
    },
    remove_account: () => this.#change((state) => (state.account = null)),
    unlink_machine: () => this.#change((state) => (state.account = null)),
    make_link_code: ({ uses, seconds }) => ({
      code: "7KQ2-M9XD-4HTC-VB3N",
      uses,
      expires_ms: Date.now() + seconds * 1000,
    }),
    link_machine: ({ code }) => {
      if (code.replace(/[-\s]/g, "").length !== 16) {
        throw refused({ why: "link", fault: { fault: "not_a_code" } });
      }
      return this.#change((state) => (state.account = fakeAccount(false)));
    },
    account_overview: () => this.#overview(),
    spending: ({ days }) => ({
      overview: this.#overview(),
      spent: fakeSpending(Date.now(), days),
    }),
    account_keys: () => this.#keys,
    create_key: ({ name, daily_limit, route }) => {
      if (this.#keys.some((key) => key.name === name && key.revoked_ms === null)) {
        throw refused({ why: "account", fault: "name_taken", detail: "" });
      }
      this.#keys = [
        ...this.#keys,
        {
          name,
          daily_limit,
          route,
          spent: 0,
          spent_today: 0,
          created_ms: Date.now(),
          revoked_ms: null,
        },
      ];
      return { key: "sk-inf-4f0c2e9b7d21aa48c6e4f1b0937d5528" };
    },
    revoke_key: ({ name }) => {
      this.#keys = this.#keys.map((key) =>
        key.name === name ? { ...key, revoked_ms: key.revoked_ms ?? Date.now() } : key,
      );
      return this.#keys;
    },
    network_certificate: () => "-----BEGIN CERTIFICATE-----\n",
    fleet: () => this.#fleet(),
    command_fleet: ({ nodes, action }) => {
      const machines = this.#fleet();
      const asked = nodes.length === 0 ? machines.map(({ node }) => node) : nodes;
      return asked.map((node) => {
        const machine = machines.find((machine) => machine.node === node);
        if (machine?.here !== true) return { node, fault: { fault: "not_here" } };
        if (node === this.#state.node?.node) {
          if (action.type === "resume") this.#commands.resume(null);
          else this.#commands.pause({});
        }
        if (action.type === "resume") this.#pausedMachines.delete(node);
        else this.#pausedMachines.add(node);
        return { node, fault: null };
      });
    },
    unlink_node: ({ node }) => {
      this.#unlinked.add(node);
      return this.#fleet();
    },
    agree: () => this.#change((state) => (state.setup.agreed = true)),
    withdraw: () => this.#change((state) => (state.setup.agreed = false)),
    keep_key_in_file: () => this.#state,
    look_up_network: ({ address }) => this.#lookUp(address.trim()),
    join_network: ({ address }) => {
      const found = this.#lookUp(address.trim());
      if (found.answer === "bad_invitation") {
        throw refused({ why: "invitation", fault: found.fault, detail: found.message });
      }
      if (found.answer !== "network") {
        throw refused({ why: "network_address", fault: "not_url", detail: "" });
      }
      return this.#change((state) => {
        const { networks } = state.settings;
        state.settings.networks = [
          ...networks.filter((network) => network.address !== found.url),
          {
            address: found.url,
            name: found.name,
            fingerprint: found.fingerprint,
            standing: found.invitation?.standing ?? { trusted: false, reference: false },
            joined_ms: Date.now(),
          },
        ];
        state.settings.balancer = found.url;
        state.invitation = null;
      });
    },
    choose_network: ({ address }) => this.#change((state) => (state.settings.balancer = address)),
    leave_network: ({ address }) =>
      this.#change(({ settings }) => {
        settings.networks = settings.networks.filter((network) => network.address !== address);
        if (settings.balancer === address) {
          settings.balancer = null;
        }
      }),
    offer_invitation: ({ address }) => this.#change((state) => (state.invitation = address)),
    put_invitation_away: () => this.#change((state) => (state.invitation = null)),
    finish_setup: (finished) => this.#change((state) => (state.setup.finished = finished)),
    pause: ({ seconds, until_tomorrow, finish_first }) =>
      this.#change((state) => {
        this.#paused = true;
        if (state.node !== null) state.node.anyway_until_ms = null;
        this.#until = seconds === undefined ? null : Date.now() + seconds * 1000;
        if (until_tomorrow === true) this.#until = tomorrowAtEight();
        this.#finishing = finish_first === true && (state.node?.work.length ?? 0) > 0;
        if (!this.#finishing && state.node !== null) state.node.work = [];
      }),
    pause_device: ({ id }) => this.#change(() => this.#pausedDevices.add(id)),
    resume_device: ({ id }) => this.#change(() => this.#pausedDevices.delete(id)),
    resume: () =>
      this.#change(() => {
        this.#paused = false;
        this.#finishing = false;
        this.#until = null;
      }),
    work_anyway: ({ seconds }) =>
      this.#change(({ node }) => {
        this.#paused = false;
        this.#until = null;
        if (node !== null) node.anyway_until_ms = seconds > 0 ? Date.now() + seconds * 1000 : null;
      }),
    choose_preset: (preset) =>
      this.#change(({ settings }) => (settings.rules = withPreset(settings.rules, preset))),
    stretches: ({ from_ms, to_ms }) => this.#stretchesNow(from_ms, to_ms),
    check: () => this.#state,
    change_settings: (change) =>
      this.#change((state) => {
        const settings = changed(state.settings, change);
        const { schedule } = settings.rules;
        if (schedule.on && schedule.hours.every(({ days }) => !days.includes(true))) {
          throw refused({ why: "no_hours" });
        }
        state.settings = settings;
        state.installed = state.installed.map((model) => ({
          ...model,
          in_use: settings.models.includes(model.path),
        }));
        const { devices, excluded_adapters: excluded } = settings;
        const isTicked = (id: string) =>
          devices.some((device) => device.device === "adapter" && device.id === id);
        // One that is gone is listed for its settings only.
        state.adapters = state.adapters.filter(
          ({ id, standing }) =>
            standing.standing !== "missing" || excluded.includes(id) || isTicked(id),
        );
        state.host = hostFor(state, settings.web_control);
        state.adapters = state.adapters.map((adapter) =>
          ["unsupported", "missing"].includes(adapter.standing.standing)
            ? adapter
            : {
                ...adapter,
                standing: settings.excluded_adapters.includes(adapter.id)
                  ? { standing: "excluded" }
                  : isTicked(adapter.id)
                    ? { standing: "chosen" }
                    : devices.length === 0 && adapter.kind === "discrete"
                      ? { standing: "chosen" }
                      : { standing: "available" },
              },
        );
        state.disk.quota_bytes = settings.models_quota_bytes;
      }),
    gpu_history: () => ({ samples: this.#samples }),
    jobs: (query) => this.#page(query),
    jobs_csv: (query) =>
      [
        "id,kind,model,input_tokens,output_tokens,started,verdict,points",
        ...this.#found(query).map((job) =>
          [
            job.id,
            job.kind,
            job.model_name,
            job.input_tokens,
            job.output_tokens,
            new Date(job.started_ms).toISOString(),
            job.verdict,
            job.points / 1e6,
          ].join(","),
        ),
      ].join("\n"),
    earnings: ({ period }) => this.#earnings(period),
    catalogue: () => catalogue(this.#state.installed, this.#state.adapters.length > 0),
    download: (request) =>
      this.#change((state) => {
        const item =
          request.from === "catalogue"
            ? catalogue(state.installed, true).find(({ entry }) => entry.id === request.id)
            : undefined;
        if (request.from === "catalogue" && item === undefined) {
          throw refused({
            why: "library",
            cause: "not_in_catalogue",
            detail: `There is no model ${request.id} in the catalogue`,
          });
        }
        const url = request.from === "url" ? request.url : item!.entry.sources[0]!;
        const id = item?.entry.id ?? url;
        if (state.downloads.some((download) => download.id === id)) return;
        state.downloads.push({
          id,
          name: item?.entry.name ?? url.split("/").at(-1) ?? url,
          url,
          done_bytes: 0,
          total_bytes: item?.entry.bytes ?? 1.6e9,
          bytes_per_second: null,
          seconds_left: null,
          state: { state: "running" },
        });
      }),
    pause_download: ({ id }) =>
      this.#change(() => this.#download(id, { state: { state: "paused" }, seconds_left: null })),
    resume_download: ({ id }) =>
      this.#change(() => this.#download(id, { state: { state: "running" } })),
    download_anyway: ({ id }) =>
      this.#change(() => this.#download(id, { state: { state: "running" } })),
    running_programs: () => (this.#scenario === "unseen" ? null : runningPrograms),
    cancel_download: ({ id }) =>
      this.#change((state) => {
        state.downloads = state.downloads.filter((download) => download.id !== id);
      }),
    import_model: ({ path }) => this.#import(path.split("/").at(-1) ?? path, 1.1e9),
    delete_model: ({ path }) =>
      this.#change((state) => {
        const model = state.installed.find((model) => model.path === path);
        if (model === undefined) throw refused({ why: "no_such_model" });
        state.settings.models = state.settings.models.filter((other) => other !== path);
        state.disk.models_bytes -= model.bytes;
        state.installed = state.installed.filter((model) => model.path !== path);
      }),
    use_model: ({ path, in_use }) =>
      this.#change((state) => {
        const model = state.installed.find((model) => model.path === path);
        if (model === undefined) throw refused({ why: "no_such_model" });
        model.in_use = in_use;
        state.settings.models = state.installed
          .filter((model) => model.in_use)
          .map((model) => model.path);
      }),
    chat: ({ id }) => {
      this.#ownUse = true;
      this.#sum();
      this.#chat(id);
      return null;
    },
    stop_chat: ({ id }) => {
      this.#endChat(id, true, 12);
      return null;
    },
    end_chat: () => this.#change(() => (this.#ownUse = false)),
    benchmark: ({ path }) =>
      this.#change((state) => {
        this.#ownUse = true;
        state.benchmark = {
          model: path,
          progress: { progress: "loading", done_bytes: 0, total_bytes: 2.09e9 },
        };
      }),
    stop_benchmark: () =>
      this.#change((state) => {
        this.#ownUse = false;
        state.benchmark = null;
      }),
    support_bundle: () => [
      { name: "infera.log", text: "2026-11-22T10:00:00Z INFO node: connected\n".repeat(40) },
      { name: "settings.json", text: JSON.stringify(this.#state.settings, null, 2) },
      { name: "hardware.json", text: JSON.stringify(this.#state.node?.hardware, null, 2) },
    ],
    removal_plan: () => [
      { what: "models", place: MODELS_FOLDER, bytes: this.#state.disk.models_bytes },
      { what: "history", place: `${this.#state.host.data_folder}/node.db`, bytes: 4_300_000 },
      { what: "logs", place: `${this.#state.host.data_folder}/logs`, bytes: 900_000 },
      { what: "settings", place: `${this.#state.host.data_folder}/settings.json`, bytes: 1200 },
      { what: "identity", place: "infera-node", bytes: 0 },
      { what: "autostart", place: "~/.config/autostart/infera-node.desktop", bytes: 210 },
    ],
    remove_everything: () => null,
  };

  #lookUp(text: string): LookedUp {
    const invited = text.includes("token=");
    if (text.startsWith("infera:") && text.length < 80) {
      return {
        answer: "bad_invitation",
        fault: "cut_off",
        message: "The invitation is cut off: its last characters are missing.",
      };
    }
    const host = /(?:to=|:\/\/)?([\w.:-]+)/.exec(text.replace(/^infera:\/\/join\?to=/, ""))?.[1];
    const url = `https://${host ?? ""}`;
    if (this.#scenario === "offline" || text.includes("nowhere")) {
      return { answer: "unreachable", url, reason: { why: "host_not_found" } };
    }
    const offer = this.#state.node?.offers?.[0];
    const shared = { answer: "network" as const, url };
    const models = offer === undefined ? [] : [offer];
    const requirements = this.#state.node?.requirements ?? [];
    if (!invited) {
      return {
        ...shared,
        name: "Example network",
        operator: "Example Ltd",
        rules: null,
        checking: "always",
        admission: text.includes("closed") ? "invitation" : "work",
        nodes: 214,
        references: 12,
        references_needed: 2,
        fingerprint: null,
        invitation: null,
        requirements,
        models,
      };
    }
    return {
      ...shared,
      name: "Anna’s GPUs",
      operator: "Anna, anna@example.org",
      rules: "For the four of us. Leave it on over night if you can.",
      checking: "always",
      admission: "invitation",
      nodes: 2,
      references: 1,
      references_needed: 2,
      fingerprint: "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
      invitation: {
        standing: { trusted: true, reference: text.includes("reference") },
        uses_left: 9,
        expires_ms: Date.now() + 6 * 86_400_000,
      },
      requirements,
      models,
    };
  }

  #overview(): Overview {
    const earned = 21_460_800_000;
    const spent = this.#keys.reduce((sum, key) => sum + key.spent, 0);
    return { balance: earned - spent, earned, spent, nodes: this.#fleet().length };
  }

  #fleet(): Machine[] {
    const { node, settings, host } = this.#state;
    const here = node === null ? [] : [thisMachine(node, settings.machine_name ?? host.name)];
    return [...here, ...otherMachines(Date.now())]
      .filter((machine) => !this.#unlinked.has(machine.node))
      .map((machine) =>
        this.#pausedMachines.has(machine.node)
          ? { ...machine, paused: "Paused by you", running: 0 }
          : machine,
      );
  }

  /** Makes the state into what the scenario is about. */
  #arrange(now: number): void {
    const state = this.#state;
    const node = state.node!;
    switch (this.#scenario) {
      case "account":
      case "account-lab":
        state.account = fakeAccount(true);
        this.#keys = fakeKeys(now);
        this.#beginJob(now - 5200, 512, 400, 214);
        if (this.#scenario === "account-lab") {
          state.settings.networks[0]!.fingerprint = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
          state.settings.networks[0]!.address = "https://192.168.1.5:8431";
          state.settings.balancer = "https://192.168.1.5:8431";
          this.#keys = [];
        }
        break;
      case "linked":
        state.account = fakeAccount(false);
        state.settings.takes_commands = true;
        node.command = {
          at_ms: now - 1_500_000,
          account: state.account.id,
          action: { type: "resume" },
          outcome: "done",
        };
        break;
      case "working":
      case "gaps":
      case "many-jobs":
      case "lost":
      case "finishing":
        this.#beginJob(now - 5200, 512, 400, 214);
        this.#finishing = this.#scenario === "finishing";
        this.#paused = this.#finishing;
        break;
      case "two-jobs":
        this.#beginJob(now - 5200, 512, 400, 214);
        this.#beginJob(now - 900, 2310, 900, 0);
        break;
      case "audit":
        node.connection = { state: "connected", reference: true };
        node.work = [
          {
            kind: "audit",
            id: "c0ffee",
            model: "Llama 3.2 3B Instruct",
            device: "0000:01:00.0",
            input_tokens: 900,
            output_tokens: 0,
            max_tokens: 400,
            tokens_per_second: null,
            started_ms: now - 800,
          },
        ];
        break;
      case "paused":
        this.#paused = true;
        break;
      case "snoozed":
        this.#paused = true;
        this.#until = now + 3_600_000;
        break;
      case "own-use":
        this.#ownUse = true;
        break;
      case "game":
      case "game-closed":
      case "anyway":
        node.surroundings.games = { names: ["Hades"] };
        node.surroundings.full_screen = { names: ["Hades"] };
        if (this.#scenario === "anyway") node.anyway_until_ms = now + 3_600_000;
        if (this.#scenario === "game-closed") this.#closes = now + 30_000;
        break;
      case "battery":
        node.surroundings.power = { on_battery: true, battery_percent: 63 };
        break;
      case "low-battery":
        node.surroundings.power = { on_battery: false, battery_percent: 14 };
        state.settings.rules.battery_percent = 20;
        break;
      case "gpu-busy":
        this.#gpus.get("0000:01:00.0")!.load_others_percent = 85;
        break;
      case "gpu-memory":
        this.#gpus.get("0000:01:00.0")!.vram_others_bytes = 8.3 * 2 ** 30;
        break;
      case "gpu-hot":
        this.#gpus.get("0000:01:00.0")!.temperature_celsius = 83;
        break;
      case "away":
        state.settings.rules = withPreset(state.settings.rules, "away");
        node.surroundings.input = { input: "recent" };
        break;
      case "schedule": {
        // Never the hours that it is now.
        const hour = new Date(now).getHours();
        const [hours] = state.settings.rules.schedule.hours;
        Object.assign(hours!, { from: ((hour + 6) % 24) * 60, to: ((hour + 15) % 24) * 60 });
        state.settings.rules = withPreset(state.settings.rules, "nights");
        break;
      }
      case "no-tariff":
        state.settings.electricity.price_per_kwh = null;
        break;
      case "unseen":
        node.surroundings = structuredClone(unseen);
        this.#gpus.set("0000:01:00.0", structuredClone(unseenGpu));
        break;
      case "loading":
        node.models[0]!.engine = { state: "loading", done_bytes: 0.4e9, total_bytes: 2.09e9 };
        break;
      case "reading":
        node.hardware = null;
        node.requirements = [];
        state.adapters = [];
        break;
      case "first-start":
      case "first-no-network":
      case "first-no-gpu":
      case "first-faults":
      case "first-locked":
      case "first-measured":
      case "first-invited":
      case "not-agreed":
        state.setup = { agreed: false, finished: this.#scenario === "not-agreed" };
        node.points = { confirmed: 0, pending: 0, forfeited: 0 };
        if (this.#scenario === "not-agreed") break;
        state.installed = this.#scenario === "first-measured" ? state.installed.slice(0, 2) : [];
        state.installed.forEach((model) => (model.in_use = false));
        state.settings.models = [];
        state.settings.closing_explained = false;
        state.disk.models_bytes = state.installed.reduce((sum, model) => sum + model.bytes, 0);
        node.models = [];
        if (["first-no-network", "first-invited"].includes(this.#scenario)) {
          state.settings.balancer = null;
          state.settings.networks = [];
        }
        if (this.#scenario === "first-invited") state.invitation = INVITATION;
        if (this.#scenario === "first-no-gpu") {
          state.adapters = state.adapters.slice(2);
          node.hardware = { ...node.hardware!, gpus: [] };
          this.#require(noGpu);
        }
        if (this.#scenario === "first-faults") {
          this.#require(smallGpu);
          state.adapters[1]!.standing = { standing: "missing" };
          state.disk.free_bytes = 3e9;
          state.downloads = [failed("wrong_hash", "SHA-256 is 4b1f…, expected b179…")];
        }
        if (this.#scenario === "first-locked") state.node = null;
        break;
      case "download-faults":
        state.downloads = [
          failed("wrong_hash", "SHA-256 is 4b1f…, expected b179…"),
          { ...failed("unreachable", "dns error: no such host"), id: "u", name: "Qwen2.5 14B" },
          { ...failed("over_quota", "1.2 GB too much"), id: "q", name: "Qwen2.5 32B" },
          { ...failed("disk_full", "No space left on device"), id: "d", name: "Phi 4" },
        ];
        break;
      case "chat-fails":
        break;
      case "empty":
        node.points = { confirmed: 0, pending: 0, forfeited: 0 };
        break;
      case "invited":
        state.invitation = INVITATION;
        break;
      case "no-network":
        state.settings.balancer = null;
        state.settings.networks = [];
        node.connection = { state: "connecting" };
        break;
      case "no-model":
        state.settings.models = [];
        state.installed = [];
        node.models = [];
        break;
      case "no-gpu":
        state.adapters = [];
        node.hardware = { ...node.hardware!, gpus: [] };
        this.#require(noGpu);
        break;
      case "requirement-failed":
        this.#require(smallGpu);
        break;
      case "disk-full":
        state.disk.free_bytes = 180_000_000;
        state.downloads = [
          {
            ...running("qwen2.5-7b-instruct-q4_1", "Qwen2.5 7B Instruct", 3.1e9, 4.87e9),
            bytes_per_second: null,
            seconds_left: null,
            state: {
              state: "failed",
              code: "disk_full",
              message: "No space left on device (os error 28)",
            },
          },
        ];
        break;
      case "gpus":
        state.settings.devices = [{ device: "adapter", id: "0000:01:00.0" }];
        state.settings.excluded_adapters = ["0000:00:02.0", "0000:41:00.0"];
        state.adapters = [
          state.adapters[0]!,
          { ...state.adapters[1]!, standing: { standing: "excluded" } },
          state.adapters[2]!,
          {
            id: "0000:41:00.0",
            name: "AMD Radeon RX 7600",
            kind: "discrete",
            api: null,
            driver: null,
            vram_bytes: null,
            standing: { standing: "missing" },
          },
        ];
        this.#beginJob(now - 5200, 512, 400, 214);
        break;
      case "two-gpus":
        state.settings.devices = state.adapters
          .slice(0, 2)
          .map(({ id }) => ({ device: "adapter", id }));
        state.adapters[1]!.standing = { standing: "chosen" };
        this.#gpus.set("0000:00:02.0", {
          ...unseenGpu,
          adapter: "0000:00:02.0",
          load_others_percent: 10,
        });
        this.#sum();
        this.#beginJob(now - 5200, 512, 400, 214);
        this.#beginJob(now - 2100, 96, 300, 40);
        break;
      case "browser":
        state.settings.web_control = true;
        state.host = { ...hostFor(state, true), desktop: false };
        break;
      case "many-obstacles":
        node.offers = [{ ...node.offers![0]!, model: "0".repeat(64), name: "qwen2.5-7b" }];
        this.#paused = true;
        this.#until = now + 3_600_000;
        this.#require(smallGpu);
        node.connection = {
          state: "disconnected",
          reason: { why: "too_slow" },
          retry_at_ms: now + 12_000,
        };
        break;
      case "downloads":
        state.downloads = [
          running("qwen2.5-7b-instruct-q4_1", "Qwen2.5 7B Instruct", 1.2e9, 4.87e9),
          {
            ...running("mistral-nemo-12b-instruct-q4_1", "Mistral Nemo 12B Instruct", 2e9, 7.79e9),
            bytes_per_second: null,
            seconds_left: null,
            state: { state: "paused" },
          },
          {
            ...running("llama-3.2-1b-instruct-q4_1", "Llama 3.2 1B Instruct", 0.2e9, 0.83e9),
            bytes_per_second: null,
            seconds_left: null,
            state: {
              state: "stalled",
              message: "Connection reset by peer",
              retry_at_ms: now + 9e3,
            },
          },
        ];
        break;
      case "metered":
        node.surroundings.network = "metered";
        state.downloads = [
          running("qwen2.5-7b-instruct-q4_1", "Qwen2.5 7B Instruct", 1.2e9, 4.87e9),
          running("llama-3.2-1b-instruct-q4_1", "Llama 3.2 1B Instruct", 0, 0.83e9),
        ].map((download) => ({
          ...download,
          bytes_per_second: null,
          seconds_left: null,
          state: { state: "metered", message: "Waits: this connection is metered" },
        }));
        break;
      case "model-broken":
        node.models[0]!.engine = {
          state: "broken",
          fault: FAULT,
        };
        break;
      case "not-served":
        node.models[0]!.served = false;
        node.offers = [{ ...node.offers![0]!, model: "0".repeat(64), name: "qwen2.5-7b" }];
        break;
      case "offline":
        node.connection = {
          state: "disconnected",
          reason: { why: "too_slow" },
          retry_at_ms: now + 12_000,
        };
        break;
      case "identity-in-use":
        node.connection = {
          state: "turned_away",
          why: "identity_in_use",
          retry_at_ms: now + 15_000,
        };
        break;
      case "outdated":
        node.connection = {
          state: "refused",
          message: "The balancer speaks protocol version 3, this program speaks 2",
        };
        break;
      case "keychain-locked":
        state.node = null;
        break;
      case "waiting":
      case "newcomer":
      case "quiet":
      case "small-points":
      case "restarting":
      case "storage-fault":
      case "unauthorised":
        break;
    }
  }

  #step(now: number): void {
    this.#steps += 1;
    const { node } = this.#state;
    if (this.#until !== null && now >= this.#until) {
      this.#paused = false;
      this.#until = null;
    }
    if (this.#closes !== null && now >= this.#closes && node !== null) {
      node.surroundings.games = { names: [] };
      node.surroundings.full_screen = { names: [] };
      this.#closes = null;
    }
    if (node !== null) this.#work(now);
    this.#moveDownloads();
    this.#moveBenchmark();
    this.#sum();
    if (this.#steps % 2 === 0) {
      const sample = reading(now, (node?.work.length ?? 0) > 0, this.#roll);
      this.#samples = [...this.#samples.slice(-599), sample];
      this.#emit({ event: "gpu", sample });
    }
    if (this.#moves()) this.#emitState();
  }

  #work(now: number): void {
    const node = this.#state.node!;
    for (const item of node.work.filter(({ kind }) => kind === "job")) {
      // Reading the prompt takes a moment.
      if (now - item.started_ms < 1200 && item.output_tokens === 0) continue;
      const tokens = (SPEED + Math.sin(now / 4000) * 3 + this.#roll() * 3) * (STEP_MS / 1000);
      item.output_tokens = Math.min(item.max_tokens, item.output_tokens + Math.round(tokens));
      item.tokens_per_second = tokens / (STEP_MS / 1000);
    }
    const done = node.work.filter((item) => item.output_tokens >= item.max_tokens);
    for (const item of done) {
      this.#jobs = [
        {
          ...finishedJob(item.id, item.started_ms, now, item.input_tokens, item.output_tokens),
          device: item.device,
        },
        ...this.#jobs,
      ];
    }
    node.work = node.work.filter((item) => !done.includes(item));
    if (this.#finishing && node.work.length === 0) this.#finishing = false;
    for (const job of this.#jobs.slice(0, 5)) {
      if (job.verdict !== "pending" || now - (job.finished_ms ?? now) <= 20_000) continue;
      const made = judged(job, this.#roll() < 0.6 ? "verified" : "sampled_out");
      this.#jobs = this.#jobs.map((other) => (other === job ? made : other));
    }
    this.#countToday();
    const wanted = ["two-jobs", "two-gpus"].includes(this.#scenario)
      ? 2
      : ["working", "account", "account-lab", "gaps", "gpus", "many-jobs", "lost"].includes(
            this.#scenario,
          )
        ? 1
        : 0;
    if (!this.#paused && !this.#ownUse && node.work.length < wanted && this.#steps % 4 === 0) {
      this.#beginJob(
        now,
        Math.round(40 + this.#roll() * 900),
        Math.round(120 + this.#roll() * 500),
        0,
      );
    }
  }

  #beginJob(at: number, input: number, most: number, done: number): void {
    this.#state.node!.work.push({
      kind: "job",
      id: Math.floor(this.#roll() * 2 ** 48).toString(16),
      model: "Llama 3.2 3B Instruct",
      device: this.#state.node!.devices[this.#state.node!.work.length]?.id ?? "0000:01:00.0",
      input_tokens: input,
      output_tokens: done,
      max_tokens: most,
      tokens_per_second: done === 0 ? null : SPEED,
      started_ms: at,
    });
  }

  #moveDownloads(): void {
    for (const download of this.#state.downloads) {
      if (download.state.state === "running") {
        const speed = 9_800_000 + this.#roll() * 2_000_000;
        const total = download.total_bytes ?? 0;
        download.done_bytes = Math.min(total, download.done_bytes + speed * (STEP_MS / 1000));
        download.bytes_per_second = speed;
        download.seconds_left = Math.round((total - download.done_bytes) / speed);
        if (download.done_bytes >= total) {
          download.state = { state: "verifying", done_bytes: 0 };
          download.bytes_per_second = null;
          download.seconds_left = null;
        }
      } else if (download.state.state === "verifying") {
        download.state.done_bytes += 600_000_000 * (STEP_MS / 1000);
        if (download.state.done_bytes < (download.total_bytes ?? 0)) continue;
        this.#state.downloads = this.#state.downloads.filter((other) => other !== download);
        this.#import(`${download.id}.gguf`, download.total_bytes ?? 0, download);
      }
    }
    this.#state.disk.partial_bytes = this.#state.downloads.reduce(
      (sum, download) => sum + download.done_bytes,
      0,
    );
  }

  #moveBenchmark(): void {
    const { benchmark } = this.#state;
    if (benchmark === null) return;
    const { progress } = benchmark;
    if (progress.progress === "loading") {
      progress.done_bytes += 0.5e9;
      if (progress.done_bytes >= progress.total_bytes) {
        benchmark.progress = { progress: "measuring", percent: 0 };
      }
    } else if (progress.progress === "measuring" && this.#scenario === "first-faults") {
      this.#ownUse = false;
      benchmark.progress = { progress: "failed", fault: FAULT };
    } else if (progress.progress === "measuring") {
      progress.percent = Math.min(100, progress.percent + 5);
      if (progress.percent < 100) return;
      this.#ownUse = false;
      benchmark.progress = {
        progress: "done",
        device: "NVIDIA GeForce RTX 4070",
        decode_tokens_per_second: 44.8,
        prefill_tokens_per_second: 1930,
        first_token_ms: 212,
        answer: ANSWER,
      };
    }
  }

  #chat(id: string): void {
    const words = ANSWER.split(/(?<= )/);
    const fails = this.#scenario === "chat-fails";
    let at = -3;
    const timer = setInterval(() => {
      at += 1;
      if (at < 0) {
        this.#emit({
          event: "chat",
          id,
          update: { chat: "loading", done_bytes: (at + 3) * 0.7e9, total_bytes: 2.09e9 },
        });
      } else if (fails && at > 12) {
        clearInterval(timer);
        this.#chats.delete(id);
        this.#emit({ event: "chat", id, update: { chat: "failed", fault: FAULT } });
      } else if (at < words.length) {
        this.#emit({ event: "chat", id, update: { chat: "text", text: words[at]! } });
      } else {
        this.#endChat(id, false, words.length);
      }
    }, 60);
    this.#chats.set(id, timer);
  }

  #endChat(id: string, cutOff: boolean, tokens: number): void {
    if (!this.#chats.has(id)) return;
    clearInterval(this.#chats.get(id));
    this.#chats.delete(id);
    this.#emit({
      event: "chat",
      id,
      update: {
        chat: "done",
        tokens,
        tokens_per_second: SPEED,
        first_token_ms: 230,
        cut_off: cutOff,
      },
    });
  }

  #import(name: string, bytes: number, from?: Download): AppState {
    return this.#change((state) => {
      state.imports = [];
      state.installed.push({
        path: `${MODELS_FOLDER}/${name}`,
        name: from?.name ?? name.replace(/\.gguf$/, ""),
        architecture: "llama",
        quantisation: "Q4_1",
        bytes,
        context_tokens: 32_768,
        licence: "Apache-2.0",
        id: null,
        catalogue_id: from?.id ?? null,
        added_ms: Date.now(),
        fit: { fit: "fits", spare_bytes: 3e9 },
        in_use: false,
        price: null,
        fault: null,
      });
      state.disk.models_bytes += bytes;
    });
  }

  #download(id: string, change: Partial<Download>): void {
    const download = this.#state.downloads.find((download) => download.id === id);
    if (download === undefined) {
      throw refused({ why: "library", cause: "no_download", detail: "There is no such download" });
    }
    Object.assign(download, change, { bytes_per_second: null });
  }

  #change(act: (state: AppState) => unknown): AppState {
    act(this.#state);
    this.#sum();
    this.#emitState();
    return this.#state;
  }

  #emitState(): void {
    this.#emit({ event: "state", state: structuredClone(this.#state) });
  }

  #emit(event: AppEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  /** Whether there is news every step. */
  #moves(): boolean {
    const { node, downloads, benchmark } = this.#state;
    return (
      (node?.work.length ?? 0) > 0 ||
      downloads.length > 0 ||
      benchmark !== null ||
      this.#steps % 10 === 0
    );
  }

  #busyThen(secondsAgo: number): boolean {
    const busy = ["working", "two-jobs", "gaps", "gpus", "many-jobs", "lost", "finishing"];
    if (busy.includes(this.#scenario)) {
      return Math.sin(secondsAgo / 37) > -0.55 || secondsAgo < 10;
    }
    return this.#scenario === "waiting" && secondsAgo > 60 && Math.sin(secondsAgo / 37) > 0.3;
  }

  #require(row: Requirement): void {
    const node = this.#state.node!;
    node.requirements = node.requirements.map((other) => (other.id === row.id ? row : other));
    node.models = node.models.map((model) => ({ ...model, engine: { state: "off" } }));
  }

  /** Sums up what the state says, as the program does. */
  #sum(): void {
    const [kind, summary, obstacles] = this.#describe();
    const sentence = summary.summary.replaceAll("_", " ");
    this.#state.preset =
      PRESETS.find((preset) => isPreset(this.#state.settings.rules, preset)) ?? null;
    this.#state.state = { kind, sentence, remedy: null, summary };
    this.#state.obstacles = obstacles;
    const { node } = this.#state;
    if (node === null) return;
    node.state = this.#state.state;
    node.decision =
      summary.summary === "paused"
        ? {
            mode: summary.finishing ? "drain" : "stop_now",
            reason: { reason: "paused", until_ms: summary.until_ms, finishing: summary.finishing },
            held: this.#held(),
          }
        : { mode: "run", reason: null, held: this.#held() };
    node.devices = this.#devices(node);
  }

  /** What computes, as the program tells of each. */
  #devices(node: NodeSnapshot): DeviceStatus[] {
    const { adapters, settings } = this.#state;
    const chosen = adapters
      .filter(({ standing }) => standing.standing === "chosen")
      .map(({ id, name }) => ({ id, name }));
    const cpu = chosen.length === 0 || settings.devices.some(({ device }) => device === "cpu");
    if (cpu) chosen.push({ id: "cpu", name: node.hardware?.cpu ?? "CPU" });
    return chosen.map(({ id, name }) => {
      const work = node.work.filter(({ device }) => device === id);
      const rates = work.flatMap(({ tokens_per_second: rate }) => rate ?? []);
      const paused = this.#pausedDevices.has(id);
      const own: Reason = { reason: "paused", until_ms: null, finishing: false };
      return {
        id,
        name,
        missing: false,
        paused,
        mode: paused ? "release_gpu" : node.decision.mode,
        reason: node.decision.reason ?? (paused ? own : null),
        held: node.decision.held.filter(({ rule }) => rule.startsWith("gpu_")),
        seen: this.#gpus.get(id) ?? null,
        models: node.models.map(({ name, engine }) => ({ name, engine })),
        jobs: work.length,
        audits: 0,
        tokens_per_second: rates.length === 0 ? null : rates.reduce((sum, rate) => sum + rate, 0),
      };
    });
  }

  #held(): Held[] {
    const { node, settings } = this.#state;
    if (node === null || node.anyway_until_ms !== null) return [];
    const { rules, vram_reserve_bytes: reserve } = settings;
    const gpu = this.#gpus.get("0000:01:00.0") ?? null;
    const held = heldBy(rules, node.surroundings, gpu, reserve, Date.now());
    return held.map((one) =>
      this.#closes === null ? one : { ...one, ended_ms: this.#closes - 30_000 },
    );
  }

  /** With what it does now as the last one. */
  #stretchesNow(from: number, to: number): Stretch[] {
    const now = Date.now();
    const { kind, summary } = this.#state.state;
    const last = this.#stretches.at(-1);
    const open =
      last === undefined ? [] : [{ from_ms: last.to_ms, to_ms: now, kind, summary } as const];
    return [...this.#stretches, ...open].filter(
      (stretch) => stretch.to_ms >= from && stretch.from_ms < to,
    );
  }

  #describe(): [StateKind, Summary, Obstacle[]] {
    const { node, setup, settings, installed } = this.#state;
    const paused: Obstacle[] = this.#paused ? [{ obstacle: "paused", until_ms: this.#until }] : [];
    const needs = (
      summary: Summary,
      ...obstacles: Obstacle[]
    ): [StateKind, Summary, Obstacle[]] => ["needs_you", summary, [...obstacles, ...paused]];
    if (node === null) {
      const fault: StartFault = { fault: "keychain_locked" };
      return needs({ summary: "cannot_start", fault }, { obstacle: "cannot_start", fault });
    }
    if (this.#scenario === "many-obstacles" && this.#paused) {
      const requirement = node.requirements.find(({ mark }) => mark === "fail")!;
      return needs(
        { summary: "requirement_failed", requirement, finishing: false },
        { obstacle: "requirement", requirement },
        { obstacle: "model_not_served", model: node.models[0]!.name },
        { obstacle: "offline", reason: { why: "too_slow" } },
      );
    }
    if (node.connection.state === "refused") {
      const { message } = node.connection;
      return needs({ summary: "outdated", message }, { obstacle: "outdated", message });
    }
    if (!setup.agreed) return needs({ summary: "not_agreed" }, { obstacle: "not_agreed" });
    if (settings.balancer === null) {
      return needs({ summary: "no_balancer" }, { obstacle: "no_balancer" });
    }
    if (this.#ownUse) return ["paused", { summary: "own_use" }, [{ obstacle: "own_use" }]];
    if (this.#paused) {
      const finishing = this.#finishing;
      return ["paused", { summary: "paused", until_ms: this.#until, finishing }, paused];
    }
    const [held] = this.#held();
    if (held !== undefined) {
      const { why } = held;
      const goes_on_ms = this.#closes;
      return [
        "paused",
        { summary: "rule", why, goes_on_ms },
        [{ obstacle: "rule", why, goes_on_ms }],
      ];
    }
    if (this.#scenario === "storage-fault") {
      const message = "database disk image is malformed";
      return needs({ summary: "storage_fault", message }, { obstacle: "storage_fault", message });
    }
    if (this.#scenario === "disk-full") {
      const sizes = { free_bytes: 180_000_000, resume_above_bytes: 1_000_000_000 };
      return needs({ summary: "low_disk", ...sizes }, { obstacle: "low_disk", ...sizes });
    }
    const failed = node.requirements.find(({ mark }) => mark === "fail");
    if (failed !== undefined) {
      return needs(
        { summary: "requirement_failed", requirement: failed, finishing: false },
        { obstacle: "requirement", requirement: failed },
      );
    }
    if (!installed.some((model) => model.in_use)) {
      return needs({ summary: "no_model" }, { obstacle: "no_model" });
    }
    const engine = node.models[0]?.engine;
    const model = node.models[0]?.name ?? "";
    if (engine?.state === "broken") {
      const { fault } = engine;
      return needs({ summary: "models_broken", fault }, { obstacle: "model_broken", model, fault });
    }
    if (node.connection.state === "disconnected") {
      const { retry_at_ms, reason } = node.connection;
      return [
        "waiting",
        { summary: "unreachable", balancer: "balancer.example.org", retry_at_ms },
        [{ obstacle: "offline", reason }],
      ];
    }
    if (node.connection.state === "turned_away") {
      const { why } = node.connection;
      return needs({ summary: "turned_away", why }, { obstacle: "turned_away", why });
    }
    if (node.work.length > 0) return ["working", working(this.#state), []];
    if (engine?.state === "loading") {
      engine.done_bytes = Math.min(engine.total_bytes, engine.done_bytes + 0.01e9);
      const percent = Math.floor((engine.done_bytes / engine.total_bytes) * 100);
      const obstacle: Obstacle = { obstacle: "model_loading", model };
      return ["waiting", { summary: "loading", model, percent }, [obstacle]];
    }
    if (this.#scenario === "restarting") {
      const fault: ModelFault = { cause: "device_lost", message: "The GPU's driver was reset" };
      return ["waiting", { summary: "restarting", fault, retry_in_ms: 4000 }, []];
    }
    if (this.#scenario === "reading") return ["waiting", { summary: "reading_hardware" }, []];
    if (node.models[0]?.served === false) {
      return needs(
        { summary: "not_served", models: [model] },
        { obstacle: "model_not_served", model },
      );
    }
    return ["waiting", { summary: "waiting_for_jobs" }, [{ obstacle: "no_demand" }]];
  }

  #countToday(): void {
    if (this.#state.node !== null && this.#lastSummed !== this.#jobs) {
      this.#lastSummed = this.#jobs;
      this.#state.node.points = this.#points();
    }
    const midnight = new Date().setHours(0, 0, 0, 0);
    const last = this.#jobs.findIndex((job) => job.started_ms < midnight);
    const today = last === -1 ? this.#jobs : this.#jobs.slice(0, last);
    const count = (verdict: JobRow["verdict"]) =>
      today.filter((job) => job.verdict === verdict).length;
    this.#state.today = {
      micro_points: today.reduce((sum, job) => sum + job.points, 0),
      jobs: today.length,
      verified: count("verified"),
      pending: count("pending"),
      failed: count("failed"),
      devices: this.#state.node === null ? [] : devicesOf(today),
    };
  }

  /** In order; remembered, for a table asks for the same thing a part at a time. */
  #found(query: JobsQuery): JobRow[] {
    const key = JSON.stringify({ ...query, offset: 0, limit: 0 });
    if (this.#lastFound?.key !== key || this.#lastFound.of !== this.#jobs) {
      this.#lastFound = { key, of: this.#jobs, jobs: this.#find(query) };
    }
    return this.#lastFound.jobs;
  }

  #find(query: JobsQuery): JobRow[] {
    const search = query.search.trim().toLowerCase();
    const length = (job: JobRow) => (job.finished_ms ?? job.started_ms) - job.started_ms;
    const by: Record<JobsQuery["sort"], (job: JobRow) => number | string> = {
      started: (job) => job.started_ms,
      model: (job) => job.model_name,
      input_tokens: (job) => job.input_tokens,
      output_tokens: (job) => job.output_tokens,
      tokens_per_second: (job) => job.tokens_per_second ?? -1,
      duration: length,
      verdict: (job) => job.verdict,
      points: (job) => job.points,
    };
    const key = by[query.sort];
    return this.#jobs
      .filter(
        (job) =>
          (search === "" ||
            job.model_name.toLowerCase().includes(search) ||
            job.id.includes(search)) &&
          (query.verdict === null || job.verdict === query.verdict) &&
          (query.kind === null || job.kind === query.kind) &&
          (query.since_ms === null || job.started_ms >= query.since_ms) &&
          (query.until_ms === null || job.started_ms < query.until_ms),
      )
      .sort((a, b) => {
        const [left, right] = [key(a), key(b)];
        return (left < right ? -1 : left > right ? 1 : 0) * (query.ascending ? 1 : -1);
      });
  }

  #page(query: JobsQuery): JobsPage {
    const found = this.#found(query);
    const sum = (figure: (job: JobRow) => number) =>
      found.reduce((total, job) => total + figure(job), 0);
    return {
      jobs: found.slice(query.offset, query.offset + query.limit),
      count: found.length,
      total_micro_points: sum((job) => job.points),
      total_input_tokens: sum((job) => job.input_tokens),
      total_output_tokens: sum((job) => job.output_tokens),
    };
  }

  #earnings(period: Period): Earnings {
    const none = this.#jobs.length === 0;
    const first = this.#jobs.at(-1)?.started_ms ?? Date.now();
    const buckets = starts(period, first, new Date()).map((start_ms) => ({
      start_ms,
      points: { confirmed: 0, pending: 0, forfeited: 0 },
      jobs: 0,
      output_tokens: 0,
      energy: null as Energy | null,
    }));
    const { electricity } = this.#state.settings;
    const working = new Map<number, number>();
    // Both from the newest on.
    let at = buckets.length - 1;
    for (const job of this.#jobs) {
      while (at > 0 && job.started_ms < buckets[at]!.start_ms) at -= 1;
      const bucket = buckets[at]!;
      addTo(bucket.points, job);
      if (job.kind === "job") bucket.jobs += 1;
      bucket.output_tokens += job.output_tokens;
      working.set(bucket.start_ms, (working.get(bucket.start_ms) ?? 0) + tookMs(job));
    }
    if (this.#unmeasured() === null) {
      for (const bucket of buckets) {
        const ms = working.get(bucket.start_ms);
        if (ms !== undefined) bucket.energy = energyOf(ms, electricity);
      }
    }
    return {
      total: this.#points(),
      buckets: none ? [] : buckets,
      unlisted: this.#jobs.length <= 50 ? { confirmed: 0, pending: 0, forfeited: 0 } : UNLISTED,
      estimate:
        none || this.#isQuiet() ? null : { micro_points_per_day: 412_000_000, basis_seconds: 900 },
      consumption: this.#consumption(electricity),
    };
  }

  #unmeasured(): Consumption["unmeasured"] {
    const chosen = this.#state.adapters.filter(({ standing }) => standing.standing === "chosen");
    if (chosen.length === 0) return this.#state.node?.hardware ? { why: "processor" } : null;
    if (this.#scenario !== "no-power") return null;
    return { why: "driver", adapters: chosen.map(({ name }) => name) };
  }

  #consumption(tariff: Electricity): Consumption {
    const unmeasured = this.#unmeasured();
    const span = (days: number): EnergySpan | null => {
      const from = new Date();
      from.setHours(0, 0, 0, 0);
      from.setDate(from.getDate() - days + 1);
      const jobs = this.#jobs.filter(({ started_ms }) => started_ms >= from.getTime());
      if (unmeasured !== null || jobs.length === 0) return null;
      return energySpan(jobs, this.#scenario === "newcomer" ? 1 : days, tariff);
    };
    return { unmeasured, tariff, today: span(1), week: span(7), month: span(30) };
  }

  /** A network with less work than five minutes in fifteen. */
  #isQuiet(): boolean {
    return ["quiet", "newcomer", "small-points"].includes(this.#scenario);
  }

  #points(): PointSums {
    const sums = { confirmed: 0, pending: 0, forfeited: 0 };
    for (const job of this.#jobs) addTo(sums, job);
    if (this.#jobs.length > 50) sums.confirmed += UNLISTED.confirmed;
    return sums;
  }
}

const WORK_WATTS = 142;
const REST_WATTS = 18;

function tookMs(job: JobRow): number {
  return Math.max(0, (job.finished_ms ?? Date.now()) - job.started_ms);
}

function energyOf(workingMs: number, tariff: Electricity): Energy {
  const kilowatt_hours = ((WORK_WATTS - REST_WATTS) * workingMs) / 3.6e9;
  const price = tariff.price_per_kwh;
  return {
    kilowatt_hours,
    cost_nano: price === null ? null : Math.round(kilowatt_hours * Number(price) * 1e9),
  };
}

function energySpan(jobs: JobRow[], days: number, tariff: Electricity): EnergySpan {
  const workingMs = jobs.reduce((sum, job) => sum + tookMs(job), 0);
  const energy = energyOf(workingMs, tariff);
  const tokens = jobs.reduce((sum, job) => sum + job.output_tokens, 0);
  const points = jobs.reduce((sum, job) => sum + Math.max(0, job.points), 0) / 1e6;
  const cost = energy.cost_nano;
  const each = (of: number) => (cost === null || of === 0 ? null : Math.round(cost / of));
  return {
    ...energy,
    days,
    working_seconds: Math.floor(workingMs / 1000),
    working_watts: WORK_WATTS,
    rest_watts: REST_WATTS,
    cost_nano_per_day: each(days),
    cost_nano_per_1000_tokens: each(tokens / 1000),
    cost_nano_per_100_points: each(points / 100),
  };
}

/** Of an earlier installation. */
const UNLISTED: PointSums = { confirmed: 1_250_000_000, pending: 0, forfeited: 0 };

function addTo(sums: PointSums, job: JobRow): void {
  if (job.verdict === "failed") sums.forfeited += job.output_tokens * 10_000;
  else if (job.verdict === "pending") sums.pending += job.points;
  else sums.confirmed += job.points;
}

function working(state: AppState): Summary {
  const work = state.node!.work;
  const jobs = work.filter(({ kind }) => kind === "job");
  const speeds = jobs.map((job) => job.tokens_per_second).filter((speed) => speed !== null);
  return {
    summary: "working",
    jobs: jobs.length,
    audits: work.length - jobs.length,
    tokens_per_second: speeds.length === 0 ? null : speeds.reduce((sum, speed) => sum + speed, 0),
  };
}

const PRESETS: Preset[] = ["not_playing", "away", "nights", "always"];

function withPreset(rules: Rules, preset: Preset): Rules {
  const playing = preset !== "always";
  return {
    ...rules,
    games: playing,
    full_screen: playing,
    away: { ...rules.away, on: preset === "away" },
    schedule: { ...rules.schedule, on: preset === "nights" },
  };
}

function isPreset(rules: Rules, preset: Preset): boolean {
  return JSON.stringify(withPreset(rules, preset)) === JSON.stringify(rules);
}

/** A part of a setting is named by its path. */
function changed(settings: Settings, change: object): Settings {
  const made = structuredClone(settings);
  for (const [path, value] of Object.entries(change)) {
    const parts = path.split(".");
    const name = parts.pop()!;
    const place = parts.reduce<object>((at, part) => at[part as never], made);
    Object.assign(place, { [name]: value });
  }
  return made;
}

/** The first moments of all days, weeks or months from the first job's to the current one. */
function starts(period: Period, first: number, now: Date): number[] {
  const date = new Date(now);
  date.setHours(0, 0, 0, 0);
  if (period === "week") date.setDate(date.getDate() - ((date.getDay() + 6) % 7));
  if (period === "month") date.setDate(1);
  const found = [date.getTime()];
  while (date.getTime() > first) {
    if (period === "month") date.setMonth(date.getMonth() - 1);
    else date.setDate(date.getDate() - (period === "week" ? 7 : 1));
    found.unshift(date.getTime());
  }
  return found;
}

function tomorrowAtEight(): number {
  const date = new Date();
  date.setDate(date.getDate() + (date.getHours() < 8 ? 0 : 1));
  return date.setHours(8, 0, 0, 0);
}

function failed(code: DownloadFault, message: string): Download {
  return {
    ...running("qwen2.5-7b-instruct-q4_1", "Qwen2.5 7B Instruct", 1.8e9, 4.87e9),
    bytes_per_second: null,
    seconds_left: null,
    state: { state: "failed", code, message },
  };
}

function running(id: string, name: string, done: number, total: number): Download {
  return {
    id,
    name,
    url: `https://example.org/${id}.gguf`,
    done_bytes: done,
    total_bytes: total,
    bytes_per_second: 10_400_000,
    seconds_left: Math.round((total - done) / 10_400_000),
    state: { state: "running" },
  };
}

/** With the address for a browser, while it may look in. */
function hostFor(state: AppState, webControl: boolean): AppState["host"] {
  const token = "8f1d40c2a97be36b5c0e7d91f2a864307b9e15cd62f08a4d";
  const web_address = webControl ? `http://127.0.0.1:48620/#token=${token}` : null;
  return Object.assign({ ...state.host }, { web_address });
}

export function refused(refusal: CallError["refusal"], message = ""): CallError {
  return { refusal, message, remedy: null };
}

/** What each device did of these. */
function devicesOf(jobs: JobRow[]): DeviceToday[] {
  const ids = [...new Set(jobs.flatMap(({ device }) => device ?? []))];
  return ids.map((id) => {
    const own = jobs.filter(({ device }) => device === id);
    const micro_points = own.reduce((sum, job) => sum + job.points, 0);
    return { device: id, micro_points, jobs: own.filter(({ kind }) => kind === "job").length };
  });
}
