// @vitest-environment node

import { beforeEach, describe, expect, it } from "vitest";
import { locale } from "../i18n/index.svelte";
import {
  bytes,
  bytesPerSecond,
  duration,
  memorySize,
  percent,
  points,
  pointsWithUnit,
  relativeTime,
  timeOfDay,
  tokensPerSecond,
} from "./format";

const english = () => locale.choose("en", ["en-US"]);
const german = () => locale.choose("de", ["de-DE"]);
beforeEach(english);

describe("points", () => {
  it.each([
    [0, "0"],
    [4_200_000, "4.2"],
    [128_400_000, "128"],
    [1_284_000_000, "1,284"],
    [1_000, "0.001"],
    [60_000, "0.1"],
    [99_960_000, "100"],
    [-2_500_000, "-2.5"],
  ])("%d micro-points are %s", (micro, text) => expect(points(micro)).toBe(text));

  it("agree with their unit", () => {
    expect(pointsWithUnit(1_000_000)).toBe("1 point");
    expect(pointsWithUnit(1_500_000)).toBe("1.5 points");
    german();
    expect(pointsWithUnit(1_000_000)).toBe("1 Punkt");
    expect(pointsWithUnit(1_284_000_000)).toBe("1.284 Punkte");
  });
});

describe("sizes", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1_000, "1 kB"],
    [340_000_000, "340 MB"],
    [999_600_000, "1 GB"],
    [7_900_000_000, "7.9 GB"],
    [50_000_000_000, "50 GB"],
    [212_400_000_000, "212 GB"],
    [1_500_000_000_000, "1.5 TB"],
  ])("%d bytes are %s", (value, text) => expect(plain(bytes(value))).toBe(text));

  it("follow the language", () => {
    german();
    expect(plain(bytes(7_900_000_000))).toBe("7,9 GB");
    expect(plain(memorySize(12 * 2 ** 30))).toBe("12,0 GB");
    expect(plain(memorySize(807_000_000))).toBe("0,8 GB");
    expect(plain(bytesPerSecond(11_400_000))).toBe("11 MB/s");
    expect(tokensPerSecond(4.25)).toBe("4,3 Token/s");
    expect(plain(percent(63.4))).toBe("63 %");
  });
});

describe("times", () => {
  it.each([
    [9_800, "9.8 s"],
    [9_960, "10 s"],
    [59_600, "1 min"],
    [200_000, "3 min 20 s"],
    [7_500_000, "2 h 5 min"],
    [90_000_000, "1 d 1 h"],
  ])("%d ms are %s", (ms, text) => expect(plain(duration(ms))).toBe(text));

  it("are told from now", () => {
    const now = Date.UTC(2026, 10, 22, 12);
    expect(relativeTime(now - 4_000, now)).toBe("now");
    expect(relativeTime(now - 45_000, now)).toBe("40 sec ago");
    expect(relativeTime(now - 125_000, now)).toBe("2 min ago");
    expect(relativeTime(now - 3 * 86_400_000, now)).toBe("3 days ago");
    german();
    expect(relativeTime(now - 125_000, now)).toBe("vor 2 Min.");
    expect(relativeTime(now - 86_400_000, now)).toBe("gestern");
  });

  it("of day name the day only where it is another", () => {
    german();
    const now = new Date(2026, 10, 22, 12).getTime();
    expect(timeOfDay(new Date(2026, 10, 22, 18).getTime(), now)).toBe("18:00");
    expect(timeOfDay(new Date(2026, 10, 23, 8).getTime(), now)).toMatch(/^Mo.* 08:00$/);
  });
});

/** With spaces that break, as one types them. */
function plain(text: string): string {
  return text.replaceAll("\u00a0", " ");
}
