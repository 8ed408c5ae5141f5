// @vitest-environment node

import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { locale } from "../../i18n/index.svelte";
import { pastStretches } from "../../platform/fake-data";
import type { Stretch } from "../../platform/types";
import { dayBefore, hoursOf, parts, segments, sums, type Segment } from "./strip";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

beforeAll(() => void vi.stubEnv("TZ", "Europe/Berlin"));
afterAll(() => void vi.unstubAllEnvs());
beforeEach(() => locale.choose("en", []));

const noon = () => new Date(2026, 10, 30, 12).getTime();

function stretch(from_ms: number, to_ms: number, kind: Stretch["kind"] = "waiting"): Stretch {
  const summary: Stretch["summary"] =
    kind === "working"
      ? { summary: "working", jobs: 1, audits: 0, tokens_per_second: null }
      : kind === "paused"
        ? { summary: "rule", why: { why: "game", name: "Hades" }, goes_on_ms: null }
        : { summary: "waiting_for_jobs" };
  return { from_ms, to_ms, kind, summary };
}

const short = (found: Segment[], start: number) =>
  found.map(({ from, to, kind }) => [(from - start) / HOUR, (to - start) / HOUR, kind]);

describe("a day", () => {
  it("goes from midnight to midnight by the clock on the wall", () => {
    const day = dayBefore(noon(), 0);
    expect(new Date(day.from).getHours()).toBe(0);
    expect(day.to - day.from).toBe(24 * HOUR);
    expect(dayBefore(noon(), 1).to).toBe(day.from);
  });

  it("has 23 and 25 hours when the clock is changed", () => {
    const spring = dayBefore(new Date(2026, 2, 29, 12).getTime(), 0);
    expect(spring.to - spring.from).toBe(23 * HOUR);
    const marks = hoursOf(spring, 3);
    expect(marks.map((mark) => new Date(mark).getHours())).toEqual([0, 3, 6, 9, 12, 15, 18, 21]);
    expect(marks[1]! - marks[0]!).toBe(2 * HOUR);
    const autumn = dayBefore(new Date(2026, 9, 25, 12).getTime(), 0);
    expect(autumn.to - autumn.from).toBe(25 * HOUR);
    // Counted from the day after, too.
    expect(dayBefore(new Date(2026, 9, 26, 12).getTime(), 1)).toEqual(autumn);
    expect(dayBefore(noon(), 36)).toEqual(autumn);
  });
});

describe("its segments", () => {
  it("are cut at midnight and at the present, and what is between them is a gap", () => {
    const now = noon();
    const day = dayBefore(now, 0);
    const { from } = day;
    const found = segments(
      [
        stretch(from - 2 * HOUR, from + HOUR),
        stretch(from + HOUR, from + 2 * HOUR, "working"),
        stretch(from + 5 * HOUR, from + 20 * HOUR, "paused"),
      ],
      day,
      now,
    );
    expect(short(found, from)).toEqual([
      [0, 1, "waiting"],
      [1, 2, "working"],
      [2, 5, null],
      [5, 12, "paused"],
    ]);
    expect(found.map(({ sentence }) => sentence)).toEqual([
      "Waiting for jobs",
      "Working on jobs",
      "Not running",
      "Paused: Hades was running",
    ]);
    expect([...sums(found)]).toEqual([
      ["waiting", HOUR],
      ["working", HOUR],
      [null, 3 * HOUR],
      ["paused", 7 * HOUR],
    ]);
  });

  it("run on where the same goes on, and close the seam of a minute", () => {
    const day = dayBefore(noon(), 1);
    const { from, to } = day;
    const found = segments(
      [
        stretch(from, from + HOUR),
        stretch(from + HOUR + 20_000, from + 2 * HOUR),
        // Written by a clock that was set back.
        stretch(from + HOUR, from + 3 * HOUR, "working"),
      ],
      day,
      noon(),
    );
    expect(short(found, from)).toEqual([
      [0, 2, "waiting"],
      [2, 3, "working"],
      [3, 24, null],
    ]);
    expect(found.at(-1)!.to).toBe(to);
  });

  it("are one gap where nothing ran, and say of an unknown reason only its kind", () => {
    const day = dayBefore(noon(), 3);
    expect(short(segments([], day, noon()), day.from)).toEqual([[0, 24, null]]);
    const unknown = { ...stretch(day.from, day.to, "needs_you"), summary: null };
    expect(segments([unknown], day, noon())[0]!.sentence).toBe("Needs you");
    // The first moments of a day are no gap.
    const today = dayBefore(noon(), 0);
    expect(segments([], today, today.from + 30_000)).toEqual([]);
  });

  it("cover a day of 25 hours", () => {
    const now = new Date(2026, 9, 27, 12).getTime();
    const day = dayBefore(now, 2);
    const found = segments([stretch(day.from, day.to)], day, now);
    expect(sums(found).get("waiting")).toBe(25 * HOUR);
  });
});

describe("its parts", () => {
  const day = () => dayBefore(noon(), 1);

  it("put what is thin together, the longest reason first, and leave the rest alone", () => {
    const { from } = day();
    const at = (minutes: number) => from + minutes * MINUTE;
    const found = parts(
      segments(
        [
          stretch(at(0), at(60)),
          stretch(at(60), at(63), "working"),
          stretch(at(63), at(64)),
          stretch(at(64), at(66), "working"),
          stretch(at(66), at(90), "paused"),
          stretch(at(90), at(91)),
        ],
        { from, to: at(91) },
        noon(),
      ),
    );
    const waiting = "Waiting for jobs";
    expect(
      found.map(({ kind, reasons }) => [kind, ...reasons.map(({ ms }) => ms / MINUTE)]),
    ).toEqual([
      ["waiting", 60],
      ["working", 5, 1],
      ["paused", 24],
      ["waiting", 1],
    ]);
    expect(found[1]!.reasons.map(({ sentence }) => sentence)).toEqual(["Working on jobs", waiting]);
  });

  it("are few on a busy day, and lose no minute of it", () => {
    const { from, to } = day();
    const busy: Stretch[] = [];
    for (let at = from; at < to; at += 2 * MINUTE) {
      busy.push(stretch(at, at + 90_000, "working"), stretch(at + 90_000, at + 2 * MINUTE));
    }
    const found = segments(busy, { from, to }, noon());
    expect(found.length).toBe(1440);
    const shown = parts(found);
    expect(shown.length).toBeLessThan(80);
    expect(shown[0]!.reasons.map(({ sentence }) => sentence)).toEqual([
      "Working on jobs",
      "Waiting for jobs",
    ]);
    const length = shown.reduce((sum, { from, to }) => sum + to - from, 0);
    expect(length).toBe(24 * HOUR);
    const told = shown.flatMap(({ reasons }) => reasons).reduce((sum, { ms }) => sum + ms, 0);
    expect(told).toBe(length);
  });

  it("cover each of the last thirty days without a hole", () => {
    const all = pastStretches(noon());
    for (let back = 1; back <= 30; back += 1) {
      const day = dayBefore(noon(), back);
      const shown = parts(segments(all, day, noon()));
      expect(shown[0]!.from).toBe(day.from);
      expect(shown.at(-1)!.to).toBe(day.to);
      shown.slice(1).forEach((part, index) => expect(part.from).toBe(shown[index]!.to));
    }
  });
});
