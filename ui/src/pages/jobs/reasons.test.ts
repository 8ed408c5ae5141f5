// @vitest-environment node

import { afterEach, expect, it } from "vitest";
import { locale } from "../../i18n/index.svelte";
import { reasonWords } from "./reasons";

afterEach(() => locale.choose("en", []));

it.each([
  "The lottery chose no audit for this job.",
  "There was no output to check.",
  "No reference nodes could check it in time, so it is not paid as checked work.",
  "The reference nodes disagree, so another one is asked.",
  "A reference node sees a difference that rounding hardly explains, so another one is asked.",
  "It waits for reference nodes: 2 have to check it, and of those with this model 1 are online.",
  "A reference node agree on all 12 vectors.",
  "A reference node agree but for 1 of 73 tokens, where they differ by rounding only.",
  "2 of 3 reference nodes agree on all 73 tokens.",
])("German knows: %s", (english) => {
  locale.choose("de", []);
  const { text, details } = reasonWords(english);
  expect(details).toBeNull();
  expect(text).not.toBe(english);
});

it("what German does not know is for a report", () => {
  locale.choose("de", []);
  expect(reasonWords("Something new.")).toEqual({ text: null, details: "Something new." });
});

it("one node agrees", () => {
  expect(reasonWords("A reference node agree on all 9 tokens.").text).toBe(
    "A reference node agrees on all 9 tokens.",
  );
});
