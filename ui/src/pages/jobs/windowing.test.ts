// @vitest-environment node

import { describe, expect, it } from "vitest";
import { missing, pieces, scrollTo, windowed, type Piece } from "./windowing";

describe("the window over the rows", () => {
  it("holds what is in sight with some rows to spare, and never more than there are", () => {
    expect(windowed(0, 360, 36, 100_000, 5)).toEqual({ first: 0, last: 15 });
    expect(windowed(3600, 360, 36, 100_000, 5)).toEqual({ first: 95, last: 115 });
    expect(windowed(3_599_640, 360, 36, 100_000, 5)).toEqual({ first: 99_985, last: 100_000 });
    expect(windowed(0, 360, 36, 3, 5)).toEqual({ first: 0, last: 3 });
    expect(windowed(0, 360, 36, 0, 5)).toEqual({ first: 0, last: 0 });
    // Scrolled further than a list that has become short.
    expect(windowed(90_000, 360, 36, 10, 5)).toEqual({ first: 10, last: 10 });
  });

  it("leaves room for every row that it does not hold", () => {
    const rooms = (all: Piece[]) =>
      all.reduce((sum, piece) => sum + ("gap" in piece ? piece.gap : 1), 0);
    for (const kept of [0, 7, 49, 50, 55, 60, 61, 99, 100, -1]) {
      const found = pieces({ first: 50, last: 60 }, kept, 100);
      expect(rooms(found), `with row ${kept}`).toBe(100);
      const rows = found.filter((piece) => "row" in piece).map((piece) => piece.row);
      expect(rows).toEqual([...new Set(rows)].sort((a, b) => a - b));
      if (kept >= 0 && kept < 100) expect(rows).toContain(kept);
    }
    expect(pieces({ first: 0, last: 0 }, -1, 0)).toEqual([]);
    expect(pieces({ first: 2, last: 4 }, 0, 5)).toEqual([
      { row: 0 },
      { gap: 1 },
      { row: 2 },
      { row: 3 },
      { gap: 1 },
    ]);
  });

  it("scrolls to a row no further than it must", () => {
    expect(scrollTo(3, 0, 360, 36)).toBe(0);
    expect(scrollTo(10, 0, 360, 36)).toBe(36);
    expect(scrollTo(2, 720, 360, 36)).toBe(72);
    expect(scrollTo(25, 720, 360, 36)).toBe(720);
  });

  it("asks for the part with the first hole", () => {
    const has = (index: number) => index < 230;
    expect(missing({ first: 190, last: 230 }, has, 200)).toBeNull();
    expect(missing({ first: 190, last: 240 }, has, 200)).toEqual({ offset: 200, limit: 200 });
    expect(missing({ first: 0, last: 0 }, () => false, 200)).toBeNull();
  });
});
