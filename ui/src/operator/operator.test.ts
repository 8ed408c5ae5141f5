// What the operators' page makes of what it is told and given.

import { describe, expect, it } from "vitest";
import { locale } from "../i18n/index.svelte";
import { CONDITIONS, type Concern } from "./api";
import { priceOf, priceWords } from "./price";
import { byMinute } from "./series";
import { concernWords, markOf } from "./wording";

describe("a price", () => {
  it.each([
    ["0", 0],
    ["0.4", 400],
    ["0,4", 400],
    [" 1000 ", 1_000_000],
    ["0.0004", 0],
    ["1000.1", null],
    ["-1", null],
    ["1e3", null],
    ["", null],
    ["a", null],
  ])("%s", (text, micro) => expect(priceOf(text)).toBe(micro));

  it.each([
    [0, "0"],
    [1000, "1"],
    [400, "0.4"],
    [250, "0.25"],
    [1, "0.001"],
  ])("of %i micro-points is told to the last digit", (micro, words) => {
    locale.choose("en", []);
    expect(priceWords(micro)).toBe(words);
  });
});

describe("minutes", () => {
  const told = {
    at_ms: [60_000, 180_000],
    jobs: [5, 7],
    tokens: [60, 120],
    first_token_p50_ms: [null, 400],
    first_token_p95_ms: [null, 900],
    nodes: [1, 2],
    waiting: [0, 3],
  };

  it("are one after the other, with gaps where none was written", () => {
    const series = byMinute(told, 180, 240_500);
    expect(series.times).toEqual([60, 120, 180]);
    expect(series.jobs).toEqual([5, null, 7]);
    expect(series.tokens).toEqual([1, null, 2]);
    expect(series.p50).toEqual([null, null, 400]);
  });

  it("end with the last one that was read, if the next has just ended", () => {
    expect(byMinute(told, 120, 300_500).times).toEqual([120, 180]);
    expect(byMinute(told, 120, 360_500).times).toEqual([240, 300]);
  });

  it("are all gaps before anything is known", () => {
    expect(byMinute(null, 120, 240_500).nodes).toEqual([null, null]);
  });
});

describe("what needs somebody", () => {
  const all: Concern[] = [
    { kind: "database", fault: "The disk is full" },
    { kind: "no_models" },
    { kind: "unusable_model", model: "a", fault: "It is broken" },
    { kind: "unserved_model", model: "a" },
    { kind: "few_references", model: "a", here: 1, needed: 2 },
    { kind: "waiting", model: "a", for_reference: true, count: 2, since_ms: 0 },
    { kind: "waiting", model: "a", for_reference: false, count: 1, since_ms: 0 },
    { kind: "role_lost", node: "00", short: "00", fault: "It was wrong", at_ms: 0 },
    { kind: "key_limit", key: "ann", spent_micro: 9e6, limit_micro: 10e6 },
  ];

  it.each(["en", "de"])("has words, a remedy and a place in %s", (language) => {
    locale.choose(language, []);
    for (const concern of all) {
      const { what, remedy, link } = concernWords(concern, 120_000);
      for (const text of [what, remedy, link.label]) {
        expect(text, concern.kind).toBeTruthy();
        expect(text, concern.kind).not.toContain("{");
      }
      expect(link.href).toMatch(/^#\/\w+/);
    }
  });
});

it("every state of a node has a shape", () => {
  for (const state of [...CONDITIONS, "banned", "offline"] as const) {
    expect(markOf(state)).toBeTruthy();
  }
});
