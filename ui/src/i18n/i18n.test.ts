// @vitest-environment node

import { describe, expect, it } from "vitest";
import { de } from "./de";
import { en } from "./en";
import { locale, t } from "./index.svelte";

const sources = import.meta.glob<string>(
  ["../**/*.{svelte,ts}", "!./en.ts", "!./de.ts", "!../**/words.ts", "!../**/*.test.ts"],
  { query: "?raw", import: "default", eager: true },
);
const source = Object.values(sources).join("\n");

/** Keys that are put together: `nav.${page}`. */
const composed = [...source.matchAll(/`([a-z_.-]+\.)\$\{[^}]+\}`/g)].map(([, start]) => start!);

describe("the texts", () => {
  it("are all used", () => {
    const unused = Object.keys(en).filter(
      (key) => !source.includes(`"${key}"`) && !composed.some((start) => key.startsWith(start)),
    );
    expect(unused).toEqual([]);
  });

  it("have every key that is asked for", () => {
    const asked = [...source.matchAll(/\bt\(\s*"([^"]+)"/g)].map(([, key]) => key!);
    expect(asked.length).toBeGreaterThan(100);
    expect(asked.filter((key) => !(key in en))).toEqual([]);
  });

  it("have the same keys and the same names in braces in every language", () => {
    expect(Object.keys(de).sort()).toEqual(Object.keys(en).sort());
    const differing = Object.entries(en).filter(
      ([key, text]) => names(text).join() !== names(de[key as keyof typeof de]).join(),
    );
    expect(differing).toEqual([]);
  });

  it("end without an exclamation mark and name no dash for a hyphen", () => {
    const texts = [...Object.values(en), ...Object.values(de)].flatMap((text) =>
      typeof text === "string" ? [text] : Object.values(text),
    );
    expect(texts.filter((text) => /!|--(?!key-file|ca-file)|\.\.\./.test(text))).toEqual([]);
  });
});

describe("the language", () => {
  it("is what the settings say, else the system's first known one", () => {
    locale.choose("de", ["en-US"]);
    expect([locale.language, locale.tag]).toEqual(["de", "de"]);
    locale.choose(null, ["fr-FR", "de-AT", "en-US"]);
    expect([locale.language, locale.tag]).toEqual(["de", "de-AT"]);
    locale.choose(null, ["fr-FR"]);
    expect(locale.language).toBe("en");
    locale.choose("xx", ["de_DE"]);
    expect(locale.language).toBe("de");
  });

  it("chooses one and many, and writes numbers its own way", () => {
    locale.choose("en", []);
    expect(t("unit.tokens", { count: 1 })).toBe("1 token");
    expect(t("unit.tokens", { count: 4200 })).toBe("4,200 tokens");
    locale.choose("de", []);
    expect(t("unit.jobs", { count: 4200 })).toBe("4.200 Aufträge");
  });
});

function names(text: string | object): string[] {
  return [...new Set(JSON.stringify(text).match(/\{\w+\}/g) ?? [])].sort();
}
