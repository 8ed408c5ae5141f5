import { cleanup, render } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import App from "../../App.svelte";
import { app } from "../../lib/state.svelte";
import { toasts } from "../../lib/toasts.svelte";
import { fakePlatform, refused, type Scenario } from "../../platform/fake";
import type { Platform } from "../../platform/types";
import { path } from "./path.svelte";
import { isDone, lacks, modelToTry, STEPS } from "./steps";

let stop = () => {};
let platform: Platform;
let called: string[] = [];

beforeEach(() => vi.spyOn(navigator, "languages", "get").mockReturnValue(["en-US"]));
afterEach(() => {
  cleanup();
  stop();
  path.forget();
  toasts.shown = [];
});

async function open(scenario: Scenario) {
  platform = fakePlatform(scenario);
  const call = platform.call.bind(platform);
  called = [];
  vi.spyOn(platform, "call").mockImplementation((name, request) => {
    called.push(name);
    return call(name, request);
  });
  stop = app.start(platform);
  render(App);
  await vi.waitFor(() => expect(heading()).toBeTruthy());
}

const heading = () => document.querySelector("h1")?.textContent;
const button = (name: string) =>
  [...document.querySelectorAll<HTMLButtonElement>("button")].find(
    (button) => button.textContent.trim() === name,
  )!;
const box = () => document.querySelector<HTMLInputElement>("input[type=checkbox]")!;
const step = () => path.step;

async function press(name: string) {
  const before = step();
  button(name).click();
  if (["Continue", "Skip", "Back"].includes(name)) {
    await vi.waitFor(() => expect(step()).not.toBe(before));
  }
}

describe("the path", () => {
  it("leads on, back and past each step, and comes back to where it was left", async () => {
    await open("first-start");
    expect(heading()).toBe("Welcome to Infera Node");
    expect(button("Back").disabled).toBe(true);
    for (const next of STEPS.slice(1)) {
      await press("Skip");
      expect(step()).toBe(next);
    }
    await press("Back");
    expect(step()).toBe("model");
    await vi.waitFor(() => expect(document.activeElement?.tagName).toBe("H1"));
    // The window is closed and opened again.
    cleanup();
    path.step = "agree";
    render(App);
    await vi.waitFor(() => expect(heading()).toBe("Which model answers"));
    expect(called).not.toContain("agree");
    expect(called).not.toContain("finish_setup");
  });

  it("does not go on without the person's word or an address", async () => {
    await open("first-no-network");
    button("Continue").click();
    await vi.waitFor(() => expect(document.body.textContent).toContain("Paste an invitation"));
    const field = document.querySelector<HTMLInputElement>("input[type=text]")!;
    field.value = "balancer.example/";
    field.dispatchEvent(new Event("input", { bubbles: true }));
    button("Continue").click();
    await vi.waitFor(() => expect(document.body.textContent).toContain("Tick the box"));
    await vi.waitFor(() => expect(app.state!.settings.balancer).toBe("https://balancer.example"));
    expect(step()).toBe("agree");
    box().click();
    await press("Continue");
    expect(step()).toBe("check");
    // Ticking and going on is no agreement yet.
    expect(called).not.toContain("agree");
  });

  it("says at once whose network an address is, or what is wrong with it", async () => {
    await open("first-no-network");
    box().click();
    const field = document.querySelector<HTMLInputElement>("input[type=text]")!;
    const type = (text: string) => {
      field.value = text;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.dispatchEvent(new Event("change", { bubbles: true }));
    };
    const shows = (text: string) =>
      vi.waitFor(() => expect(document.body.textContent).toContain(text));
    type("nowhere.example");
    await shows("No machine has the network’s name");
    expect(app.state!.settings.balancer).toBeNull();
    type("net.example");
    await shows("This is Example network");
    expect(document.body.textContent).not.toContain("No machine has");
    type("nowhere.example");
    await shows("No machine has the network’s name");
    expect(document.body.textContent).not.toContain("This is Example network");
    // A link, whole and cut off, and a network that takes only those who have one.
    type("infera://join?to=192.168.1.5:8431&pin=BwcHBwcHBw");
    await shows("The invitation is cut off");
    type("closed.example");
    await shows("by invitation only");
    await press("Continue").catch(() => undefined);
    expect(step()).toBe("agree");
    type("nowhere.example");
    await shows("No machine has the network’s name");
    // Who insists is offline, perhaps, and may go on.
    await press("Continue");
    expect(app.state!.settings.balancer).toBe("https://nowhere.example");
  });
});

describe("an invitation that was opened", () => {
  it("stands in the first step, and Continue joins by it", async () => {
    await open("first-invited");
    const shows = (text: string) =>
      vi.waitFor(() => expect(document.body.textContent).toContain(text));
    await shows("This is Anna’s GPUs");
    await shows("Run by Anna, anna@example.org");
    await shows("1 of 2 is here");
    await shows("A trusted node");
    await shows("9 more machines may join by it");
    expect(app.state!.settings.networks).toEqual([]);
    box().click();
    await press("Continue");
    expect(step()).toBe("check");
    expect(app.state!.settings.balancer).toBe("https://192.168.1.5:8431");
    expect(app.state!.settings.networks[0]?.name).toBe("Anna’s GPUs");
    expect(app.state!.invitation).toBeNull();
    await press("Back");
    await shows("This machine is in Anna’s GPUs");
    // Nothing is to be typed again.
    await press("Continue");
    expect(step()).toBe("check");
  });
});

