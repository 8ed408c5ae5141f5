import { describe, expect, it, vi } from "vitest";
import { firstState } from "../platform/fake-data";
import type { AppEvent, GpuSample, Platform } from "../platform/types";
import { lines, merged } from "./samples";
import { app } from "./state.svelte";

const sample = (at_ms: number, load: number | null = 50): GpuSample => ({
  at_ms,
  readings: [
    {
      adapter: "gpu",
      load_percent: load,
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
    },
  ],
});

describe("samples", () => {
  it("are kept in order, once each, for ten minutes", () => {
    const old = [sample(0), sample(599_000), sample(600_000)];
    const all = merged(old, [sample(601_000), sample(600_000)]);
    expect(all.map(({ at_ms }) => at_ms)).toEqual([599_000, 600_000, 601_000]);
  });

  it("leave a gap where nothing was read, and null where nothing was told", () => {
    const samples = [sample(0), sample(1000, null), sample(2000), sample(60_000)];
    const { times, values } = lines(samples, "gpu", { load: (now) => now.load_percent });
    expect(values.load).toEqual([50, null, 50, null, null, 50]);
    expect(times).toEqual([0, 1, 2, 2.001, 59.999, 60]);
    const other = lines(samples, "other", { load: (now) => now.load_percent });
    expect(other.values.load.every((value) => value === null)).toBe(true);
  });
});

describe("the store", () => {
  it("shows what comes, and what an answer says while nothing newer came", async () => {
    const { platform, send } = fakeOne();
    app.start(platform);
    expect(app.state).toBeNull();
    send({ event: "state", state: firstState(0) });
    expect(app.state?.state.kind).toBe("waiting");

    const answer = firstState(0);
    answer.today.jobs = 7;
    platform.call = vi.fn().mockResolvedValue(answer);
    await app.call("resume", null);
    expect(app.state?.today.jobs).toBe(7);

    const newer = firstState(0);
    newer.today.jobs = 8;
    platform.call = vi.fn().mockImplementation(async () => {
      send({ event: "state", state: newer });
      return answer;
    });
    await app.call("resume", null);
    expect(app.state?.today.jobs).toBe(8);
  });

  it("fills the readings from the history, before what came meanwhile", async () => {
    const { platform, send } = fakeOne();
    platform.call = vi.fn().mockResolvedValue({ samples: [sample(1000), sample(2000)] });
    app.start(platform);
    send({ event: "gpu", sample: sample(3000, 70) });
    await vi.waitFor(() => expect(app.samples.length).toBe(3));
    expect(app.reading("gpu")?.load_percent).toBe(70);
  });

  it("hands a chat's events to who asked", () => {
    const { platform, send } = fakeOne();
    app.start(platform);
    const heard = vi.fn();
    const stop = app.onChat("a", heard);
    send({ event: "chat", id: "a", update: { chat: "text", text: "hi" } });
    send({ event: "chat", id: "b", update: { chat: "text", text: "no" } });
    stop();
    send({ event: "chat", id: "a", update: { chat: "text", text: "late" } });
    expect(heard.mock.calls).toEqual([[{ chat: "text", text: "hi" }]]);
  });

  it("tells a lost stream from a refused key", async () => {
    const { platform, send, lose } = fakeOne();
    app.start(platform);
    send({ event: "state", state: firstState(0) });
    platform.call = vi
      .fn()
      .mockRejectedValue({ refusal: { why: "unreachable" }, message: "", remedy: null });
    lose(true);
    await vi.waitFor(() => expect(platform.call).toHaveBeenCalled());
    expect([app.lost, app.failure]).toEqual([true, null]);
    lose(false);
    expect(app.lost).toBe(false);

    platform.call = vi
      .fn()
      .mockRejectedValue({ refusal: { why: "unauthorised" }, message: "", remedy: null });
    lose(true);
    await vi.waitFor(() => expect(app.failure?.refusal.why).toBe("unauthorised"));
  });
});

function fakeOne() {
  let listen: (event: AppEvent) => void = () => {};
  let lost: (isLost: boolean) => void = () => {};
  const platform = {
    kind: "fake",
    call: vi.fn().mockResolvedValue({ samples: [] }),
    events: (listener: typeof listen, onLost: typeof lost) => {
      listen = listener;
      lost = onLost;
      return () => {};
    },
  } as unknown as Platform;
  return {
    platform,
    send: (event: AppEvent) => listen(event),
    lose: (isLost: boolean) => lost(isLost),
  };
}
