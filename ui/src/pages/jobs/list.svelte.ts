// The jobs that a filter finds, read a part at a time as they come into sight.

import { decimals } from "../../lib/format";
import {
  asCallError,
  type CallError,
  type JobRow,
  type JobsPage,
  type JobsQuery,
} from "../../platform/types";
import { missing, type Range } from "./windowing";

export type JobsFilter = Omit<JobsQuery, "offset" | "limit">;
export type JobTotals = Omit<JobsPage, "jobs">;

/** Rows of one request. */
const PART = 200;
/** Read again around the window, so that rows that moved a little are found. */
const AROUND = 40;
/** Rows that are remembered. */
const KEPT = 4000;

export function keyOf(job: JobRow): string {
  return `${job.kind} ${job.id} ${job.attempt}`;
}

interface Part {
  offset: number;
  limit: number;
  /** What is remembered is old. */
  again: boolean;
}

interface Listener {
  /** The rows in sight stand so many rows further down than before. */
  moved: (rows: number) => void;
  /** Another filter's rows are here. */
  replaced: () => void;
}

export class JobList {
  /** Of all that the filter finds; null before the first answer. */
  totals = $state.raw<JobTotals | null>(null);
  failure = $state.raw<CallError | null>(null);
  /** The rows are of the filter before. */
  stale = $state(false);
  /** Decimals of the column of points: as many as any row that was read needs, and never fewer
   * while one scrolls. */
  digits = $state(0);

  #rows = $state.raw<ReadonlyMap<number, JobRow>>(new Map());
  #ask: (query: JobsQuery) => Promise<JobsPage>;
  #listener: Listener;
  #filter: JobsFilter | null = null;
  #wanted: Range = { first: 0, last: 0 };
  #again = false;
  /** Counts the filters; an answer to an earlier one comes too late. */
  #turn = 0;
  #reading = false;

  constructor(ask: (query: JobsQuery) => Promise<JobsPage>, listener: Listener) {
    this.#ask = ask;
    this.#listener = listener;
  }

  get count(): number {
    return this.totals?.count ?? 0;
  }

  /** Undefined until it has been read. */
  row(index: number): JobRow | undefined {
    return this.#rows.get(index);
  }

  /** Where the first of the rows that were read and suit stands. */
  find(suits: (job: JobRow) => boolean): number | null {
    for (const [index, job] of this.#rows) if (suits(job)) return index;
    return null;
  }

  /** Begins with another filter or order. */
  open(filter: JobsFilter): void {
    this.#filter = filter;
    this.#turn += 1;
    this.#reading = false;
    this.#again = true;
    this.#wanted = { first: 0, last: 0 };
    this.stale = true;
    void this.#read();
  }

  /** These rows are in sight, or soon will be. */
  want(range: Range): void {
    this.#wanted = range;
    void this.#read();
  }

  /** Jobs have come or have been judged. */
  refresh(): void {
    this.#again = true;
    void this.#read();
  }

  /** One request at a time, and always for what is wanted by then. */
  async #read(): Promise<void> {
    if (this.#reading || this.#filter === null) return;
    this.#reading = true;
    const turn = this.#turn;
    for (let part = this.#next(); part !== null; part = this.#next()) {
      const { again, ...where } = part;
      try {
        const page = await this.#ask({ ...this.#filter, ...where });
        if (turn !== this.#turn) return;
        this.failure = null;
        this.#take(part, page);
        if (!again && page.jobs.length === 0) break;
      } catch (error) {
        if (turn !== this.#turn) return;
        this.failure = asCallError(error);
        this.#again ||= again;
        break;
      }
    }
    this.#reading = false;
  }

  #next(): Part | null {
    if (this.#again) {
      this.#again = false;
      const offset = this.stale ? 0 : Math.max(0, this.#wanted.first - AROUND);
      const most = this.#wanted.last + AROUND - offset;
      return { offset, limit: Math.min(1000, Math.max(PART, most)), again: true };
    }
    const last = Math.min(this.#wanted.last, this.count);
    const hole = missing({ ...this.#wanted, last }, (index) => this.#rows.has(index), PART);
    return hole === null ? null : { ...hole, again: false };
  }

  #take({ offset, again }: Part, { jobs, ...totals }: JobsPage): void {
    const here = new Map(jobs.map((job, index) => [offset + index, job]));
    this.digits = Math.max(
      this.stale ? 0 : this.digits,
      decimals(jobs.map(({ points }) => points)),
      decimals(jobs.map(({ forfeited = 0 }) => forfeited)),
    );
    if (this.stale) {
      this.stale = false;
      this.#rows = here;
      this.totals = totals;
      this.#listener.replaced();
      return;
    }
    const moved = again ? this.#moved(here, totals.count) : this.#added(totals.count);
    const kept = new Map<number, JobRow>();
    // What was read before is still right where it is, unless the whole list has changed.
    if (!again && (moved !== 0 || totals.count === this.count)) {
      const middle = offset + jobs.length / 2;
      const whole = this.#rows.size < KEPT;
      for (const [index, job] of this.#rows) {
        if (whole || Math.abs(index + moved - middle) < KEPT / 2) kept.set(index + moved, job);
      }
    }
    for (const [index, job] of here) kept.set(index, job);
    this.#rows = kept;
    this.totals = totals;
    if (moved === 0) return;
    this.#wanted = { first: this.#wanted.first + moved, last: this.#wanted.last + moved };
    this.#listener.moved(moved);
  }

  /** By how many rows those in sight have moved: the first of them that is found again tells. */
  #moved(here: ReadonlyMap<number, JobRow>, count: number): number {
    const places = new Map([...here].map(([index, job]) => [keyOf(job), index]));
    for (let index = this.#wanted.first; index < this.#wanted.last; index += 1) {
      const job = this.#rows.get(index);
      const place = job === undefined ? undefined : places.get(keyOf(job));
      if (place !== undefined) return place - index;
    }
    return this.#added(count);
  }

  /** New jobs stand on top where the newest come first. */
  #added(count: number): number {
    const newestFirst = this.#filter?.sort === "started" && !this.#filter.ascending;
    return newestFirst ? Math.max(0, count - this.count) : 0;
  }
}
