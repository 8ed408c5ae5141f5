// @vitest-environment node

import { afterEach, describe, expect, it } from "vitest";
import { locale } from "../i18n/index.svelte";
import { faultOf, parted } from "./faults";

afterEach(() => locale.choose("en", []));

describe("a fault's message", () => {
  it.each([
    ["There is no model x in the catalogue", "There is no model x in the catalogue"],
    ["error sending request for url (https://net.example/v1)", null],
    ["builder error: relative URL without a base", null],
    [
      "The file /home/mia/jobs.csv was not saved: No such file or directory (os error 2)",
      "The file /home/mia/jobs.csv was not saved",
    ],
    ["The file ends in the middle of tensor blk.11.ffn_up.weight", null],
    ["database disk image is malformed", null],
    ["SHA-256 is 4b1f…, expected b179…", null],
    ["invalid type: string, expected u64 at line 1 column 7", null],
  ])("%s", (message, text) => {
    expect(parted(message)).toEqual({ text, details: text === message ? null : message });
  });

  it("is no sentence of another language", () => {
    locale.choose("de", []);
    expect(parted("There is no such model")).toEqual({
      text: null,
      details: "There is no such model",
    });
    expect(faultOf("There is no such model", "Das geht nicht").text).toBe("Das geht nicht");
  });
});
