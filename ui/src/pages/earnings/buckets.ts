// Points by day, week or month: their names, sums, scale and CSV.

import { locale } from "../../i18n/index.svelte";
import { decimals, pointsIn } from "../../lib/format";
import type {
  Earnings,
  EarningsBucket,
  Electricity,
  Period,
  PointSums,
} from "../../platform/types";

export const PARTS = ["confirmed", "pending", "forfeited"] as const;
export type Part = (typeof PARTS)[number];

/** An estimate has two digits that mean something. */
export function rounded(micro: number): number {
  return Number(micro.toPrecision(2));
}

/** Days that make a mean. */
const WEEK = 7;

/**
 * What a day brought on average, over the last week's whole days. On a quiet network there is no
 * other estimate. Null before the first whole day.
 */
export function dailyMean(days: readonly EarningsBucket[]): { micro: number; days: number } | null {
  const whole = days.slice(0, -1).slice(-WEEK);
  if (whole.length === 0) return null;
  const earned = whole.reduce((sum, { points }) => sum + points.confirmed + points.pending, 0);
  return { micro: earned / whole.length, days: whole.length };
}

export function sumOf(all: readonly PointSums[]): PointSums {
  const sum = { confirmed: 0, pending: 0, forfeited: 0 };
  for (const one of all) for (const part of PARTS) sum[part] += one[part];
  return sum;
}

export function isNothing(sums: PointSums): boolean {
  return PARTS.every((part) => sums[part] === 0);
}

/** Decimals, by column: the same in the figures, the bars and the table. */
export type Digits = Record<Part, number>;

export function digitsOf({ buckets, unlisted, total }: Earnings): Digits {
  const of = (part: Part) =>
    decimals([...buckets.map(({ points }) => points[part]), unlisted[part]], total[part]);
  return { confirmed: of("confirmed"), pending: of("pending"), forfeited: of("forfeited") };
}

/** The marks of an axis that ends at `top`, all with the digits that the middle one needs. */
export function axisMarks(top: number): { part: number; words: string }[] {
  const half = Math.round(top / 2);
  const digits = decimals([half]);
  return [1, 0.5, 0].map((part) => ({ part, words: pointsIn(digits, Math.round(top * part)) }));
}

/** The first moment of the last day that a bucket covers. */
export function lastDay(start: number, period: Period): number {
  const date = new Date(start);
  if (period === "week") date.setDate(date.getDate() + 6);
  if (period === "month") date.setMonth(date.getMonth() + 1, 0);
  return date.getTime();
}

/** `22 Nov 2026`, `16 – 22 Nov 2026`, `November 2026`. */
export function bucketName(start: number, period: Period): string {
  if (period === "month") return form({ month: "long", year: "numeric" }).format(start);
  const day = form({ day: "numeric", month: "short", year: "numeric" });
  return period === "day" ? day.format(start) : day.formatRange(start, lastDay(start, "week"));
}

/** Under a bar. */
export function bucketMark(start: number, period: Period): string {
  return form(
    period === "month" ? { month: "short", year: "numeric" } : { day: "numeric", month: "short" },
  ).format(start);
}

/** The next round number above, to end an axis with. */
export function ceiling(value: number): number {
  if (value <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  const step = [1, 1.5, 2, 3, 4, 6, 8, 10].find((step) => step * size >= value * (1 - 1e-9));
  return (step ?? 10) * size;
}

/**
 * The table as a file, with all digits there are. It has no line of sums: a spreadsheet makes its
 * own, and they are the totals.
 */
export function earningsCsv({ buckets, unlisted, consumption }: Earnings, period: Period): string {
  const rows = [
    "from,until,jobs,output_tokens,confirmed_points,pending_points,forfeited_points,electricity_kwh,electricity_cost,currency",
    ...newestFirst(buckets).map((bucket) =>
      [
        isoDate(bucket.start_ms),
        isoDate(lastDay(bucket.start_ms, period)),
        bucket.jobs,
        bucket.output_tokens,
        ...PARTS.map((part) => decimal(bucket.points[part])),
        ...electricity(bucket, consumption.tariff),
      ].join(","),
    ),
  ];
  if (!isNothing(unlisted)) {
    rows.push(
      [
        "earlier or elsewhere",
        "",
        "",
        "",
        ...PARTS.map((part) => decimal(unlisted[part])),
        "",
        "",
        "",
      ].join(","),
    );
  }
  return rows.map((row) => `${row}\r\n`).join("");
}

export function newestFirst(buckets: readonly EarningsBucket[]): EarningsBucket[] {
  return [...buckets].reverse();
}

/** The day in the machine's time zone, as spreadsheets read it. */
export function isoDate(at: number): string {
  const date = new Date(at);
  const two = (value: number) => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** Energy, cost and currency; what is not known is empty. */
function electricity({ energy }: EarningsBucket, tariff: Electricity): string[] {
  if (energy === null) return ["", "", ""];
  const hours = energy.kilowatt_hours.toFixed(6);
  const cost = energy.cost_nano;
  return cost === null ? [hours, "", ""] : [hours, (cost / 1e9).toFixed(6), tariff.currency];
}

/** Without a detour over binary fractions. */
function decimal(micro: number): string {
  const size = Math.abs(micro);
  const whole = Math.floor(size / 1e6);
  return `${micro < 0 ? "-" : ""}${whole}.${String(size - whole * 1e6).padStart(6, "0")}`;
}

const forms = new Map<string, Intl.DateTimeFormat>();

function form(options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = locale.tag + JSON.stringify(options);
  let made = forms.get(key);
  if (made === undefined) {
    made = new Intl.DateTimeFormat(locale.tag, options);
    forms.set(key, made);
  }
  return made;
}
