import { cleanup, render } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { app } from "../../lib/state.svelte";
import { fakePlatform, type Scenario } from "../../platform/fake";
import Home from "./Home.svelte";

// A machine that builds something else meanwhile is slow.
vi.setConfig({ testTimeout: 20_000 });

let stop = () => {};

beforeEach(() => vi.spyOn(navigator, "languages", "get").mockReturnValue(["en-US"]));
afterEach(() => {
  cleanup();
  stop();
});

async function open(scenario: Scenario) {
  stop = app.start(fakePlatform(scenario));
  await vi.waitFor(() => expect(app.state).not.toBeNull());
  render(Home);
}

const text = () => (document.body.textContent ?? "").replace(/\s+/g, " ");
const figures = () => [...document.querySelectorAll(".day dd")].map((dd) => dd.textContent?.trim());

describe("the first page without a job", () => {
  it("tells what the last day was like, and what the network has", async () => {
    await open("waiting");
    await vi.waitFor(() => expect(figures()[0]).toMatch(/^\d+$/), { timeout: 5000 });
    expect(Number(figures()[0])).toBeGreaterThan(5);
    expect(figures()[3]).toMatch(/ago$/);
    expect(text()).toContain("This network serves 1 model. Yours: Llama 3.2 3B Instruct.");
    expect(text()).not.toContain("Your first verified answer");
  });

  it("tells a newcomer what comes next", async () => {
    await open("empty");
    await vi.waitFor(() => expect(text()).toContain("The network sends a first job"), {
      timeout: 5000,
    });
    expect(document.querySelectorAll("ol .done").length).toBe(1);
  });

  it("makes something of the first verified answer", async () => {
    await open("newcomer");
    await vi.waitFor(() => expect(text()).toContain("Your first verified answer"), {
      timeout: 5000,
    });
    expect(text()).toContain("Llama 3.2 3B Instruct wrote 380 tokens on your machine.");
    expect(document.querySelector(".first a")?.getAttribute("href")).toBe(
      "#/jobs/c0ffee0000000001/1",
    );
  });
});

describe("the day's strip", () => {
  const bar = () => document.querySelector<HTMLElement>('[role="slider"]')!;
  const said = () => bar().getAttribute("aria-valuetext") ?? "";
  const key = (name: string) =>
    bar().dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));

  it("says each part to the arrow keys, sums them up, and lists the same in a table", async () => {
    await open("waiting");
    document.querySelector<HTMLButtonElement>('[aria-label="The day before"]')!.click();
    await vi.waitFor(() => expect(said()).toMatch(/^\d\d:\d\d–\d\d:\d\d: /), { timeout: 5000 });
    key("Home");
    await vi.waitFor(() => expect(said()).toMatch(/^00:00–/));
    const rows = document.querySelectorAll("details tbody tr");
    expect(bar().getAttribute("aria-valuemax")).toBe(String(rows.length - 1));
    expect(said()).toContain(rows[0]!.querySelector("td")!.textContent!.trim());
    key("ArrowRight");
    await vi.waitFor(() => expect(bar().getAttribute("aria-valuenow")).toBe("1"));
    expect(document.querySelector(".tip .span")?.textContent).toContain(
      rows[1]!.querySelector("td")!.textContent!.trim(),
    );
    key("Escape");
    await vi.waitFor(() => expect(document.querySelector(".strip .tip")).toBeNull());
  });

  it("goes back thirty days and no further", async () => {
    await open("waiting");
    const press = (label: string) =>
      document.querySelector<HTMLButtonElement>(`button[aria-label="${label}"]`)!;
    expect(press("The day after").disabled).toBe(true);
    press("The day before").click();
    await vi.waitFor(() =>
      expect(document.querySelector(".days")?.textContent).toContain("Yesterday"),
    );
    await vi.waitFor(() => expect(text()).toMatch(/Worked \d/));
    for (let day = 1; day < 30; day += 1) press("The day before").click();
    await vi.waitFor(() => expect(press("The day before").disabled).toBe(true));
    press("The day after").click();
    await vi.waitFor(() => expect(press("The day before").disabled).toBe(false));
  });

  it("tells what will stand there on a first day", async () => {
    await open("empty");
    await vi.waitFor(() => expect(text()).toContain("What the node does will stand here"), {
      timeout: 5000,
    });
  });
});
