// What the node did on a day, as parts of a bar.

import { t } from "../../i18n/index.svelte";
import { historySentence, kindWords } from "../../lib/wording";
import type { StateKind, Stretch } from "../../platform/types";

const MINUTE = 60_000;
/** What is shorter is too thin to be pointed at: it is put together with its neighbours. */
const THIN_MS = 4 * MINUTE;
/** So long a part of thin ones becomes: on a busy day there are hundreds. */
const TOGETHER_MS = 20 * MINUTE;
/** A gap between two stretches that is no gap: the clock is looked at once a minute. */
const SEAM_MS = MINUTE;

/** Null while the program did not run. */
export type Kind = StateKind | null;
export const KINDS: readonly Kind[] = ["working", "waiting", "paused", "needs_you", null];

export interface Day {
  /** Unix time in milliseconds. */
  from: number;
  to: number;
}

/** A midnight to the next by the clock on the wall: 23 to 25 hours. */
export function dayBefore(now: number, back: number): Day {
  const midnight = new Date(now);
  midnight.setHours(0, 0, 0, 0);
  midnight.setDate(midnight.getDate() - back);
  const from = midnight.getTime();
  midnight.setDate(midnight.getDate() + 1);
  return { from, to: midnight.getTime() };
}

/** For an axis: every so many hours, by the clock on the wall. */
export function hoursOf(day: Day, step: number): number[] {
  const marks: number[] = [];
  for (let hour = 0; hour < 24; hour += step) marks.push(new Date(day.from).setHours(hour));
  return marks;
}

export interface Segment extends Day {
  kind: Kind;
  sentence: string;
}

/** The whole day up to `now`, without a hole: what is not known is that it did not run. */
export function segments(stretches: readonly Stretch[], day: Day, now: number): Segment[] {
  const end = Math.min(day.to, now);
  const found: Segment[] = [];
  let at = day.from;
  const idle = (to: number) =>
    found.push({ from: at, to, kind: null, sentence: t("history.none") });
  for (const { from_ms, to_ms, kind, summary } of stretches) {
    const to = Math.min(to_ms, end);
    let from = Math.max(from_ms, at);
    if (from >= to) continue;
    if (from - at > SEAM_MS) idle(from);
    else from = at;
    const words = summary === null ? undefined : historySentence(summary, now);
    const sentence = words ?? t(kindWords[kind]);
    const last = found.at(-1);
    if (last?.to === from && last.kind === kind && last.sentence === sentence) last.to = to;
    else found.push({ from, to, kind, sentence });
    at = to;
  }
  if (end - at > SEAM_MS) idle(end);
  return found;
}

/** Milliseconds of each kind. */
export function sums(segments: readonly Segment[]): Map<Kind, number> {
  const sums = new Map<Kind, number>();
  for (const { kind, from, to } of segments) sums.set(kind, (sums.get(kind) ?? 0) + to - from);
  return sums;
}

/** What the bar shows and the table lists: one segment, or several thin ones. */
export interface Part extends Day {
  /** Of the longest. */
  kind: Kind;
  /** The longest first, each sentence once. */
  reasons: { kind: Kind; sentence: string; ms: number }[];
}

export function parts(segments: readonly Segment[]): Part[] {
  const groups: Segment[][] = [];
  let open: Segment[] | null = null;
  for (const segment of segments) {
    const thin = segment.to - segment.from < THIN_MS;
    if (!thin) {
      groups.push([segment]);
      open = null;
    } else if (open !== null && segment.to - open[0]!.from <= TOGETHER_MS) {
      open.push(segment);
    } else {
      open = [segment];
      groups.push(open);
    }
  }
  return groups.map((group) => {
    const reasons = new Map<string, Part["reasons"][number]>();
    for (const { kind, sentence, from, to } of group) {
      const ms = (reasons.get(sentence)?.ms ?? 0) + to - from;
      reasons.set(sentence, { kind, sentence, ms });
    }
    const sorted = [...reasons.values()].sort((one, other) => other.ms - one.ms);
    const { from } = group[0]!;
    return { from, to: group.at(-1)!.to, kind: sorted[0]!.kind, reasons: sorted };
  });
}
