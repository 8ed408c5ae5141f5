import { cleanup, render } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import App from "../../App.svelte";
import { app } from "../../lib/state.svelte";
import { fakePlatform } from "../../platform/fake";
import type { Platform } from "../../platform/types";

// A machine that builds something else meanwhile is slow.
vi.setConfig({ testTimeout: 20_000 });

let stop = () => {};
let platform: Platform;

// What jsdom does not have of dialogs.
beforeAll(() => {
  HTMLDialogElement.prototype.showModal ??= function (this: HTMLDialogElement) {
    this.open = true;
  };
  HTMLDialogElement.prototype.close ??= function (this: HTMLDialogElement) {
    this.open = false;
  };
});
beforeEach(() => vi.spyOn(navigator, "languages", "get").mockReturnValue(["en-US"]));
afterEach(() => {
  cleanup();
  stop();
  location.hash = "";
});

const grid = () => document.querySelector<HTMLElement>("[role=grid]");
const rows = () => [...document.querySelectorAll<HTMLElement>("tbody tr.row")];
const place = () => document.activeElement?.getAttribute("aria-rowindex");
const sums = () => document.querySelector(".sums")?.textContent ?? "";

async function open(hash: string) {
  location.hash = hash;
  platform = fakePlatform("waiting");
  stop = app.start(platform);
  render(App);
  await vi.waitFor(() => expect(rows().length).toBeGreaterThan(5), { timeout: 10_000 });
}

describe("the table of jobs", () => {
  it("holds some rows and tells of all, and is walked through by keyboard", async () => {
    await open("#/jobs");
    const user = userEvent.setup();
    expect(grid()?.getAttribute("aria-rowcount")).toBe("4201");
    expect(rows().length).toBeLessThan(60);
    rows()[0]!.focus();
    await user.keyboard("{ArrowDown}{ArrowDown}");
    await vi.waitFor(() => expect(place()).toBe("4"));
    await user.keyboard("{End}");
    await vi.waitFor(() => expect(place()).toBe("4201"));
    await vi.waitFor(() => expect(document.activeElement?.matches("tr:has(time)")).toBe(true));
    expect(rows().length).toBeLessThan(60);
    await user.keyboard("{Enter}");
    await vi.waitFor(() => expect(document.querySelector("dialog h2")).not.toBeNull());
    expect(location.hash).toMatch(/^#\/jobs\/[0-9a-f]+\/1$/);
    expect(document.querySelector("dialog")?.textContent).toContain("4,200 of 4,200");
  });

  it("sorts and filters the whole query, and sums it up", async () => {
    await open("#/jobs");
    const call = vi.spyOn(platform, "call");
    document.querySelector<HTMLElement>("th:last-child button")!.click();
    await vi.waitFor(() =>
      expect(document.querySelector("[aria-sort=descending]")?.textContent).toContain("Points"),
    );
    await vi.waitFor(() => expect(grid()?.getAttribute("aria-busy")).toBe("false"));
    const user = userEvent.setup();
    await user.selectOptions(document.querySelectorAll("select")[1]!, "failed");
    await vi.waitFor(() => expect(sums()).toMatch(/entries\s*0 points/));
    await user.type(document.querySelector("[type=search]")!, "no such model");
    await vi.waitFor(() => expect(sums()).toMatch(/^\s*0 entries/));
    const searches = call.mock.calls.filter(
      ([name, query]) => name === "jobs" && (query as { search: string }).search !== "",
    );
    // Not once a letter.
    expect(searches.length).toBeLessThan(4);
  });

  it("opens the job of an address, and says if there is none", async () => {
    const { jobs } = await fakePlatform("waiting").call("jobs", {
      search: "",
      verdict: "failed",
      kind: null,
      since_ms: null,
      until_ms: null,
      sort: "started",
      ascending: true,
      offset: 0,
      limit: 1,
    });
    await open(`#/jobs/${jobs[0]!.id}`);
    const words = () => document.querySelector("dialog")?.textContent ?? "";
    await vi.waitFor(() => expect(words()).toContain("did not write this"));
    expect(words()).toContain("4,100");
    location.hash = "#/jobs/nonsense";
    await vi.waitFor(() => expect(words()).toContain("no record of this job"));
  });
});

describe("the earnings", () => {
  it("have a sum line that equals the figures above", async () => {
    location.hash = "#/earnings";
    stop = app.start(fakePlatform("waiting"));
    render(App);
    await vi.waitFor(() => expect(document.querySelector("tfoot")).not.toBeNull());
    const figures = [...document.querySelectorAll(".figures .value")]
      .slice(0, 3)
      .map((value) => value.textContent.trim().split(/\s/)[0]);
    const sums = [...document.querySelectorAll("tfoot td")].slice(2).map((td) => td.textContent);
    expect(sums).toEqual(figures);
    expect(document.querySelector("tbody")?.textContent).toContain("Earlier or elsewhere");
  });
});
