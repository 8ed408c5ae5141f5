// @vitest-environment node

import { describe, expect, it } from "vitest";
import { locale } from "../../i18n/index.svelte";
import { fakePlatform } from "../../platform/fake";
import type { Earnings } from "../../platform/types";
import {
  axisMarks,
  bucketName,
  ceiling,
  dailyMean,
  digitsOf,
  earningsCsv,
  PARTS,
  rounded,
  sumOf,
} from "./buckets";

const at = (...parts: [number, number, number]) => new Date(...parts).getTime();

const earnings: Earnings = {
  total: { confirmed: 3_500_001, pending: 0, forfeited: 40 },
  buckets: [
    {
      start_ms: at(2026, 10, 9),
      points: { confirmed: 1_000_001, pending: 0, forfeited: 40 },
      jobs: 3,
      output_tokens: 900,
      energy: { kilowatt_hours: 0.2, cost_nano: 64_000_000 },
    },
    {
      start_ms: at(2026, 10, 16),
      points: { confirmed: 0, pending: 0, forfeited: 0 },
      jobs: 0,
      output_tokens: 0,
      energy: null,
    },
  ],
  unlisted: { confirmed: 2_500_000, pending: 0, forfeited: 0 },
  estimate: null,
  consumption: {
    unmeasured: null,
    tariff: { price_per_kwh: "0.32", currency: "EUR" },
    today: null,
    week: null,
    month: null,
  },
};

describe("the earnings' CSV", () => {
  it("is the table with all digits, the newest first", () => {
    expect(earningsCsv(earnings, "week")).toBe(
      [
        "from,until,jobs,output_tokens,confirmed_points,pending_points,forfeited_points,electricity_kwh,electricity_cost,currency",
        "2026-11-16,2026-11-22,0,0,0.000000,0.000000,0.000000,,,",
        "2026-11-09,2026-11-15,3,900,1.000001,0.000000,0.000040,0.200000,0.064000,EUR",
        "earlier or elsewhere,,,,2.500000,0.000000,0.000000,,,",
        "",
      ].join("\r\n"),
    );
  });

  it("says nothing of an earlier installation where there was none", () => {
    const unlisted = { confirmed: 0, pending: 0, forfeited: 0 };
    expect(earningsCsv({ ...earnings, unlisted }, "month").split("\r\n").length).toBe(4);
  });
});

describe("the sums", () => {
  it.each(["day", "week", "month"] as const)("of all %ss are the totals", async (period) => {
    const found = await fakePlatform("waiting").call("earnings", { period });
    expect(found.buckets.length).toBeGreaterThan(1);
    const sum = sumOf([...found.buckets.map(({ points }) => points), found.unlisted]);
    expect(sum).toEqual(found.total);
    const rows = earningsCsv(found, period).trim().split("\r\n").slice(1);
    PARTS.forEach((part, index) => {
      const micro = rows.reduce(
        (sum, row) => sum + Math.round(Number(row.split(",")[4 + index]) * 1e6),
        0,
      );
      expect(micro).toBe(found.total[part]);
    });
  });
});

describe("names and scales", () => {
  it("name days, weeks and months in the chosen language", () => {
    locale.choose("en", ["en-GB"]);
    expect(bucketName(at(2026, 10, 22), "day")).toBe("22 Nov 2026");
    expect(bucketName(at(2026, 10, 1), "month")).toBe("November 2026");
    expect(bucketName(at(2026, 9, 26), "week")).toMatch(/^26 Oct.+1 Nov 2026$/);
    locale.choose("de", []);
    expect(bucketName(at(2026, 10, 16), "week")).toMatch(/^16\..+22\. Nov\. 2026$/);
  });

  it("end an axis with the next round number", () => {
    expect([526, 1000, 3424, 14_398, 0.37, 0].map(ceiling)).toEqual([
      600, 1000, 4000, 15_000, 0.4, 1,
    ]);
  });

  it("mark an axis with distinct numbers of one length", () => {
    locale.choose("en", []);
    const words = (top: number) => axisMarks(top).map(({ words }) => words);
    expect(words(600_000_000)).toEqual(["600", "300", "0"]);
    expect(words(100_000)).toEqual(["0.10", "0.05", "0.00"]);
    expect(words(15_000_000)).toEqual(["15.0", "7.5", "0.0"]);
    for (const points of [0.0003, 0.02, 0.4, 1, 7, 33, 4000]) {
      const all = words(ceiling(points) * 1e6);
      expect(new Set(all).size).toBe(3);
      expect(new Set(all.map((text) => text.split(".")[1]?.length)).size).toBe(1);
    }
  });

  it("give each column of points its decimals", () => {
    expect(digitsOf(earnings)).toEqual({ confirmed: 1, pending: 0, forfeited: 5 });
    // A day of 0.02 and one of 0.028 are 0.048 together, not 0.1.
    const [one, other] = earnings.buckets;
    const few = (micro: number) => ({ confirmed: micro, pending: 0, forfeited: 0 });
    const digits = digitsOf({
      buckets: [
        { ...one!, points: few(20_000) },
        { ...other!, points: few(28_000) },
      ],
      unlisted: few(0),
      total: few(48_000),
      estimate: null,
      consumption: earnings.consumption,
    });
    expect(digits.confirmed).toBe(2);
  });

  it("make a mean of whole days, where the network is too quiet for another estimate", () => {
    const [day] = earnings.buckets;
    const days = (...all: number[]) =>
      all.map((confirmed) => ({ ...day!, points: { confirmed, pending: 0, forfeited: 9 } }));
    expect(dailyMean([])).toBeNull();
    expect(dailyMean(days(5))).toBeNull();
    expect(dailyMean(days(10, 30, 1000))).toEqual({ micro: 20, days: 2 });
    expect(dailyMean(days(9999, 7, 7, 7, 7, 7, 7, 7, 1000))).toEqual({ micro: 7, days: 7 });
  });

  it("give an estimate two digits", () => {
    expect([412_345_678, 4_180_000, 0].map(rounded)).toEqual([410_000_000, 4_200_000, 0]);
  });
});
