import { cleanup, render } from "@testing-library/svelte";
import { flushSync } from "svelte";
import { afterEach, expect, it, vi } from "vitest";
import Field from "../components/Field.svelte";
import { createRawSnippet } from "svelte";
import { press } from "./press.svelte";

afterEach(cleanup);

it("what is wrong with a box stays while a button is down, and goes after the click", async () => {
  const stop = press.run();
  const children = createRawSnippet(() => ({ render: () => "<input>" }));
  const { rerender } = render(Field, { label: "Jobs", error: "Too many", children });
  const words = () => document.querySelector(".error")?.textContent ?? null;
  expect(words()).toBe("Too many");

  // A press leaves the box, which is then found right.
  document.body.dispatchEvent(new Event("pointerdown", { bubbles: true }));
  await rerender({ error: null });
  expect(words()).toBe("Too many");
  document.body.dispatchEvent(new Event("pointerup", { bubbles: true }));
  flushSync();
  expect(words()).toBe("Too many");
  await vi.waitFor(() => expect(words()).toBeNull());

  // Nor does it come in between.
  document.body.dispatchEvent(new Event("pointerdown", { bubbles: true }));
  await rerender({ error: "Too few" });
  expect(words()).toBeNull();
  document.body.dispatchEvent(new Event("pointerup", { bubbles: true }));
  await vi.waitFor(() => expect(words()).toBe("Too few"));
  stop();
});
