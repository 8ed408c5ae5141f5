import { readFileSync, writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { de } from "./de";
import { en } from "./en";

/** What the tray, its menu and the notifications say in the window's words. */
const SHARED = /^(summary|start|amount|pause|unit|model_fault|models\.fault\.title)\./;
/** Tests run in `ui/`. */
const FILE = "../src-tauri/words.json";

it("gives the tray its words: run `cargo xtask bindings` after a change", () => {
  const shared = (words: object) =>
    Object.fromEntries(Object.entries(words).filter(([key]) => SHARED.test(key)));
  const now = JSON.stringify({ en: shared(en), de: shared(de) }, null, 2) + "\n";
  if (process.env["INFERA_WRITE_BINDINGS"] !== undefined) writeFileSync(FILE, now);
  expect(readFileSync(FILE, "utf8")).toBe(now);
});
