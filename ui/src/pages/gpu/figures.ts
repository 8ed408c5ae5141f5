// What a driver reports of a GPU, and in which words.

import type { Key } from "../../i18n/index.svelte";
import { memorySize, number, percent } from "../../lib/format";
import type { GpuReading, GpuSample } from "../../platform/types";

/** In the order of their charts. */
export const FIGURES = ["load", "temperature", "power", "core", "memory_clock", "fan"] as const;
export type FigureName = (typeof FIGURES)[number] | "vram";

export const pick: Record<FigureName | "ours", (now: GpuReading) => number | null> = {
  load: (now) => now.load_percent,
  vram: (now) => now.vram_used_bytes,
  ours: (now) => now.vram_ours_bytes,
  temperature: (now) => now.temperature_celsius,
  power: (now) => now.power_watts,
  core: (now) => now.core_megahertz,
  memory_clock: (now) => now.memory_megahertz,
  fan: (now) => now.fan_percent,
};

export const names = {
  load: "gpu.load",
  vram: "gpu.vram",
  temperature: "gpu.temperature",
  power: "gpu.power",
  core: "gpu.core",
  fan: "gpu.fan",
  memory_clock: "gpu.memory_clock",
} as const satisfies Record<FigureName, Key>;

export const words: Record<FigureName, (value: number) => string> = {
  load: percent,
  vram: memorySize,
  temperature: (value) => `${number(value)}\u00a0°C`,
  power: (value) => `${number(value)}\u00a0W`,
  core: gigahertz,
  memory_clock: gigahertz,
  fan: percent,
};

function gigahertz(megahertz: number): string {
  return `${number(megahertz / 1000, 1)}\u00a0GHz`;
}

/** What this driver has told at least once in ten minutes, so that nothing comes and goes. */
export function reported(samples: readonly GpuSample[], adapter: string): Set<FigureName | "ours"> {
  const told = new Set<keyof typeof pick>();
  const all = Object.keys(pick) as (keyof typeof pick)[];
  for (const { readings } of samples) {
    const reading = readings.find((reading) => reading.adapter === adapter);
    if (reading === undefined) continue;
    for (const name of all) if (pick[name](reading) !== null) told.add(name);
  }
  return told;
}

export interface Memory {
  /** Null where the driver tells only the sum. */
  ours: number | null;
  others: number;
  free: number;
  total: number;
}

/** A driver counts at different moments: no part is ever negative. */
export function memory(reading: GpuReading | null): Memory | null {
  if (reading === null) return null;
  const { vram_used_bytes: used, vram_total_bytes: total, vram_ours_bytes: told } = reading;
  if (used === null || total === null) return null;
  const ours = told === null ? null : Math.min(told, used);
  return { ours, others: used - (ours ?? 0), free: Math.max(0, total - used), total };
}

/** The upper end of a chart's axis: the limit where there is one, else a round number. */
export function ceiling(values: readonly (number | null)[], limit: number | null, step: number) {
  const highest = Math.max(0, ...values.map((value) => value ?? 0));
  return Math.max(limit ?? 0, limit !== null && highest <= limit ? 0 : rounded(highest, step));
}

function rounded(value: number, step: number): number {
  return Math.max(step, Math.ceil(value / step) * step);
}
