// What a page asks the program for, and asks again.

import { asCallError, type CallError } from "../platform/types";

export class Reading<T> {
  /** The last that came; stays when a later try fails. */
  value = $state.raw<T | null>(null);
  failure = $state.raw<CallError | null>(null);
  #ask: () => Promise<T>;
  #asked = 0;
  #answered = 0;

  constructor(ask: () => Promise<T>) {
    this.#ask = ask;
  }

  /** An answer to an earlier question never replaces a later one's. */
  async read(): Promise<void> {
    const order = ++this.#asked;
    try {
      const value = await this.#ask();
      if (order < this.#answered) return;
      this.#answered = order;
      this.value = value;
      this.failure = null;
    } catch (error) {
      if (order >= this.#answered) this.failure = asCallError(error);
    }
  }

  /** A newer answer came by another way. */
  take(value: T): void {
    this.#answered = ++this.#asked;
    this.value = value;
    this.failure = null;
  }

  /** Reads now and then, while somebody looks. Returns what ends it. */
  every(ms: number): () => void {
    void this.read();
    const timer = setInterval(() => {
      if (!document.hidden) void this.read();
    }, ms);
    return () => clearInterval(timer);
  }
}
