// The time that sentences and tables count from, moved on once a second while somebody looks.

import { untrack } from "svelte";

class Clock {
  /** Unix time in milliseconds. */
  now = $state(Date.now());
  /** The same, moved on every ten seconds: enough for a table's "2 min ago". */
  calm = $state(Date.now());

  /** Returns what stops it. */
  run(): () => void {
    const tick = () =>
      untrack(() => {
        if (document.hidden) return;
        this.now = Date.now();
        if (this.now - this.calm >= 10_000) this.calm = this.now;
      });
    const timer = setInterval(tick, 1000);
    document.addEventListener("visibilitychange", tick);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", tick);
    };
  }
}

export const clock = new Clock();
