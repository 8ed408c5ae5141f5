// What jsdom lacks.

import { afterEach, vi } from "vitest";

class Silent {
  observe() {}
  unobserve() {}
  disconnect() {}
}

vi.stubGlobal("ResizeObserver", Silent);
vi.stubGlobal("IntersectionObserver", Silent);
vi.stubGlobal("matchMedia", (query: string) => ({
  matches: false,
  media: query,
  addEventListener() {},
  removeEventListener() {},
}));
if ("Element" in globalThis) Element.prototype.scrollIntoView = () => {};
// Its drawing needs a canvas.
vi.mock("uplot", () => ({
  default: class {
    setSize() {}
    setData() {}
    redraw() {}
    destroy() {}
  },
}));

afterEach(() => {
  if (!("sessionStorage" in globalThis)) return;
  sessionStorage.clear();
  history.replaceState(null, "", "/");
});
