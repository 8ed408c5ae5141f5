// The last day in figures, and the first answer that was verified.

import { ALL_JOBS, commands } from "../../lib/commands";
import type { JobRow } from "../../platform/types";

export const DAY_MS = 24 * 60 * 60 * 1000;

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
    commands.jobs({ ...ALL_JOBS, kind: "job", since_ms }),
    commands.jobs({ ...ALL_JOBS, kind: "audit", since_ms }),
    commands.jobs({ ...ALL_JOBS, kind: "job", limit: 1 }),
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
    ...ALL_JOBS,
    kind: "job",
    verdict: "verified",
    ascending: true,
    limit: 1,
  });
  const first = jobs[0];
  if (first === undefined) return null;
  return now - (first.finished_ms ?? first.started_ms) < DAY_MS ? first : null;
}
