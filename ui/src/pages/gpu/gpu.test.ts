import { cleanup, render, screen } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { app } from "../../lib/state.svelte";
import { toasts } from "../../lib/toasts.svelte";
import { fakePlatform, refused, type Scenario } from "../../platform/fake";
import { firstState } from "../../platform/fake-data";
import type { DeviceStatus, GpuReading, ModelFault, Platform } from "../../platform/types";
import { adding, choosable, excluding, forgetting, ticking } from "./choice";
import { doing, markOf } from "./device";
import { ceiling, memory, reported } from "./figures";
import Gpu from "./Gpu.svelte";

const RTX = "0000:01:00.0";
const UHD = "0000:00:02.0";
let stop = () => {};
let platform: Platform;

beforeEach(() => {
  vi.spyOn(navigator, "languages", "get").mockReturnValue(["en-US"]);
  // jsdom has no canvas, and says so each time.
  vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockReturnValue(null);
});
afterEach(() => {
  cleanup();
  stop();
  for (const { id } of toasts.shown) toasts.dismiss(id);
});

async function open(scenario: Scenario) {
  platform = fakePlatform(scenario);
  stop = app.start(platform);
  await vi.waitFor(() => expect(app.state !== null && app.samples.length > 1).toBe(true));
  render(Gpu);
}

const text = () => document.body.textContent ?? "";
const ticks = () => [
  ...document.querySelectorAll<HTMLInputElement>("[role=group] input[type=checkbox]"),
];
const ticked = () =>
  ticks()
    .filter((tick) => tick.checked)
    .map(({ value }) => value);

const reading = (figures: Partial<GpuReading>): GpuReading => ({
  adapter: RTX,
  load_percent: null,
  load_others_percent: null,
  vram_ours_bytes: null,
  vram_others_bytes: null,
  vram_used_bytes: null,
  vram_total_bytes: null,
  temperature_celsius: null,
  temperature_limit_celsius: null,
  power_watts: null,
  power_limit_watts: null,
  core_megahertz: null,
  memory_megahertz: null,
  fan_percent: null,
  ...figures,
});

describe("the choice of a device", () => {
  const { settings } = firstState(0);

  it("lifts an exclusion by choosing, and a choice by excluding", () => {
    const excluded = excluding(settings, UHD, true);
    expect(excluded.excluded_adapters).toEqual([UHD]);
    const used = ticking(excluded, { device: "adapter", id: UHD }, true);
    expect([used.devices, used.excluded_adapters]).toEqual([[{ device: "adapter", id: UHD }], []]);
    expect(excluding(used, UHD, true).devices).toEqual([]);
    expect(excluding(used, RTX, true).devices).toEqual([{ device: "adapter", id: UHD }]);
    expect({ ...settings, ...excluding(excluded, UHD, false) }).toEqual(settings);
  });

  it("ticks devices beside each other, each once, and takes the best where none is left", () => {
    const cpu = { device: "cpu" } as const;
    const uhd = { device: "adapter", id: UHD } as const;
    const both = ticking(ticking(settings, uhd, true), cpu, true);
    expect(both.devices).toEqual([uhd, cpu]);
    expect(ticking(both, uhd, true).devices).toEqual([cpu, uhd]);
    expect(ticking(ticking(both, uhd, false), cpu, false).devices).toEqual([]);
    // Who adds one to what was chosen automatically keeps that.
    expect(adding(firstState(0), UHD).devices).toEqual([{ device: "adapter", id: RTX }, uhd]);
  });

  it("forgets a GPU that is gone, and offers it while it is chosen", () => {
    const state = structuredClone(firstState(0));
    state.adapters[1]!.standing = { standing: "missing" };
    expect(choosable(state).map(({ id }) => id)).toEqual([RTX]);
    const chosen = ticking(settings, { device: "adapter", id: UHD }, true);
    state.settings = { ...settings, ...chosen };
    expect(choosable(state).map(({ id }) => id)).toEqual([RTX, UHD]);
    expect({ ...settings, ...forgetting(state.settings, UHD) }).toEqual(settings);
  });
});

describe("what a device does", () => {
  const device: DeviceStatus = {
    id: RTX,
    name: "Card",
    missing: false,
    paused: false,
    mode: "run",
    reason: null,
    held: [],
    seen: null,
    models: [{ name: "tiny", engine: { state: "ready" } }],
    jobs: 0,
    audits: 0,
    tokens_per_second: null,
  };
  const off = [{ name: "tiny", engine: { state: "off" } }] as const;
  const fault = { cause: "other", message: "No" } as unknown as ModelFault;
  const broken = [{ name: "tiny", engine: { state: "broken", fault } }] as const;

  it.each([
    [{}, "waiting", "Waiting for jobs"],
    [{ jobs: 2 }, "working", "Working on 2 jobs"],
    [{ audits: 1 }, "working", "Checking an answer"],
    [{ models: [...off] }, "waiting", "Loading"],
    [{ models: [...broken] }, "needs_you", "Cannot load tiny"],
    [{ missing: true, models: [] }, "needs_you", "Not found"],
    [
      { paused: true, reason: { reason: "paused", until_ms: null, finishing: false } },
      "paused",
      "Paused by you",
    ],
    [{ reason: { reason: "own_use" } }, "paused", "Resting"],
  ] as [Partial<DeviceStatus>, string, string][])("%j", (change, mark, words) => {
    const now = { ...device, ...change };
    expect([markOf(now), doing(now, 0)]).toEqual([mark, words]);
  });
});

