// What each rule is held against, in words, and how hours are written.

import { locale, t } from "../../i18n/index.svelte";
import { number, percent, roundMemory, timeOfDay } from "../../lib/format";
import type {
  DeviceStatus,
  GpuSeen,
  Hours,
  Preset,
  Rule,
  Rules,
  RunningProgram,
  Seen,
  Surroundings,
} from "../../platform/types";

/** Each GPU is seen for itself. */
export type GpuRule = "gpu_load" | "gpu_memory" | "gpu_heat";
export type SystemRule = Exclude<Rule, GpuRule | "sleep" | "schedule">;

export const PRESETS: readonly Preset[] = ["not_playing", "away", "nights", "always"];

const DAY = 24 * 60;
const MOST_SUGGESTED = 8;

/** What a preset does, in one line. */
export function presetWords(preset: Preset, rules: Rules): string {
  switch (preset) {
    case "away":
      return t("rules.preset.away_text", { minutes: rules.away.minutes });
    case "nights": {
      const [hours, ...more] = rules.schedule.hours;
      if (hours === undefined || more.length > 0 || hours.days.includes(false)) {
        return t("rules.preset.hours_text");
      }
      const [from, to] = [clockOf(hours.from), clockOf(hours.to)];
      return t("rules.preset.nights_text", { from, to });
    }
    default:
      return t(`rules.preset.${preset}_text`);
  }
}

/** What a rule looks at now. */
export function sees(rule: SystemRule | "network", seen: Surroundings, now: number): string {
  const what = seenBy(rule, seen, now);
  return what === null ? t("rules.unseen") : t("rules.sees", { what });
}

/** Null where this machine does not tell. */
function seenBy(rule: SystemRule | "network", seen: Surroundings, now: number): string | null {
  const named = (found: Seen | null, none: string) =>
    found === null ? null : found.names.join(", ") || none;
  switch (rule) {
    case "games":
      return named(seen.games, t("rules.sees.no_game"));
    case "full_screen":
      return named(seen.full_screen, t("rules.sees.no_full_screen"));
    case "programs":
      return named(seen.programs, t("rules.sees.no_program"));
    case "memory": {
      const free = seen.available_memory_bytes;
      return free === null ? null : t("rules.sees.free", { size: roundMemory(free) });
    }
    case "battery": {
      if (seen.power === null) return null;
      const { on_battery, battery_percent: left } = seen.power;
      if (!on_battery) {
        return left === null
          ? t("rules.sees.mains")
          : t("rules.sees.mains_left", { left: percent(left) });
      }
      return left === null
        ? t("rules.sees.battery")
        : t("rules.sees.battery_left", { left: percent(left) });
    }
    case "network":
      return seen.network === null ? null : t(`rules.sees.${seen.network}`);
    case "away": {
      if (seen.session === "locked") return t("rules.sees.locked");
      if (seen.input === null) return null;
      if (seen.session === "remote") return t("rules.sees.remote");
      return seen.input.input === "recent"
        ? t("rules.sees.somebody")
        : t("rules.sees.nobody", { time: timeOfDay(seen.input.since_ms, now) });
    }
  }
}

/** The same on each GPU, with its name where there are several. */
export function seesOnGpus(
  rule: GpuRule,
  devices: readonly Pick<DeviceStatus, "name" | "seen">[],
): string {
  const seen = devices.map(({ name, seen }) => ({
    name,
    what: seen === null ? null : seenOnGpu(rule, seen),
  }));
  if (seen.every(({ what }) => what === null)) return t("rules.unseen");
  const [first, ...more] = seen;
  if (first !== undefined && more.length === 0) {
    return t("rules.sees", { what: first.what ?? "" });
  }
  const each = seen.map(({ name, what }) =>
    t("rules.sees.gpu", { name, what: what ?? t("rules.sees.gpu_unseen") }),
  );
  return t("rules.sees", { what: each.join("; ") });
}

/** Null where its driver does not tell. */
function seenOnGpu(rule: GpuRule, seen: GpuSeen): string | null {
  switch (rule) {
    case "gpu_load": {
      const load = seen.load_others_percent;
      return load === null ? null : t("rules.sees.gpu_load", { percent: percent(load) });
    }
    case "gpu_memory": {
      const { vram_total_bytes: all, vram_others_bytes: others, vram_ours_bytes: ours } = seen;
      if (all === null || others === null || ours === null) return null;
      const free = roundMemory(Math.max(0, all - others - ours));
      return t("rules.sees.gpu_memory", { free, others: roundMemory(others) });
    }
    case "gpu_heat": {
      const { temperature_celsius: now, temperature_limit_celsius: limit } = seen;
      if (now === null) return null;
      const celsius = number(now);
      return limit === null
        ? t("rules.sees.gpu_heat_alone", { celsius })
        : t("rules.sees.gpu_heat", { celsius, limit: number(limit) });
    }
  }
}

/** `22:00`, as a time field has it and as people read it. */
export function clockOf(minutes: number): string {
  const two = (value: number) => String(value).padStart(2, "0");
  return `${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

/** Minutes since midnight; null for half a time. */
export function minutesOf(text: string): number | null {
  const found = /^(\d\d):(\d\d)/.exec(text);
  return found === null ? null : Number(found[1]) * 60 + Number(found[2]);
}

/** What is not plain from the two times. */
export function hoursNote({ from, to }: Hours): string | null {
  if (from === to) return t("rules.hours.whole");
  return to < from ? t("rules.hours.next_day") : null;
}

/** From Monday on, short and whole. */
export function weekdays(): { short: string; long: string }[] {
  const name = (day: number, weekday: "short" | "long") =>
    new Intl.DateTimeFormat(locale.tag, { weekday }).format(new Date(2024, 0, 1 + day));
  return Array.from({ length: 7 }, (_, day) => ({
    short: name(day, "short"),
    long: name(day, "long"),
  }));
}

/** Days from nine to five, for a person to change. */
export function newHours(): Hours {
  return {
    days: [true, true, true, true, true, true, true],
    from: (DAY * 9) / 24,
    to: (DAY * 17) / 24,
  };
}

/** A program's name as it is kept: without its folder. Null where nothing is left. */
export function programName(typed: string): string | null {
  return typed.trim().split(/[\\/]/).at(-1)?.trim() || null;
}

/** Those that run and are not named yet; names are compared as the program does. */
export function suggested(running: RunningProgram[], names: string[]): RunningProgram[] {
  const plain = (name: string) =>
    name
      .trim()
      .toLowerCase()
      .replace(/\.exe$/, "");
  const named = new Set(names.map(plain));
  return running.filter(({ name }) => !named.has(plain(name))).slice(0, MOST_SUGGESTED);
}
