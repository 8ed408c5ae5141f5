// What the balancer tells, read again and again while somebody looks; and who is signed in.

import { untrack } from "svelte";
import { t, type Key } from "../i18n/index.svelte";
import { en } from "../i18n/en";
import { toasts } from "../lib/toasts.svelte";
import { CallFault, get, type Concern } from "./api";

const PAUSE_MS = 2000;

class Session {
  /** Undefined until it is known, null for nobody. */
  name = $state<string | null | undefined>(undefined);
  network = $state("Infera");
  /** What needs somebody. */
  concerns = $state.raw<Concern[]>([]);
  /** The last call was not answered. */
  lost = $state(false);

  async look(): Promise<void> {
    const told = await this.answered(get<{ name: string; network: string }>("session"));
    if (told === null) return;
    this.name = told.name;
    this.network = told.network;
  }

  /** What a call gives; null where nobody is signed in, or the balancer does not answer. */
  async answered<Answer>(call: Promise<Answer>): Promise<Answer | null> {
    try {
      const answer = await call;
      this.lost = false;
      return answer;
    } catch (error) {
      if (!(error instanceof CallFault)) throw error;
      this.lost = error.code === null;
      if (error.code === "signed_out") this.name = null;
      else if (error.code !== null) throw error;
      return null;
    }
  }
}

export const session = new Session();

/** A reading that is repeated while the page is seen. */
export class Live<Answer> {
  now = $state.raw<Answer | null>(null);
  #read: () => Promise<Answer>;
  #reading = 0;

  /** Call it while a component is made; what `read` reads of its state is read anew when it changes. */
  constructor(read: () => Promise<Answer>, pause = PAUSE_MS) {
    this.#read = read;
    $effect(() => {
      // Its dependencies are what it reads before the first wait.
      const first = read();
      return untrack(() => this.#run(first, pause));
    });
  }

  /** After a change: what is shown is right at once. */
  async refresh(): Promise<void> {
    await this.#take(this.#read());
  }

  #run(first: Promise<Answer>, pause: number): () => void {
    let timer: ReturnType<typeof setTimeout>;
    let ended = false;
    const turn = async (reading: Promise<Answer>) => {
      await this.#take(reading);
      if (!ended) timer = setTimeout(next, pause);
    };
    const next = () => {
      // Nobody sees it: it is read when somebody does.
      if (!document.hidden) void turn(this.#read());
    };
    const seen = () => {
      clearTimeout(timer);
      next();
    };
    void turn(first);
    document.addEventListener("visibilitychange", seen);
    return () => {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }

  async #take(reading: Promise<Answer>): Promise<void> {
    const number = ++this.#reading;
    const answer = await session.answered(reading).catch(() => null);
    // A slow answer never replaces a newer one.
    if (answer !== null && number === this.#reading) this.now = answer;
  }
}

/** A fault in the person's words. */
export function faultWords(error: unknown): string {
  const code = error instanceof CallFault ? error.code : null;
  const key = `operator.fault.${code}`;
  return key in en ? t(key as "operator.fault.other" & Key) : t("operator.fault.other");
}

/** Does something; what went wrong is said over the page. Tells whether it was done. */
export async function attempt(act: () => Promise<unknown>): Promise<boolean> {
  try {
    await act();
    return true;
  } catch (error) {
    if (error instanceof CallFault && error.code === "signed_out") session.name = null;
    else {
      const details = error instanceof Error ? error.message : String(error);
      toasts.show({ kind: "error", title: faultWords(error), details });
    }
    return false;
  }
}
