// The last day in figures, and the first answer that was verified.

import { commands } from "../../lib/commands";
import type { JobRow, JobsQuery } from "../../platform/types";

export const DAY_MS = 24 * 60 * 60 * 1000;

const ALL: JobsQuery = {
  search: "",
  verdict: null,
  kind: null,
  since_ms: null,
  until_ms: null,
  sort: "started",
  ascending: false,
  offset: 0,
  limit: 0,
};

export interface Lately {
  jobs: number;
  /** Written for jobs. */
  tokens: number;
  /** Checks of other nodes' answers. */
  audits: number;
  /** Of all time; null before the first. */
  last: JobRow | null;
}

export async function lately(now: number): Promise<Lately> {
  const since_ms = now - DAY_MS;
  const [jobs, audits, newest] = await Promise.all([
    commands.jobs({ ...ALL, kind: "job", since_ms }),
    commands.jobs({ ...ALL, kind: "audit", since_ms }),
    commands.jobs({ ...ALL, kind: "job", limit: 1 }),
  ]);
  return {
    jobs: jobs.count,
    tokens: jobs.total_output_tokens,
    audits: audits.count,
    last: newest.jobs[0] ?? null,
  };
}

/** The first job that reference nodes have found right; null before it, and a day after it. */
export async function firstVerified(now: number): Promise<JobRow | null> {
  const { jobs } = await commands.jobs({
    ...ALL,
    kind: "job",
    verdict: "verified",
    ascending: true,
    limit: 1,
  });
  const first = jobs[0];
  if (first === undefined) return null;
  return now - (first.finished_ms ?? first.started_ms) < DAY_MS ? first : null;
}
