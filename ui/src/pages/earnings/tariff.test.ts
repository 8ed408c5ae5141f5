import { expect, it } from "vitest";
import { currencies, currencyHere, named, parsePrice, writePrice } from "./tariff";

it("a price is taken as it was typed, and nothing else is one", () => {
  for (const [text, price] of [
    ["0.32", "0.32"],
    [" 0,30 ", "0.30"],
    ["0", "0"],
    ["1444", "1444"],
    ["", null],
    ["  ", null],
    ["-0.3", undefined],
    ["1.234,5", undefined],
    ["0.1234567", undefined],
    ["1000000000", undefined],
    [".3", undefined],
    ["3.", undefined],
    ["1e3", undefined],
    ["0.32 €", undefined],
  ] as const) {
    expect(parsePrice(text), text).toBe(price);
  }
});

it("a price is written with every digit and the language's own mark", () => {
  expect(writePrice("0.30", "de")).toBe("0,30");
  expect(writePrice("0.30", "en-US")).toBe("0.30");
  expect(writePrice("1444", "de")).toBe("1444");
  expect(writePrice(null, "de")).toBe("");
});

it("the currency is that of the language's country, as far as it tells", () => {
  for (const [tag, code] of [
    ["de", "EUR"],
    ["de-CH", "CHF"],
    ["en-US", "USD"],
    ["en-GB", "GBP"],
    ["en-IE", "EUR"],
    ["fr-XX", "EUR"],
  ] as const) {
    expect(currencyHere(tag), tag).toBe(code);
  }
});

it("the currency in use is offered, whatever it is", () => {
  const offered = currencies("XTS", "en");
  expect(offered.filter(({ value }) => value === "XTS")).toHaveLength(1);
  expect(offered.find(({ value }) => value === "EUR")?.label).toBe("Euro (EUR)");
  expect(currencies("EUR", "de").filter(({ value }) => value === "EUR")).toHaveLength(1);
});

it("several GPUs are named in one sentence", () => {
  expect(named(["One"])).toBe("One");
  expect(named(["One", "Other"])).toBe("One and Other");
});
