// Whether a button or a finger is down. What moves meanwhile takes the click from under it.

import { untrack } from "svelte";

/** A press whose end is never told, as on some scroll bars, holds nothing for longer. */
const LONGEST_MS = 2000;

class Press {
  down = $state(false);
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Returns what stops it. */
  run(): () => void {
    const begin = () => {
      this.down = true;
      this.#upIn(LONGEST_MS);
    };
    // The click comes right after the release.
    const end = () => this.#upIn(0);
    addEventListener("pointerdown", begin, true);
    addEventListener("pointerup", end, true);
    addEventListener("pointercancel", end, true);
    return () => {
      removeEventListener("pointerdown", begin, true);
      removeEventListener("pointerup", end, true);
      removeEventListener("pointercancel", end, true);
      clearTimeout(this.#timer);
      this.down = false;
    };
  }

  #upIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (this.down = false), ms);
  }
}

export const press = new Press();

/** A value that changes only between two presses: for what takes room above a button. */
export function settled<Value>(read: () => Value): { readonly current: Value } {
  let kept = $state.raw(untrack(read));
  $effect.pre(() => {
    const now = read();
    if (!press.down) kept = now;
  });
  return {
    get current() {
      return kept;
    },
  };
}
