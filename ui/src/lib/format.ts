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
  const digits = Math.abs(value) >= 99.95 || Number.isInteger(value) ? 0 : 1;
  // Something earned is never shown as nothing.
  if (value !== 0 && Math.abs(value) < 0.05) {
    return format({ maximumSignificantDigits: 1 }).format(value);
  }
  return number(value, digits);
}

/** So few amounts are added in the head, and then have to come to the sum that is shown. */
const ADDED_BY_EYE = 8;
const MOST_DECIMALS = 6;

/**
 * How many decimals a column of points has: as many as its smallest amount needs to show, and as a
 * short column needs to add up to the sum that is shown, below it or elsewhere with `ofSum` decimals.
 */
export function decimals(
  column: readonly number[],
  sum = total(column),
  ofSum = MOST_DECIMALS,
): number {
  const amounts = column.filter((micro) => micro !== 0);
  const smallest = amounts.reduce((least, micro) => Math.min(least, Math.abs(micro)), Infinity);
  let digits = [...amounts, sum].every((micro) => micro % MICRO === 0) ? 0 : 1;
  while (digits < MOST_DECIMALS && smallest < step(digits)) digits += 1;
  if (amounts.length > ADDED_BY_EYE || total(amounts) !== sum) return digits;
  const rounded = (micro: number, to = digits) => Math.round(micro / step(to)) * step(to);
  const addsUp = () => {
    const to = Math.min(digits, ofSum);
    return rounded(total(amounts.map((micro) => rounded(micro))), to) === rounded(sum, to);
  };
  while (digits < MOST_DECIMALS && !addsUp()) digits += 1;
  return digits;
}

/** Points in a column of so many decimals. */
export function pointsIn(digits: number, micro: number): string {
  return number(micro / MICRO, digits);
}

/** The last decimal's worth. */
function step(digits: number): number {
  return 10 ** (MOST_DECIMALS - digits);
}

function total(amounts: readonly number[]): number {
  return amounts.reduce((sum, amount) => sum + amount, 0);
}

/** What stands behind a number of points that is written apart: `points`. */
export function unitOfPoints(micro: number): string {
  return t("unit.points", { count: micro / MICRO, points: "" }).trim();
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
  const most = size >= 3 && scaled < 100 ? 1 : 0;
  const text = format({ maximumFractionDigits: most }).format(scaled);
  return withUnit(text, SIZES[size]!);
}

/** RAM and VRAM count as they are sold: a GB of memory is 2^30 bytes, one of a file 10^9. */
export const MEMORY_GB = 2 ** 30;

/** `0.66 kWh`, `23.8 Wh`: with digits that say something. */
export function energy(kilowattHours: number): string {
  if (kilowattHours >= 0.1) {
    return withUnit(number(kilowattHours, kilowattHours < 99.95 ? 2 : 0), "kWh");
  }
  const wattHours = kilowattHours * 1000;
  const digits = wattHours < 0.95 ? { maximumSignificantDigits: 2 } : { maximumFractionDigits: 1 };
  return withUnit(format(digits).format(wattHours), "Wh");
}

export function watts(value: number): string {
  return withUnit(number(value), "W");
}

const MOST_MONEY_DECIMALS = 9;

/**
 * Billionths of a currency's unit: `€0.21`, `€0.00043`. With the currency's own decimals, or as many
 * as two digits need that say something.
 */
export function money(nano: number, currency: string): string {
  const value = nano / 1e9;
  const style = { style: "currency", currency } as const;
  const own = format(style).resolvedOptions().maximumFractionDigits ?? 2;
  let digits = own;
  if (value !== 0) {
    while (digits < MOST_MONEY_DECIMALS && Math.abs(value) < 9.95 * 10 ** -digits) digits += 1;
  }
  return format({ ...style, minimumFractionDigits: own, maximumFractionDigits: digits }).format(
    value,
  );
}

/** Always in GB with one decimal: figures that stand side by side and move. */
export function memorySize(value: number): string {
  return withUnit(number(value / MEMORY_GB, 1), "GB");
}

