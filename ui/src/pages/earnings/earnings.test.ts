import { cleanup, render } from "@testing-library/svelte";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { app } from "../../lib/state.svelte";
import { fakePlatform, type Scenario } from "../../platform/fake";
import Earnings from "./Earnings.svelte";

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
  render(Earnings);
  await vi.waitFor(() => expect(document.querySelector(".figures")).not.toBeNull());
}

const text = () => document.body.textContent ?? "";

it("a quiet network has an estimate too, and it says of which days", async () => {
  await open("quiet");
  expect(text()).toMatch(/about \d+/);
  expect(text()).toContain("The mean of the last 7 days; an estimate.");
});

it("before the first day it says when there will be one", async () => {
  await open("small-points");
  expect(text()).toContain("After the first whole day");
  const cells = [...document.querySelectorAll("tbody td, tfoot td")].map((td) => td.textContent);
  expect(cells.filter((cell) => cell === "0.05").length).toBe(2);
});

it("what is said of a bar has its room before one points at it", async () => {
  await open("waiting");
  const layers = [...document.querySelectorAll("figcaption .layer")];
  expect(layers.length).toBe(2);
  expect(layers.map((layer) => layer.classList.contains("invisible"))).toEqual([false, true]);
});
