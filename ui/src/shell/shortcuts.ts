// The keyboard's shortcuts. Settings lists them from here.

import { go, PAGES } from "../lib/route.svelte";
import { app } from "../lib/state.svelte";
import { togglePause } from "./pause";

/** Alt+1 to Alt+9 and Alt+0 go to the pages in their order, Alt+P pauses and resumes. */
export const SHORTCUTS = { page: "Alt+1 … Alt+0", pause: "Alt+P" } as const;

export function shortcuts(event: KeyboardEvent): void {
  if (!event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  // By place, not by letter: Option changes the letters of a Mac.
  const page = /^Digit([0-9])$/.exec(event.code)?.[1];
  // The tenth key of the row has the tenth page.
  if (page !== undefined) go(PAGES[(Number(page) + 9) % 10]!);
  else if (event.code === "KeyP" && app.state !== null) togglePause(app.state);
  else return;
  event.preventDefault();
}
