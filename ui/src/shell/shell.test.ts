import { cleanup, render, screen } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import App from "../App.svelte";
import { app } from "../lib/state.svelte";
import { toasts } from "../lib/toasts.svelte";
import { fakePlatform, SCENARIOS, type Scenario } from "../platform/fake";
import type { AppState, Platform } from "../platform/types";
import { isFinishing, isPaused, pauseChoices } from "./pause";

let stop = () => {};
let platform: Platform;

beforeEach(() => vi.spyOn(navigator, "languages", "get").mockReturnValue(["en-US"]));
afterEach(() => {
  cleanup();
  stop();
  toasts.spoken = "";
});

// By selector where many are looked at: a role is found only by working out every style.
const sentence = () => document.querySelector("header .sentence")?.textContent;
const toggle = () => document.querySelector<HTMLButtonElement>(".split .main")!;
const items = () => [...document.querySelectorAll<HTMLElement>("[role=menuitem]")];
const name = (button: HTMLElement) =>
  button.querySelector(".both > :not([aria-hidden=true])")?.textContent;
const spoken = () => document.querySelector("[role=status][aria-live=polite]")?.textContent;

async function open(scenario: Scenario) {
  platform = fakePlatform(scenario);
  stop = app.start(platform);
  render(App);
  await vi.waitFor(() => expect(sentence()).toBeTruthy());
}

describe("a link that was opened outside", () => {
  beforeEach(() => {
    // jsdom has no dialogs.
    HTMLDialogElement.prototype.showModal = function () {
      this.open = true;
    };
    HTMLDialogElement.prototype.close = function () {
      this.open = false;
      this.dispatchEvent(new Event("close"));
    };
  });
  const dialog = () => document.querySelector<HTMLDialogElement>("dialog[open]");
  const press = (words: string) =>
    [...dialog()!.querySelectorAll("button")]
      .find((button) => button.textContent?.trim() === words)!
      .click();

  it("is shown with what it leads to, and joins nothing where it is put away", async () => {
    await open("invited");
    await vi.waitFor(() => expect(dialog()?.textContent).toContain("This is Anna’s GPUs"));
    expect(dialog()!.textContent).toContain("Run by Anna");
    press("Cancel");
    await vi.waitFor(() => expect(app.state!.invitation).toBeNull());
    expect(dialog()).toBeNull();
    expect(app.state!.settings.networks).toHaveLength(1);
    // Another one comes while the window is open.
    await app.call("offer_invitation", { address: "infera://join?to=192.168.1.5:8431&pin=BwcHB" });
    await vi.waitFor(() => expect(dialog()?.textContent).toContain("The invitation is cut off"));
  });

  it("joins with one click", async () => {
    await open("invited");
    await vi.waitFor(() => expect(dialog()?.textContent).toContain("This is Anna’s GPUs"));
    press("Join");
    await vi.waitFor(() => expect(app.state!.settings.balancer).toBe("https://192.168.1.5:8431"));
    await vi.waitFor(() => expect(dialog()).toBeNull());
  });
});

describe("the state bar", () => {
  it("pauses and resumes, and speaks each change once without what moves", async () => {
    await open("waiting");
    expect(spoken()).toBe("");
    expect(name(toggle())).toBe("Pause");
    toggle().click();
    await vi.waitFor(() => expect(sentence()).toBe("Paused by you"));
    await vi.waitFor(() => expect(spoken()).toBe("Paused by you"));
    expect(name(toggle())).toBe("Resume");
    toggle().click();
    await vi.waitFor(() => expect(sentence()).toBe("Waiting for jobs"));
  });

  it("offers more ways to pause, by keyboard too", async () => {
    await open("waiting");
    const call = vi.spyOn(platform, "call");
    const user = userEvent.setup();
    const more = document.querySelector<HTMLButtonElement>(".split .more")!;
    for (const [name, request] of [
      ["Snooze for 15 minutes", { seconds: 900 }],
      ["Snooze for 1 hour", { seconds: 3600 }],
      ["Snooze for 4 hours", { seconds: 14_400 }],
      ["Snooze until tomorrow", { until_tomorrow: true }],
    ] as const) {
      more.focus();
      await user.keyboard("{ArrowDown}");
      await vi.waitFor(() => expect(items().length).toBe(5));
      const item = items().find((item) => item.textContent.trim().startsWith(name));
      expect(item, name).toBeDefined();
      item!.focus();
      await user.keyboard("{Enter}");
      await vi.waitFor(() => expect(call).toHaveBeenLastCalledWith("pause", request));
      await vi.waitFor(() => expect(items().length).toBe(0));
    }
  });

  it("obeys the keyboard", async () => {
    await open("waiting");
    const user = userEvent.setup();
    await user.keyboard("{Alt>}p{/Alt}");
    await vi.waitFor(() => expect(sentence()).toBe("Paused by you"));
    await user.keyboard("{Alt>}2{/Alt}");
    await vi.waitFor(() => expect(document.activeElement?.textContent).toBe("GPU"));
    expect(document.activeElement?.tagName).toBe("H1");
    expect(document.title).toBe("GPU · Paused by you");
  });
});

