// Minutes as a chart wants them: one after the other, with gaps where none was written.

import type { History } from "./api";

const MINUTE = 60;

export interface Series {
  /** Unix time in seconds. */
  times: number[];
  /** A second. */
  tokens: (number | null)[];
  jobs: (number | null)[];
  p50: (number | null)[];
  p95: (number | null)[];
  nodes: (number | null)[];
  waiting: (number | null)[];
}

/** The whole minutes of a span that ends now. */
export function byMinute(history: History | null, span: number, nowMs: number): Series {
  const due = Math.floor(nowMs / 1000 / MINUTE) * MINUTE - MINUTE;
  const last = (history?.at_ms.at(-1) ?? 0) / 1000;
  // The minute that has just ended may not have been read yet, and is no gap.
  const end = last === due - MINUTE ? last : due;
  const times = Array.from(
    { length: span / MINUTE },
    (_, back) => end - span + (back + 1) * MINUTE,
  );
  const places = new Map(history?.at_ms.map((at, place) => [at / 1000, place]));
  const take = (values: (number | null)[] | undefined, per = 1) =>
    times.map((time) => {
      const value = values?.[places.get(time) ?? -1] ?? null;
      return value === null ? null : value / per;
    });
  return {
    times,
    tokens: take(history?.tokens, MINUTE),
    jobs: take(history?.jobs),
    p50: take(history?.first_token_p50_ms),
    p95: take(history?.first_token_p95_ms),
    nodes: take(history?.nodes),
    waiting: take(history?.waiting),
  };
}