describe("figures", () => {
  it("split memory without a negative part", () => {
    expect(memory(null)).toBeNull();
    expect(memory(reading({ vram_ours_bytes: 1 }))).toBeNull();
    const used = { vram_used_bytes: 6, vram_total_bytes: 10 };
    expect(memory(reading(used))).toEqual({ ours: null, others: 6, free: 4, total: 10 });
    const racing = memory(reading({ ...used, vram_ours_bytes: 7, vram_total_bytes: 5 }));
    expect(racing).toEqual({ ours: 6, others: 0, free: 0, total: 5 });
  });

  it("count as reported once a driver has told them, though zero", () => {
    const samples = [
      { at_ms: 0, readings: [reading({ fan_percent: 0 })] },
      { at_ms: 1, readings: [reading({})] },
    ];
    expect([...reported(samples, RTX)]).toEqual(["fan"]);
    expect(reported(samples, UHD).size).toBe(0);
  });

  it("end their axis at the limit, or above what exceeds it", () => {
    expect(ceiling([60, null], 90, 10)).toBe(90);
    expect(ceiling([93], 90, 10)).toBe(100);
    expect(ceiling([142], null, 50)).toBe(150);
    expect(ceiling([], null, 50)).toBe(50);
  });
});

describe("the page", () => {
  it("says of each GPU how it stands, and what its driver does not report", async () => {
    await open("gpus");
    for (const words of ["Chosen", "Never used", "Cannot be used", "Not found"]) {
      expect(text()).toContain(words);
    }
    expect(text()).toContain("The driver nouveau does not compute on it. Install NVIDIA’s driver");
    expect(text()).toContain("Shares the machine’s memory (RAM).");
    const unreported = "Not reported by this driver: Temperature, Power, Memory clock, Fan.";
    await vi.waitFor(() => expect(text()).toContain(unreported));
    expect(text()).toContain("1.0\u00a0GB are kept for other programs.");
  });

  it("changes the devices at once and tells what became of the job", async () => {
    await open("working");
    expect(ticked()).toEqual(["auto"]);
    expect(text()).toContain("The job in progress goes back to the network");
    screen.getByText("Use this one too").closest("button")!.click();
    await vi.waitFor(() => expect(ticked()).toEqual([`adapter ${RTX}`, `adapter ${UHD}`]));
    expect(toasts.shown.at(-1)).toMatchObject({
      title: "NVIDIA GeForce RTX 4070 and Intel UHD Graphics 770 do the work now",
      text: "The job in progress went back to the network.",
    });
    ticks().at(-1)!.click();
    await vi.waitFor(() => expect(app.state!.settings.devices).toHaveLength(3));
    ticks()[0]!.click();
    await vi.waitFor(() => expect(app.state!.settings.devices).toEqual([]));
    // Something has to work: the last tick stays.
    ticks()[0]!.click();
    await vi.waitFor(() => expect(ticked()).toEqual(["auto"]));
  });

  it("pauses one of two devices, and the other goes on", async () => {
    await open("two-gpus");
    const pause = screen.getAllByText("Pause this one");
    expect(pause).toHaveLength(2);
    pause[1]!.closest("button")!.click();
    await vi.waitFor(() => expect(text()).toContain("Resume this one"));
    const paused = () => app.state!.node!.devices.map(({ paused }) => paused);
    expect(paused()).toEqual([false, true]);
    screen.getByText("Resume this one").closest("button")!.click();
    await vi.waitFor(() => expect(paused()).toEqual([false, false]));
  });

  it("puts the tick back when a change fails", async () => {
    await open("waiting");
    vi.spyOn(platform, "call").mockRejectedValue(
      refused({ why: "settings_not_kept", detail: "Disk full" }),
    );
    ticks().at(-1)!.click();
    await vi.waitFor(() =>
      expect(toasts.shown.at(-1)?.title).toBe("The settings could not be saved"),
    );
    expect(ticked()).toEqual(["auto"]);
  });

  it("speaks German", async () => {
    vi.spyOn(navigator, "languages", "get").mockReturnValue(["de-DE"]);
    await open("gpus");
    await vi.waitFor(() => expect(text()).toContain("Nicht verwendbar"));
  });
});
