// What a person chooses above the table, and the query that comes of it.

import type { JobsSort, VerdictStatus, WorkKind } from "../../platform/types";
import type { JobsFilter } from "./list.svelte";

export const SPANS = ["any", "today", "week", "month", "year"] as const;
export type Span = (typeof SPANS)[number];

export interface Choices {
  search: string;
  verdict: VerdictStatus | "any";
  kind: WorkKind | "any";
  span: Span;
}

export const NO_CHOICES: Choices = { search: "", verdict: "any", kind: "any", span: "any" };

export function isFiltering(choices: Choices): boolean {
  return (
    choices.search.trim() !== "" ||
    choices.verdict !== "any" ||
    choices.kind !== "any" ||
    choices.span !== "any"
  );
}

export function queryOf(
  { search, verdict, kind, span }: Choices,
  order: { sort: JobsSort; ascending: boolean },
  now: number,
): JobsFilter {
  return {
    search: search.trim(),
    verdict: verdict === "any" ? null : verdict,
    kind: kind === "any" ? null : kind,
    since_ms: since(span, now),
    until_ms: null,
    ...order,
  };
}

/** Whole days, today among them. */
function since(span: Span, now: number): number | null {
  if (span === "any") return null;
  const date = new Date(now);
  date.setHours(0, 0, 0, 0);
  if (span === "week") date.setDate(date.getDate() - 6);
  if (span === "month") date.setDate(date.getDate() - 29);
  if (span === "year") date.setFullYear(date.getFullYear() - 1);
  return date.getTime();
}
