// @vitest-environment node

import { expect, it } from "vitest";
import { marks } from "./axis";

it("the marks of an axis never read the same", () => {
  const tenths = (value: number) => value.toFixed(1);
  expect(marks(0, 12, tenths)).toEqual([0, 6, 12]);
  expect(marks(0, 0.1, tenths)).toEqual([0, 0.1]);
  expect(marks(0, 0.01, tenths)).toEqual([0]);
});