describe("sharing", () => {
  it("begins only at the end, with the model first and the word then", async () => {
    await open("first-measured");
    box().click();
    for (let index = 1; index < STEPS.length; index += 1) await press("Continue");
    await vi.waitFor(() => expect(button("Start sharing")).toBeDefined());
    expect(called.filter((name) => name === "agree" || name === "use_model")).toEqual([]);
    button("Start sharing").click();
    await vi.waitFor(() => expect(app.state!.setup).toEqual({ agreed: true, finished: true }));
    const order = called.filter((name) => ["use_model", "agree", "finish_setup"].includes(name));
    expect(order).toEqual(["use_model", "agree", "finish_setup"]);
    // The next first start asks anew.
    expect([path.step, path.consent]).toEqual(["agree", false]);
  });

  it("asks when the machine may work, and has an answer already", async () => {
    await open("first-measured");
    path.go("try");
    const radio = (name: string) =>
      [...document.querySelectorAll<HTMLLabelElement>("label.choice")]
        .find((label) => label.textContent.includes(name))!
        .querySelector("input")!;
    await vi.waitFor(() => expect(radio("Whenever I’m not playing").checked).toBe(true));
    radio("When I’m away").click();
    await vi.waitFor(() => expect(app.state!.preset).toBe("away"));
    expect(app.state!.settings.rules.away.on).toBe(true);
    expect(called).not.toContain("agree");
  });

  it("cannot begin without a tick, and can be left for later", async () => {
    await open("first-measured");
    for (let index = 1; index < STEPS.length; index += 1) await press("Skip");
    expect(button("Start sharing").disabled).toBe(true);
    expect(document.body.textContent).toContain("You have not agreed yet");
    button("Not now").click();
    await vi.waitFor(() => expect(app.state!.setup).toEqual({ agreed: false, finished: true }));
    expect(called).not.toContain("agree");
  });

  it("does not begin where the model is refused", async () => {
    await open("first-measured");
    box().click();
    path.go("try");
    await vi.waitFor(() => expect(button("Start sharing")?.disabled).toBe(false));
    const real = vi.mocked(platform.call).getMockImplementation()!;
    vi.mocked(platform.call).mockImplementation((name, request) =>
      name === "use_model"
        ? Promise.reject(
            refused({
              why: "model_too_large",
              model: "SmolLM2 135M Instruct",
              missing_bytes: 2 ** 30,
            }),
          )
        : real(name, request),
    );
    button("Start sharing").click();
    await vi.waitFor(() =>
      expect(toasts.shown[0]?.title).toBe(
        "SmolLM2 135M Instruct needs 1\u00a0GB more GPU memory than there is",
      ),
    );
    expect(called).not.toContain("agree");
    expect(app.state!.setup.finished).toBe(false);
  });
});

describe("the measurement", () => {
  it("says how far it is, and shows the first answer", async () => {
    await open("first-measured");
    path.go("try");
    await vi.waitFor(() => expect(button("Measure for 30 seconds")).toBeDefined());
    button("Measure for 30 seconds").click();
    await vi.waitFor(() => expect(document.body.textContent).toContain("into the GPU"));
    await vi.waitFor(() => expect(document.body.textContent).toMatch(/about \d+ s left/), 5000);
    expect(button("Stop")).toBeDefined();
    button("Stop").click();
    await vi.waitFor(() => expect(button("Measure for 30 seconds")).toBeDefined());
  });
});

describe("what is done and what is missing", () => {
  const nothing = { consent: false, model: null };

  it("hangs on the state", async () => {
    await open("first-no-gpu");
    const state = app.state!;
    expect(lacks(state, nothing).map(({ lack }) => lack)).toEqual(["consent", "model"]);
    expect(STEPS.filter((step) => isDone(step, state, nothing))).toEqual([]);
    const offNetwork = { ...state, settings: { ...state.settings, balancer: null } };
    expect(lacks(offNetwork, { consent: true, model: null }).map(({ lack }) => lack)).toEqual([
      "network",
      "model",
    ]);
  });

  it("never takes a model that cannot be used", async () => {
    await open("working");
    const state = app.state!;
    const broken = state.installed.find(({ fault }) => fault !== null)!;
    expect(modelToTry(state, { consent: true, model: broken.path })?.in_use).toBe(true);
    const large = state.installed.map((model) => ({
      ...model,
      fit: { fit: "too_large" as const, missing_bytes: 1 },
    }));
    expect(modelToTry({ ...state, installed: large }, nothing)).toBeNull();
  });
});
