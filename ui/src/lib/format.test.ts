// @vitest-environment node

import { beforeEach, describe, expect, it } from "vitest";
import { locale } from "../i18n/index.svelte";
import {
  bytes,
  absoluteTime,
  bytesPerSecond,
  clockTime,
  decimals,
  duration,
  energy,
  memorySize,
  money,
  percent,
  points,
  pointsIn,
  pointsWithUnit,
  relativeTime,
  timeOfDay,
  tokensPerSecond,
  watts,
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

describe("a column of points", () => {
  const shown = (column: number[]) => column.map((micro) => pointsIn(decimals(column), micro));

  it("has one number of decimals, by which the smallest still shows", () => {
    expect(shown([13_000_000, 0, 2_000_000])).toEqual(["13", "0", "2"]);
    expect(shown([526_400_000, 1_660_000, 0])).toEqual(["526.4", "1.7", "0.0"]);
    expect(shown([526_400_000, 8_000])).toEqual(["526.400", "0.008"]);
    expect(shown([])).toEqual([]);
  });

  it("adds up where one adds it in the head", () => {
    const column = [20_000, 20_000, 8_000];
    const digits = decimals(column, 48_000);
    expect([...column, 48_000].map((micro) => pointsIn(digits, micro))).toEqual([
      "0.020",
      "0.020",
      "0.008",
      "0.048",
    ]);
    // 0.3, 0.7, 1.7, 0.6 and 5.4 are 8.7, not 8.5.
    const jobs = [250_000, 661_000, 1_650_000, 560_000, 5_350_000];
    const by = decimals(jobs);
    const read = jobs.map((micro) => Number(pointsIn(by, micro)));
    const sum = jobs.reduce((sum, micro) => sum + micro, 0);
    expect(read.reduce((sum, one) => sum + one, 0)).toBeCloseTo(Number(pointsIn(by, sum)), by + 1);
  });

  it("of many rows needs no more than the smallest asks for", () => {
    expect(
      decimals(Array.from({ length: 30 }, (_, index) => 400_000_000 + index * 1_234_567)),
    ).toBe(1);
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
    expect(timeOfDay(new Date(2026, 10, 23, 8).getTime(), now)).toBe("morgen 08:00");
    expect(timeOfDay(new Date(2026, 10, 24, 8).getTime(), now)).toMatch(/^Di.* 08:00$/);
  });

  it("of day are written as the tray writes them, in every region", () => {
    const now = new Date(2026, 10, 22, 12).getTime();
    const evening = new Date(2026, 10, 22, 17, 38, 4).getTime();
    const midnight = new Date(2026, 10, 23, 0, 5, 0).getTime();
    expect(timeOfDay(evening, now)).toBe("17:38");
    expect(timeOfDay(midnight, now)).toBe("tomorrow 00:05");
    expect(clockTime(evening)).toBe("17:38:04");
    expect(clockTime(midnight)).toBe("00:05:00");
    expect(absoluteTime(evening)).toMatch(/17:38:04$/);
  });
});

/** With spaces that break, as one types them. */
function plain(text: string): string {
  return text.replaceAll("\u00a0", " ");
}

describe("electricity", () => {
  it.each([
    [0, "0 Wh"],
    [0.000_000_012, "0.000012 Wh"],
    [0.000_82, "0.82 Wh"],
    [0.0238, "23.8 Wh"],
    [0.2, "0.20 kWh"],
    [4.567, "4.57 kWh"],
    [1284.4, "1,284 kWh"],
  ])("%d kWh are %s", (value, text) =>
    expect(energy(value)).toBe(text.replace(" k", "\u00a0k").replace(" W", "\u00a0W")),
  );

  it.each([
    [0, "EUR", "€0.00"],
    [64_000_000, "EUR", "€0.064"],
    [80_000_000, "EUR", "€0.08"],
    [426_667, "EUR", "€0.00043"],
    [99_600_000, "EUR", "€0.10"],
    [210_000_000, "EUR", "€0.21"],
    [1_284_500_000_000, "USD", "$1,284.50"],
    [27_300_000_000, "JPY", "¥27"],
    [430_000_000, "JPY", "¥0.43"],
    [3_000_000_000, "XTS", "XTS\u00a03.00"],
  ])("%d billionths of %s are %s", (nano, currency, text) =>
    expect(money(nano, currency)).toBe(text),
  );

  it("is written as the language writes it", () => {
    expect(watts(141.6)).toBe("142\u00a0W");
    german();
    expect(money(426_667, "EUR")).toBe("0,00043\u00a0€");
    expect(energy(4.567)).toBe("4,57\u00a0kWh");
  });
});
