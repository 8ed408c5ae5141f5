import { cleanup, render, screen } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { app } from "../../lib/state.svelte";
import { toasts } from "../../lib/toasts.svelte";
import { fakePlatform, type Scenario } from "../../platform/fake";
import { firstState, requirements, smallGpu } from "../../platform/fake-data";
import type { Platform, Summary } from "../../platform/types";
import { answerOf, isServed, modelsInOrder, sorted } from "./answer";
import Requirements from "./Requirements.svelte";

let stop = () => {};
let platform: Platform;

beforeEach(() => vi.spyOn(navigator, "languages", "get").mockReturnValue(["en-US"]));
afterEach(() => {
  cleanup();
  stop();
  for (const { id } of toasts.shown) toasts.dismiss(id);
});

async function open(scenario: Scenario) {
  platform = fakePlatform(scenario);
  stop = app.start(platform);
  await vi.waitFor(() => expect(app.state).not.toBeNull());
  render(Requirements);
}

const text = () => document.body.textContent ?? "";

describe("the answer", () => {
  const answer = (summary: Summary, obstacles = firstState(0).obstacles) => {
    const state = firstState(0);
    state.state.summary = summary;
    return answerOf({ ...state, obstacles }).answer;
  };

  it("tells nothing to mend from what passes and from what is in the way", () => {
    const waiting: Summary = { summary: "waiting_for_jobs" };
    expect(answer(waiting)).toBe("no_demand");
    expect(answer(waiting, [])).toBe("clear");
    expect(answer({ summary: "connecting" }, [])).toBe("passing");
    expect(answer({ summary: "reading_hardware" }, [])).toBe("passing");
    expect(answer(waiting, [{ obstacle: "own_use" }, { obstacle: "no_demand" }])).toBe("obstacles");
    expect(answer({ summary: "working", jobs: 1, audits: 0, tokens_per_second: null }, [])).toBe(
      "working",
    );
  });

  it("puts first what blocks, and keeps the order else", () => {
    const rows = sorted([...requirements.slice(0, 3), smallGpu]);
    expect(rows.map(({ id }) => id)).toEqual(["gpu", "network", "ram", "free_disk"]);
  });

  it("knows which model the network serves", () => {
    const state = structuredClone(firstState(0));
    const [first, ...others] = modelsInOrder([...state.installed].reverse());
    expect(first!.in_use).toBe(true);
    expect(isServed(state, first!)).toBe(true);
    state.node!.models[0]!.served = false;
    expect(isServed(state, first!)).toBe(false);
    expect(isServed(state, others[0]!)).toBeNull();
  });
});

describe("the page", () => {
  it.each([
    ["working", "Nothing stands in the way"],
    ["waiting", "Nothing stands in the way"],
    ["restarting", "This passes by itself"],
    ["many-obstacles", "4 things stand in the way, the heaviest first."],
    ["not-served", "The network does not serve Llama 3.2 3B Instruct"],
    ["reading", "Reading your hardware"],
    ["keychain-locked", "The keychain with this node’s key is locked"],
  ] as const)("%s: %s", async (scenario, words) => {
    await open(scenario);
    expect(text()).toContain(words);
  });

  it("checks again and tells what came of it", async () => {
    await open("requirement-failed");
    const call = vi.spyOn(platform, "call");
    const [button] = screen.getAllByText("Check again");
    button!.closest("button")!.click();
    await vi.waitFor(() => expect(toasts.shown.at(-1)?.title).toBe("Checked again"));
    expect(call).toHaveBeenCalledWith("check", null);
    expect(toasts.shown.at(-1)?.text).toBe("One thing is missing that this network asks for.");
  });

  it("mends on the spot what can be", async () => {
    await open("paused");
    const button = [...document.querySelectorAll("li button")].find((button) =>
      button.textContent?.includes("Resume"),
    );
    (button as HTMLButtonElement).click();
    await vi.waitFor(() => expect(text()).toContain("Nothing stands in the way"));
  });
});