/** The same with the digits that help: 16 GB, 7.5 GB. */
export function roundMemory(value: number): string {
  const size = value / MEMORY_GB;
  return withUnit(format({ maximumFractionDigits: size < 10 ? 1 : 0 }).format(size), "GB");
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
  if (ms < 9950) return withUnit(number(ms / SECOND, 1), "s");
  const rounded = Math.round(ms / SECOND) * SECOND;
  if (rounded < MINUTE) return withUnit(rounded / SECOND, "s");
  if (rounded < HOUR) return two(rounded, [MINUTE, "min"], [SECOND, "s"]);
  if (rounded < DAY) return two(rounded, [HOUR, "h"], [MINUTE, "min"]);
  return two(rounded, [DAY, "d"], [HOUR, "h"]);
}

/** `2 min ago`. */
export function relativeTime(at: number, now: number): string {
  const past = at - now;
  const size = Math.abs(past);
  const relative = relativeForm();
  const say = (value: number, unit: Intl.RelativeTimeFormatUnit) => {
    const text = relative.format(Math.trunc(value), unit);
    // English writes its short units without a full stop here, as everywhere in the window.
    return locale.language === "en" ? text.replace(".", "") : text;
  };
  if (size < 10 * SECOND) return say(0, "second");
  if (size < MINUTE) return say(Math.trunc(past / SECOND / 10) * 10, "second");
  if (size < HOUR) return say(past / MINUTE, "minute");
  if (size < DAY) return say(past / HOUR, "hour");
  return say(past / DAY, "day");
}

/** As the tray, the notifications and the command line write it: none of them knows a region's
 * clock, and one program tells one time. */
const CLOCK = { hourCycle: "h23" } as const;

/** To the second: what stands behind a relative time. */
export function absoluteTime(at: number): string {
  return absoluteForm().format(at);
}

export function date(at: number): string {
  return new Intl.DateTimeFormat(locale.tag, { dateStyle: "medium" }).format(at);
}

/** To the second, without a date. */
export function clockTime(at: number): string {
  return new Intl.DateTimeFormat(locale.tag, { timeStyle: "medium", ...CLOCK }).format(at);
}

/** `18:00`: within a day that is named beside it. */
export function hourAndMinute(at: number): string {
  return hourForm().format(at);
}

/** `18:00`, `tomorrow 08:00`, or with the day of the week. */
export function timeOfDay(at: number, now: number): string {
  const tomorrow = new Date(now);
  tomorrow.setDate(tomorrow.getDate() + 1);
  const is = (day: number | Date) => new Date(day).toDateString() === new Date(at).toDateString();
  const time = new Intl.DateTimeFormat(locale.tag, {
    hour: "2-digit",
    minute: "2-digit",
    ...CLOCK,
    ...(is(now) || is(tomorrow) ? {} : { weekday: "short" }),
  }).format(at);
  return is(tomorrow) ? `${relativeForm().format(1, "day")} ${time}` : time;
}

/** The SI's symbols are the same in every language here. */
function two(ms: number, big: [number, string], small: [number, string]): string {
  const whole = Math.floor(ms / big[0]);
  const rest = Math.floor((ms - whole * big[0]) / small[0]);
  const text = withUnit(whole, big[1]);
  return rest === 0 ? text : `${text} ${withUnit(rest, small[1])}`;
}

/** A line does not break between a number and its unit. */
function withUnit(text: string | number, unit: string): string {
  return `${text}\u00a0${unit}`;
}

const relativeForm = remembered(
  (tag) => new Intl.RelativeTimeFormat(tag, { numeric: "auto", style: "short" }),
);
const hourForm = remembered(
  (tag) => new Intl.DateTimeFormat(tag, { hour: "2-digit", minute: "2-digit", ...CLOCK }),
);
const absoluteForm = remembered(
  (tag) => new Intl.DateTimeFormat(tag, { dateStyle: "medium", timeStyle: "medium", ...CLOCK }),
);

/** Made once for a language. */
function remembered<Form>(make: (tag: string) => Form): () => Form {
  let last: { tag: string; form: Form } | undefined;
  return () => {
    if (last?.tag !== locale.tag) last = { tag: locale.tag, form: make(locale.tag) };
    return last.form;
  };
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
