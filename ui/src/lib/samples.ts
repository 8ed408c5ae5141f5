// The GPUs' last ten minutes, and lines of them that a chart draws.

import type { GpuReading, GpuSample } from "../platform/types";

export const KEPT_MS = 10 * 60_000;
/** A second apart while somebody looks; longer than this, nobody did. */
const GAP_MS = 3500;

export interface Line {
  /** Unix time in seconds. */
  times: number[];
  /** Null where nothing was read: a gap stays a gap. */
  values: (number | null)[];
}

/** Both in order of time, each moment once, nothing older than ten minutes before the newest. */
export function merged(older: readonly GpuSample[], newer: readonly GpuSample[]): GpuSample[] {
  const byTime = new Map<number, GpuSample>();
  for (const sample of older) byTime.set(sample.at_ms, sample);
  for (const sample of newer) byTime.set(sample.at_ms, sample);
  const all = [...byTime.values()].sort((a, b) => a.at_ms - b.at_ms);
  const oldest = (all.at(-1)?.at_ms ?? 0) - KEPT_MS;
  return all.filter((sample) => sample.at_ms >= oldest);
}

/** Several figures of one adapter on one time axis. */
export function lines<Name extends string>(
  samples: readonly GpuSample[],
  adapter: string,
  figures: Record<Name, (reading: GpuReading) => number | null>,
): { times: number[]; values: Record<Name, (number | null)[]> } {
  const names = Object.keys(figures) as Name[];
  const times: number[] = [];
  const values = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<
    Name,
    (number | null)[]
  >;
  let before: number | undefined;
  for (const sample of samples) {
    if (before !== undefined && sample.at_ms - before > GAP_MS) {
      // At both ends, so that a crosshair within the gap finds no reading.
      times.push((before + 1) / 1000, (sample.at_ms - 1) / 1000);
      for (const name of names) values[name].push(null, null);
    }
    before = sample.at_ms;
    times.push(sample.at_ms / 1000);
    const reading = sample.readings.find((reading) => reading.adapter === adapter);
    for (const name of names) {
      values[name].push(reading === undefined ? null : figures[name](reading));
    }
  }
  return { times, values };
}

/** One figure of one adapter. */
export function line(
  samples: readonly GpuSample[],
  adapter: string,
  figure: (reading: GpuReading) => number | null,
): Line {
  const { times, values } = lines(samples, adapter, { figure });
  return { times, values: values.figure };
}
