import { cleanup, render, screen, within } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Component } from "svelte";
import { app } from "../../lib/state.svelte";
import { fakePlatform, type Scenario } from "../../platform/fake";
import type { Machine } from "../../platform/types";
import UseIt from "../use-it/UseIt.svelte";
import Fleet from "./Fleet.svelte";
import { commandWords, machineName, machineSpeed, machineState } from "./wording";

// A machine that builds something else meanwhile is slow.
vi.setConfig({ testTimeout: 20_000 });

let stop = () => {};

beforeEach(() => {
  vi.spyOn(navigator, "languages", "get").mockReturnValue(["en-US"]);
  HTMLDialogElement.prototype.showModal = function () {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function () {
    this.open = false;
    this.dispatchEvent(new Event("close"));
  };
});
afterEach(() => {
  cleanup();
  stop();
});

async function open(scenario: Scenario, page: Component = Fleet) {
  stop = app.start(fakePlatform(scenario));
  await vi.waitFor(() => expect(app.state).not.toBeNull());
  render(page);
}

const text = () => document.body.textContent?.replace(/\s+/g, " ") ?? "";

describe("without an account", () => {
  it("both pages explain it once and offer one button", async () => {
    for (const page of [Fleet, UseIt] as Component[]) {
      await open("working", page);
      expect(text()).toContain("no name, no password, no mail");
      await userEvent.click(screen.getByRole("button", { name: "Create an account" }));
      await vi.waitFor(() => expect(app.state?.account?.holds_key).toBe(true));
      cleanup();
      stop();
    }
  });

  it("a wrong code and wrong words are said beside their fields", async () => {
    await open("working");
    await userEvent.click(screen.getByRole("button", { name: "I have one already" }));
    await userEvent.type(screen.getByLabelText("Linking code"), "hello");
    await userEvent.click(screen.getByRole("button", { name: "Link this machine" }));
    await screen.findByText(/^This is not a linking code/);
    await userEvent.type(screen.getByLabelText("Or its 24 words"), "abandon");
    await userEvent.click(screen.getByRole("button", { name: "Restore the account" }));
    await screen.findByText(/^An account has 24 words, and this is 1/);
    expect(app.state?.account).toBeNull();
  });
});

describe("the fleet", () => {
  it("shows every machine with its state, its devices and what it earned", async () => {
    await open("account");
    const rack = await screen.findByRole("article", { name: "rack-1" });
    expect(rack.textContent).toMatch(/Working.*96 tokens\/s.*the GPU is hot.*2,841/s);
    const attic = screen.getByRole("article", { name: "attic" });
    expect(attic.textContent).toMatch(/Not here since.*Takes no commands from afar/s);
    expect(screen.getByRole("article", { name: /^workshop/ }).textContent).toContain(
      "This machine",
    );
  });

  it("shows the words only when they are asked for", async () => {
    await open("account");
    expect(text()).not.toContain("orbit");
    await userEvent.click(await screen.findByRole("button", { name: "Show the words" }));
    const list = await screen.findByRole("list", { name: "24 words in their order", hidden: true });
    expect(within(list).getAllByRole("listitem", { hidden: true })).toHaveLength(24);
  });

  it("of a machine whose account is elsewhere is that machine alone", async () => {
    await open("linked");
    expect(text()).toContain("Its key is on another machine");
    expect(text()).toContain("Your account told this machine to resume");
    expect(screen.queryByRole("button", { name: "Link a machine" })).toBeNull();
    expect(screen.queryByRole("button", { name: "Show the words" })).toBeNull();
    screen.getByRole("button", { name: "Unlink" });
  });
});

describe("spending", () => {
  it("shows keys that are in use, and the others when asked for", async () => {
    await open("account", UseIt);
    await screen.findByText("notes");
    expect(text()).toContain("12.4 of 50");
    expect(text()).not.toContain("old-laptop");
    await userEvent.click(screen.getByRole("button", { name: "Show 1 revoked key" }));
    expect(text()).toContain("old-laptop");
  });

  it("offers the certificate where programs do not know it", async () => {
    await open("account-lab", UseIt);
    await screen.findByRole("button", { name: "Save certificate" });
    expect(text()).toContain("--cacert infera.pem");
  });
});

describe("a machine in words", () => {
  const machine: Machine = {
    node: "ab".repeat(32),
    report: null,
    here: true,
    paused: null,
    running: 0,
    verified: 0,
    points: { confirmed: 0, pending: 0, forfeited: 0 },
    last_seen_ms: null,
  };

  it("has a state for each thing that it can be", () => {
    const of = (change: Partial<Machine>) => machineState({ ...machine, ...change }, Date.now());
    expect(of({})).toEqual({ kind: "waiting", words: "Waiting for jobs" });
    expect(of({ running: 2 }).kind).toBe("working");
    expect(of({ paused: "Paused by you" })).toEqual({ kind: "paused", words: "Paused by you" });
    expect(of({ here: false }).words).toBe("Not here");
    expect(machineName(machine)).toBe("Machine abababab");
    expect(machineSpeed(machine)).toBe(0);
  });

  it("says of a command who gave it and what became of it", () => {
    const now = Date.now();
    const seen = {
      at_ms: now - 60_000,
      account: "cd".repeat(32),
      action: { type: "pause" },
    } as const;
    expect(commandWords({ ...seen, outcome: "done" }, now)).toContain("told this machine to pause");
    expect(commandWords({ ...seen, outcome: "forged" }, now)).toContain("account cdcdcdcd");
    for (const outcome of ["not_allowed", "stale", "replayed"] as const) {
      expect(commandWords({ ...seen, outcome }, now)).toContain("pause");
    }
  });
});
