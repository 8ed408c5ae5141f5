import { cleanup, render, screen } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
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

describe("what the work costs", () => {
  const card = () => screen.getByRole("region", { name: "What the work costs" });
  const price = () => screen.getByLabelText<HTMLInputElement>("A kilowatt-hour costs");
  const figures = () =>
    Object.fromEntries(
      [...card().querySelectorAll(".figure")].map((figure) => [
        figure.querySelector(".label")?.textContent?.trim().split("What the GPU")[0]!.trim(),
        figure.querySelector(".value")?.textContent?.trim(),
      ]),
    );

  it("is told by day, by tokens and by points, of today, a week and a month", async () => {
    await open("waiting");
    const euros = /^€\d+\.\d\d+$/;
    for (const [span, first] of [
      ["7 days", "Cost per day"],
      ["30 days", "Cost per day"],
      ["Today", "Cost today"],
    ] as const) {
      await userEvent.click(screen.getByLabelText(span));
      expect(Object.keys(figures())).toEqual([
        first,
        "Per 1,000 tokens",
        "Per 100 points",
        "Electricity",
      ]);
      expect(figures()[first]).toMatch(euros);
      expect(figures()["Per 1,000 tokens"]).toMatch(euros);
      expect(figures()["Per 100 points"]).toMatch(euros);
      expect(figures()["Electricity"]).toMatch(/^[\d.,]+\sk?Wh$/);
    }
    expect(card().textContent).toMatch(/of work at 142\sW\. At rest your GPU draws 18\sW/);
  });

  it("is energy alone until somebody tells what a kilowatt-hour costs", async () => {
    await open("no-tariff");
    expect(Object.keys(figures())).toEqual(["Electricity"]);
    expect(card().textContent).toContain("Tell what a kilowatt-hour costs");
    // The money of where the language is from.
    expect(screen.getByLabelText<HTMLSelectElement>("Currency").value).toBe("USD");
    await userEvent.type(price(), "0,30");
    await userEvent.tab();
    await vi.waitFor(() => expect(figures()["Cost per day"]).toMatch(/^\$0\./));
    expect(app.state?.settings.electricity).toEqual({ price_per_kwh: "0.30", currency: "USD" });
    // As it was written.
    expect(price().value).toBe("0.30");
    expect(card().textContent).not.toContain("Tell what a kilowatt-hour costs");
    await userEvent.selectOptions(screen.getByLabelText("Currency"), "JPY");
    await vi.waitFor(() => expect(figures()["Cost per day"]).toMatch(/^¥/));
    await userEvent.clear(price());
    await userEvent.tab();
    await vi.waitFor(() => expect(Object.keys(figures())).toEqual(["Electricity"]));
  });

  it("says what is no price, and Escape takes it back", async () => {
    await open("waiting");
    await userEvent.clear(price());
    await userEvent.type(price(), "cheap");
    await userEvent.tab();
    await vi.waitFor(() => expect(card().textContent).toContain("Write a price such as 0.32"));
    expect(app.state?.settings.electricity.price_per_kwh).toBe("0.32");
    await userEvent.type(price(), "{Escape}");
    expect(price().value).toBe("0.32");
    expect(card().textContent).not.toContain("Write a price");
  });

  it("asks for nothing where no power is reported, and says so", async () => {
    await open("no-power");
    expect(card().textContent).toContain("Not reported by this driver");
    expect(card().textContent).toContain("NVIDIA GeForce RTX 4070");
    expect(card().querySelectorAll("input, select")).toHaveLength(0);
  });

  it("is not measured on the processor", async () => {
    await open("no-gpu");
    expect(card().textContent).toContain("Your processor computes");
    expect(card().querySelectorAll("input, select")).toHaveLength(0);
  });

  it("says what will stand here before there is work", async () => {
    await open("empty");
    expect(card().textContent).toContain("From your first job on");
    expect(price().value).toBe("0.32");
  });
});
