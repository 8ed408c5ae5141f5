// The rows after those that are read again and again.

import { attempt } from "./live.svelte";

interface Part {
  next: number | null;
}

export class More<Row, Answer extends Part> {
  rows = $state.raw<Row[]>([]);
  busy = $state(false);
  /** Where the list goes on; undefined while nothing more was read, null at the end. */
  #next = $state<number | null | undefined>(undefined);

  constructor(
    readonly get: (before: number) => Promise<Answer>,
    readonly rowsOf: (answer: Answer) => Row[],
  ) {}

  /** There is nothing beyond what was read. */
  ends(first: number | null): boolean {
    return (this.#next === undefined ? first : this.#next) === null;
  }

  /** Reads on; `first` is where the first part ended. */
  async read(first: number | null): Promise<void> {
    const before = this.#next ?? first;
    if (before === null) return;
    this.busy = true;
    await attempt(async () => {
      const answer = await this.get(before);
      this.rows = [...this.rows, ...this.rowsOf(answer)];
      this.#next = answer.next;
    });
    this.busy = false;
  }

  forget(): void {
    this.rows = [];
    this.#next = undefined;
  }
}