describe("a rule of the owner's", () => {
  const link = (words: string) =>
    [...document.querySelectorAll<HTMLButtonElement>("header .link")].find(
      (link) => link.textContent === words,
    );

  it("is overruled for an hour, and followed again when told to", async () => {
    await open("game");
    const call = vi.spyOn(platform, "call");
    expect(sentence()).toBe("Paused: Hades is running. Goes on when it closes");
    link("Work anyway for an hour")!.click();
    await vi.waitFor(() => expect(call).toHaveBeenCalledWith("work_anyway", { seconds: 3600 }));
    await vi.waitFor(() => expect(sentence()).toBe("Waiting for jobs"));
    expect(document.querySelector("header .remedy")?.textContent).toMatch(
      /Your rules are set aside until \S*.*\d\d:\d\d/,
    );
    link("Follow my rules again")!.click();
    await vi.waitFor(() => expect(call).toHaveBeenCalledWith("work_anyway", { seconds: 0 }));
    await vi.waitFor(() => expect(sentence()).toContain("Hades is running"));
  });

  it("counts down when its reason is gone", async () => {
    await open("game-closed");
    expect(sentence()).toMatch(/^Going on in \d+\ss: Hades has closed$/);
    expect(document.title).toContain("Going on in a moment");
  });
});

describe("the choices of the pause menu", () => {
  const labels = (state: AppState) =>
    pauseChoices(state).map((choice) => (choice === "line" ? "–" : choice.label));

  it("follow the state", async () => {
    await open("working");
    expect(labels(app.state!).at(-1)).toBe("Finish this job, then pause");
    const paused = await platform.call("pause", { finish_first: true });
    expect([isPaused(paused), isFinishing(paused)]).toEqual([true, true]);
    expect(labels(paused).at(-1)).toBe("Pause now");
    const now = await platform.call("pause", {});
    expect(isFinishing(now)).toBe(false);
    expect(labels(now).at(-1)).toBe("Pause until I resume");
  });

  it("begin with the rules where they hold or rest", async () => {
    await open("game");
    expect(labels(app.state!)[0]).toBe("Work anyway for an hour");
    const anyway = await platform.call("work_anyway", { seconds: 3600 });
    expect(labels(anyway)[0]).toBe("Follow my rules again");
    // The person's own pause stands above both.
    const paused = await platform.call("pause", {});
    expect(labels(paused)[0]).toBe("Snooze for 15 minutes");
  });
});

describe("every scenario", () => {
  const shown = SCENARIOS.filter((name) => !name.startsWith("first-") && name !== "unauthorised");
  it.each(shown)("%s is shown", async (scenario) => {
    await open(scenario);
    expect(document.querySelectorAll("main h2").length).toBeGreaterThan(2);
  });

  it("without a key explains where to find one", async () => {
    stop = app.start(fakePlatform("unauthorised"));
    render(App);
    await screen.findByText("infera run --web");
  });

  it("before the first start shows it alone", async () => {
    stop = app.start(fakePlatform("first-start"));
    render(App);
    await screen.findByText("Welcome to Infera Node");
    expect(document.querySelector("nav a, header .sentence")).toBeNull();
  });
});
