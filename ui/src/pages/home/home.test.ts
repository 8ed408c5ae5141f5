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
