import { describe, expect, it, vi } from "vitest";
import { refused } from "../../platform/fake";
import { finishedJob } from "../../platform/fake-data";
import type { JobRow, JobsPage, JobsQuery } from "../../platform/types";
import { NO_CHOICES, queryOf } from "./filter";
import { JobList } from "./list.svelte";

const NEWEST = { sort: "started", ascending: false } as const;
const job = (id: number) => finishedJob(`job-${id}`, id * 1000, id * 1000 + 500, 10, 20);

/** A program with so many jobs, the newest first. */
function program(count: number) {
  const jobs = Array.from({ length: count }, (_, index) => job(count - index));
  const asked: JobsQuery[] = [];
  let fails = false;
  return {
    asked,
    jobs,
    add: (...ids: number[]) => jobs.unshift(...ids.map(job).reverse()),
    fail: (now: boolean) => (fails = now),
    ask: async (query: JobsQuery): Promise<JobsPage> => {
      asked.push(query);
      if (fails) throw refused({ why: "history", cause: "other", detail: "" }, "the disk is gone");
      return {
        jobs: jobs.slice(query.offset, query.offset + query.limit),
        count: jobs.length,
        total_micro_points: jobs.reduce((sum, { points }) => sum + points, 0),
        total_input_tokens: jobs.length * 10,
        total_output_tokens: jobs.length * 20,
      };
    },
  };
}

async function opened(source: ReturnType<typeof program>, order: Parameters<typeof queryOf>[1]) {
  const listener = { moved: vi.fn(), replaced: vi.fn() };
  const list = new JobList(source.ask, listener);
  list.open(queryOf(NO_CHOICES, order, 0));
  await vi.waitFor(() => expect(list.stale).toBe(false));
  return { list, listener };
}

const idOf = (row: JobRow | undefined) => row?.id;

describe("the list of jobs", () => {
  it("reads parts as they are wanted, each once, and sums up the whole query", async () => {
    const source = program(5000);
    const { list, listener } = await opened(source, NEWEST);
    expect(listener.replaced).toHaveBeenCalledOnce();
    expect([list.count, list.totals?.total_output_tokens]).toEqual([5000, 100_000]);
    expect(list.row(3000)).toBeUndefined();
    list.want({ first: 2990, last: 3010 });
    await vi.waitFor(() => expect(idOf(list.row(3009))).toBe("job-1991"));
    list.want({ first: 2995, last: 3015 });
    list.want({ first: 0, last: 20 });
    await Promise.resolve();
    expect(source.asked.map(({ offset }) => offset)).toEqual([0, 2800, 3000]);
  });

  it("skips what was scrolled past while it was reading", async () => {
    const source = program(100_000);
    const { list } = await opened(source, NEWEST);
    for (let first = 0; first < 90_000; first += 500) list.want({ first, last: first + 30 });
    await vi.waitFor(() => expect(list.row(89_500)).toBeDefined());
    expect(source.asked.length).toBeLessThan(5);
  });

  it("tells how far the rows in sight have moved when new jobs come", async () => {
    const source = program(1000);
    const { list, listener } = await opened(source, NEWEST);
    list.want({ first: 400, last: 420 });
    await vi.waitFor(() => expect(idOf(list.row(419))).toBe("job-581"));
    source.add(1001, 1002, 1003);
    list.refresh();
    await vi.waitFor(() => expect(listener.moved).toHaveBeenCalledWith(3));
    expect(list.count).toBe(1003);
    expect(idOf(list.row(403))).toBe("job-600");
    // What comes later stands where it is now.
    list.want({ first: 0, last: 20 });
    await vi.waitFor(() => expect(idOf(list.row(0))).toBe("job-1003"));
  });

  it("notices jobs that came between two parts", async () => {
    const source = program(1000);
    const { list, listener } = await opened(source, NEWEST);
    source.add(1001, 1002);
    list.want({ first: 190, last: 210 });
    await vi.waitFor(() => expect(listener.moved).toHaveBeenCalledWith(2));
    expect(idOf(list.row(192))).toBe("job-810");
    expect(idOf(list.row(202))).toBe("job-800");
  });

  it("shows a new verdict where the row stands", async () => {
    const source = program(300);
    const { list, listener } = await opened(source, NEWEST);
    list.want({ first: 0, last: 20 });
    source.jobs[4] = { ...source.jobs[4]!, verdict: "verified" };
    list.refresh();
    await vi.waitFor(() => expect(list.row(4)?.verdict).toBe("verified"));
    expect(listener.moved).not.toHaveBeenCalled();
  });

  it("forgets answers to an earlier filter", async () => {
    const source = program(300);
    const { list, listener } = await opened(source, NEWEST);
    list.open(queryOf({ ...NO_CHOICES, search: "old" }, NEWEST, 0));
    list.open(queryOf({ ...NO_CHOICES, search: "new" }, NEWEST, 0));
    await vi.waitFor(() => expect(list.stale).toBe(false));
    await new Promise((resolve) => setTimeout(resolve));
    expect(listener.replaced).toHaveBeenCalledTimes(2);
    expect(source.asked.at(-1)?.search).toBe("new");
  });

  it("keeps what it has when reading fails, and reads again when asked", async () => {
    const source = program(300);
    const { list } = await opened(source, NEWEST);
    source.fail(true);
    list.refresh();
    await vi.waitFor(() => expect(list.failure?.message).toBe("the disk is gone"));
    expect(idOf(list.row(0))).toBe("job-300");
    source.fail(false);
    list.refresh();
    await vi.waitFor(() => expect(list.failure).toBeNull());
  });
});

describe("the query of the filters", () => {
  it("counts whole days, today among them", () => {
    const now = new Date(2026, 10, 22, 15, 30).getTime();
    const since = (span: typeof NO_CHOICES.span) =>
      queryOf({ ...NO_CHOICES, span }, NEWEST, now).since_ms;
    expect(since("any")).toBeNull();
    expect(since("today")).toBe(new Date(2026, 10, 22).getTime());
    expect(since("week")).toBe(new Date(2026, 10, 16).getTime());
    expect(since("month")).toBe(new Date(2026, 9, 24).getTime());
  });
});
