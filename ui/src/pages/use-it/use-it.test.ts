import { describe, expect, it } from "vitest";
import { EXAMPLES, isKeyName, microPoints, NO_KEY, snippet } from "./snippets";

const asking = { address: "https://net.example/v1", model: "llama", key: "sk-1", pinned: false };

describe("the examples", () => {
  it("have address, model and key filled in", () => {
    for (const example of EXAMPLES) {
      const text = snippet(example, asking);
      for (const part of [asking.address, asking.model, asking.key]) expect(text).toContain(part);
      expect(text).not.toContain(".pem");
      expect(snippet(example, { ...asking, key: null })).toContain(NO_KEY);
    }
  });

  it("name the certificate where programs do not know it", () => {
    for (const example of EXAMPLES) {
      expect(snippet(example, { ...asking, pinned: true })).toContain("infera.pem");
    }
  });

  it("send a body that is JSON", () => {
    const body = /--json '(.*)'$/.exec(snippet("curl", asking))?.[1] ?? "";
    expect(JSON.parse(body)).toMatchObject({ model: "llama" });
  });
});

describe("a new key", () => {
  it("has a name that the balancer takes", () => {
    for (const name of ["laptop", "a.b-c_d@e", "x".repeat(64)]) expect(isKeyName(name)).toBe(true);
    for (const name of ["", "my laptop", "ä", "a/b", "x".repeat(65)]) {
      expect(isKeyName(name)).toBe(false);
    }
  });

  it("has a limit in points, to the micro-point", () => {
    const cases = [
      ["", null],
      [" 50 ", 50_000_000],
      ["0,25", 250_000],
      ["1.000001", 1_000_001],
      ["-1", undefined],
      ["ten", undefined],
      ["1.0000001", undefined],
    ] as const;
    for (const [text, micro] of cases) expect(microPoints(text), text).toBe(micro);
  });
});
