// @vitest-environment node

import { expect, it } from "vitest";

const sources = import.meta.glob<string>(["../**/*.svelte", "../app.css"], {
  query: "?raw",
  import: "default",
  eager: true,
});

// A box that is placed absolutely, as `sr-only` words are, leaves a box that scrolls unless that is
// placed too: it stood far below the window then, and the whole document scrolled to it.
it("what scrolls holds what is placed in it", () => {
  const open = Object.entries(sources).flatMap(([file, text]) =>
    [...text.matchAll(/\{[^{}]*\boverflow(-[xy])?: (auto|scroll)[^{}]*\}/g)]
      .filter(([rule]) => !/\bposition: (relative|absolute|fixed|sticky)/.test(rule))
      .map(([rule]) => `${file}: ${rule}`),
  );
  expect(open).toEqual([]);
});
