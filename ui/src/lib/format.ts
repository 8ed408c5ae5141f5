// Numbers, sizes and times as people read them, in the chosen language.

import { locale, t } from "../i18n/index.svelte";

const MICRO = 1_000_000;
const SIZES = ["B", "kB", "MB", "GB", "TB"] as const;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export function number(value: number, digits = 0): string {
  return format({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

export function percent(value: number): string {
  return t("unit.percent", { value: number(value) });
}

/** As many digits as are true: whole from 100 on, so that small jobs still show. */
export function points(micro: number): string {
  const value = micro / MICRO;
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : 1;
  // Something earned is never shown as nothing.
  if (value !== 0 && Math.abs(value) < 0.05) return number(value, 3);
  return number(value, digits);
}

/** `128 points`. */
export function pointsWithUnit(micro: number): string {
  return t("unit.points", { count: micro / MICRO, points: points(micro) });
}

/** Decimal, as disks are sold: 7.9 GB, 340 MB. */
export function bytes(value: number): string {
  let size = 0;
  let scaled = value;
  while (scaled >= 999.5 && size < SIZES.length - 1) {
    scaled /= 1000;
    size += 1;
  }
  const digits = size >= 3 && scaled < 100 ? 1 : 0;
  return `${format({ maximumFractionDigits: digits }).format(scaled)} ${SIZES[size]}`;
}

export function bytesPerSecond(value: number): string {
  return t("unit.per_second", { size: bytes(value) });
}

/** One decimal below ten. */
export function rate(tokensPerSecond: number): string {
  return number(tokensPerSecond, tokensPerSecond < 9.95 ? 1 : 0);
}

export function tokensPerSecond(value: number): string {
  return t("unit.tokens_per_second", { rate: rate(value) });
}

/** The two largest units: 9.8 s, 3 min 20 s, 2 h 5 min. */
export function duration(ms: number): string {
  if (ms < 10 * SECOND) return unit(ms / SECOND, "second", 1);
  const rounded = Math.round(ms / SECOND) * SECOND;
  if (rounded < MINUTE) return unit(rounded / SECOND, "second");
  if (rounded < HOUR) return two(rounded, MINUTE, "minute", SECOND, "second");
  if (rounded < DAY) return two(rounded, HOUR, "hour", MINUTE, "minute");
  return two(rounded, DAY, "day", HOUR, "hour");
}

/** `2 min ago`. */
export function relativeTime(at: number, now: number): string {
  const past = at - now;
  const size = Math.abs(past);
  const format = new Intl.RelativeTimeFormat(locale.tag, { numeric: "auto", style: "short" });
  if (size < 10 * SECOND) return format.format(0, "second");
  if (size < MINUTE) return format.format(Math.trunc(past / SECOND / 10) * 10, "second");
  if (size < HOUR) return format.format(Math.trunc(past / MINUTE), "minute");
  if (size < DAY) return format.format(Math.trunc(past / HOUR), "hour");
  return format.format(Math.trunc(past / DAY), "day");
}

/** To the second: what stands behind a relative time. */
export function absoluteTime(at: number): string {
  return new Intl.DateTimeFormat(locale.tag, { dateStyle: "medium", timeStyle: "medium" }).format(
    at,
  );
}

export function date(at: number): string {
  return new Intl.DateTimeFormat(locale.tag, { dateStyle: "medium" }).format(at);
}

/** To the second, without a date. */
export function clockTime(at: number): string {
  return new Intl.DateTimeFormat(locale.tag, { timeStyle: "medium" }).format(at);
}

/** `18:00`, with the day where that is not today. */
export function timeOfDay(at: number, now: number): string {
  const today = new Date(now).toDateString() === new Date(at).toDateString();
  return new Intl.DateTimeFormat(locale.tag, {
    hour: "2-digit",
    minute: "2-digit",
    ...(today ? {} : { weekday: "short" }),
  }).format(at);
}

function two(ms: number, big: number, bigUnit: string, small: number, smallUnit: string): string {
  const whole = Math.floor(ms / big);
  const rest = Math.floor((ms - whole * big) / small);
  return rest === 0 ? unit(whole, bigUnit) : `${unit(whole, bigUnit)} ${unit(rest, smallUnit)}`;
}

function unit(value: number, name: string, digits = 0): string {
  return format({
    style: "unit",
    unit: name,
    unitDisplay: "short",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(value);
}

const formats = new Map<string, Intl.NumberFormat>();

/** Making one is slow, and tables ask for thousands. */
function format(options: Intl.NumberFormatOptions): Intl.NumberFormat {
  const key = locale.tag + JSON.stringify(options);
  let made = formats.get(key);
  if (made === undefined) {
    made = new Intl.NumberFormat(locale.tag, options);
    formats.set(key, made);
  }
  return made;
}
