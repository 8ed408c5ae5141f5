// The one store: what the program says comes in here, and components read it.

import { locale } from "../i18n/index.svelte";
import {
  asCallError,
  type AppEvent,
  type AppState,
  type CallError,
  type ChatEvent,
  type Commands,
  type GpuReading,
  type GpuSample,
  type Platform,
} from "../platform/types";
import { merged } from "./samples";

/** How long the speed of the work is remembered. */
const SPEEDS_MS = 60_000;

class App {
  /** Null until the program has answered for the first time. */
  state = $state.raw<AppState | null>(null);
  /** The stream of events has broken; what is shown may be old. */
  lost = $state(false);
  /** Why nothing can be shown at all. */
  failure = $state.raw<CallError | null>(null);
  /** Ten minutes, oldest first. */
  samples = $state.raw<GpuSample[]>([]);
  /** Tokens per second of all jobs in the last minute, about one a second; null without a job. */
  speeds = $state.raw<{ at: number; value: number | null }[]>([]);

  #platform: Platform | null = null;
  #chats = new Map<string, Set<(update: ChatEvent) => void>>();
  #stateEvents = 0;

  get platform(): Platform {
    if (this.#platform === null) throw new Error("app.start has not been called");
    return this.#platform;
  }

  /** Follows a program; returns what ends that. */
  start(platform: Platform): () => void {
    this.#platform = platform;
    locale.choose(null, navigator.languages);
    this.state = null;
    this.failure = null;
    this.lost = false;
    this.samples = [];
    this.speeds = [];
    const stop = platform.events(
      (event) => this.#take(event),
      (isLost) => void this.#connection(isLost),
    );
    void this.#readHistory();
    return stop;
  }

  /** Asks the program for something; its state comes back by itself. Rejects with a `CallError`. */
  async call<C extends keyof Commands>(
    name: C,
    request: Commands[C]["request"],
  ): Promise<Commands[C]["answer"]> {
    const before = this.#stateEvents;
    try {
      const answer = await this.platform.call(name, request);
      // An event that came meanwhile is newer than the answer may be.
      if (isAppState(answer) && this.#stateEvents === before) this.#show(answer);
      return answer;
    } catch (error) {
      const failure = asCallError(error);
      if (failure.refusal.why === "unauthorised") this.failure = failure;
      throw failure;
    }
  }

  /** What comes of one answer of the chat; returns what ends listening. */
  onChat(id: string, listener: (update: ChatEvent) => void): () => void {
    const listeners = this.#chats.get(id) ?? new Set();
    listeners.add(listener);
    this.#chats.set(id, listeners);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#chats.delete(id);
    };
  }

  /** The newest reading of an adapter, unless it is old. */
  reading(adapter: string): GpuReading | null {
    return this.samples.at(-1)?.readings.find((reading) => reading.adapter === adapter) ?? null;
  }

  #take(event: AppEvent): void {
    switch (event.event) {
      case "state":
        this.#stateEvents += 1;
        this.#show(event.state);
        break;
      case "gpu":
        this.samples = merged(this.samples, [event.sample]);
        break;
      case "chat":
        for (const listener of this.#chats.get(event.id) ?? []) listener(event.update);
        break;
    }
  }

  #show(state: AppState): void {
    this.state = state;
    this.failure = null;
    this.#noteSpeed(state, Date.now());
    locale.choose(state.settings.language, [...navigator.languages]);
  }

  #noteSpeed(state: AppState, now: number): void {
    const last = this.speeds.at(-1);
    if (last !== undefined && now - last.at < 900) return;
    const { summary } = state.state;
    const value = summary.summary === "working" ? summary.tokens_per_second : null;
    const kept = this.speeds.filter((speed) => now - speed.at < SPEEDS_MS);
    this.speeds = [...kept, { at: now, value }];
  }

  async #connection(isLost: boolean): Promise<void> {
    const wasLost = this.lost;
    this.lost = isLost;
    if (!isLost) {
      if (wasLost) await this.#readHistory();
      return;
    }
    // The stream does not say why it broke; a question does.
    try {
      await this.call("state", null);
    } catch (error) {
      const failure = asCallError(error);
      if (this.state === null || failure.refusal.why === "unauthorised") this.failure = failure;
    }
  }

  async #readHistory(): Promise<void> {
    try {
      const history = await this.platform.call("gpu_history", null);
      this.samples = merged(history.samples, this.samples);
    } catch {
      // Charts begin empty then; the stream tells what is wrong.
    }
  }
}

export const app = new App();

function isAppState(answer: unknown): answer is AppState {
  return (
    typeof answer === "object" && answer !== null && "obstacles" in answer && "setup" in answer
  );
}
