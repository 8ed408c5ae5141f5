// The conversation. It lives as long as the window does and is written nowhere.

import { t } from "../../i18n/index.svelte";
import { commands } from "../../lib/commands";
import { app } from "../../lib/state.svelte";
import { toasts } from "../../lib/toasts.svelte";
import { modelFaultSentence, refusalWords } from "../../lib/wording";
import { asCallError, type ChatEvent, type ChatMessage } from "../../platform/types";

export interface Failure {
  /** In the chosen language; null where the page has nothing better to say. */
  reason: string | null;
  remedy: string | null;
  /** For a report. */
  details: string | null;
  /** The question was not even taken. */
  refused: boolean;
}

export interface Turn {
  id: string;
  /** The model's name. */
  name: string;
  question: string;
  answer: string;
  /** The model is loaded already, as far as we know. */
  warm: boolean;
  /** Where the answer stands; `asked` until the first sign of it. */
  phase: "asked" | "loading" | "tuning" | "writing" | "done" | "failed";
  /** Of loading or tuning. */
  progress: { done: number; total: number } | null;
  figures: {
    tokens: number;
    tokensPerSecond: number | null;
    firstTokenMs: number;
    cutOff: boolean;
  } | null;
  failure: Failure | null;
}

function refused(error: unknown): Omit<Failure, "refused"> {
  const { title, text, details } = refusalWords(asCallError(error));
  return { reason: title, remedy: text, details };
}

class Chat {
  turns = $state<Turn[]>([]);
  /** Its path; null until one has been chosen here. */
  model = $state<string | null>(null);
  draft = $state("");
  /** The turn that is being answered. */
  running = $state<string | null>(null);
  /** The program holds a model for us. */
  #holds = false;
  /** What it was last heard from. */
  #warm: string | null = null;
  #quit: (() => void) | null = null;
  #count = 0;

  async ask(question: string, name: string): Promise<void> {
    const { model } = this;
    const text = question.trim();
    if (text === "" || model === null || this.running !== null) return;
    // Other windows on the same program ask too.
    const id = `${Date.now().toString(36)}-${(this.#count += 1)}-${Math.random().toString(36).slice(2)}`;
    const messages = [...this.#said(), { role: "user", content: text } satisfies ChatMessage];
    this.turns.push({
      id,
      name,
      question: text,
      answer: "",
      warm: this.#warm === model,
      phase: "asked",
      progress: null,
      figures: null,
      failure: null,
    });
    this.running = id;
    this.#holds = true;
    this.#quit = app.onChat(id, (update) => this.#take(id, update));
    try {
      await commands.chat({ id, model, messages });
    } catch (error) {
      this.#fail(id, { ...refused(error), refused: true });
    }
  }

  /** Asks the last question anew. */
  async again(): Promise<void> {
    const last = this.turns.at(-1);
    if (last === undefined || this.running !== null) return;
    this.turns.pop();
    await this.ask(last.question, last.name);
  }

  /** The answer so far stays. */
  async stop(): Promise<void> {
    const id = this.running;
    if (id === null) return;
    try {
      await commands.stop_chat({ id });
    } catch (error) {
      this.#fail(id, { ...refused(error), refused: false });
    }
  }

  /** The stream of events broke: what the program said meanwhile is gone. */
  broke(): void {
    if (this.running === null) return;
    const reason = t("try.lost");
    this.#fail(this.running, { reason, remedy: null, details: null, refused: false });
  }

  async renew(): Promise<void> {
    await this.stop();
    this.#end();
    this.turns = [];
  }

  /** Gives the GPU back to the jobs. */
  async leave(): Promise<void> {
    if (!this.#holds) return;
    this.#holds = false;
    this.#warm = null;
    await this.stop();
    try {
      await commands.end_chat();
    } catch {
      // It gives the GPU back by itself a little later.
    }
  }

  /** What the model is reminded of: only what was answered. */
  #said(): ChatMessage[] {
    return this.turns.flatMap(({ question, answer }): ChatMessage[] =>
      answer === ""
        ? []
        : [
            { role: "user", content: question },
            { role: "assistant", content: answer },
          ],
    );
  }

  #take(id: string, update: ChatEvent): void {
    const turn = this.turns.find((turn) => turn.id === id);
    if (turn === undefined) return;
    switch (update.chat) {
      case "loading":
        turn.phase = "loading";
        turn.progress = { done: update.done_bytes, total: update.total_bytes };
        break;
      case "tuning":
        turn.phase = "tuning";
        turn.progress = { done: update.done, total: update.total };
        break;
      case "text":
        turn.phase = "writing";
        this.#warm = this.model;
        turn.answer += update.text;
        break;
      case "done":
        turn.phase = "done";
        turn.figures = {
          tokens: update.tokens,
          tokensPerSecond: update.tokens_per_second,
          firstTokenMs: update.first_token_ms,
          cutOff: update.cut_off,
        };
        this.#end();
        // Once, whole: word by word would be noise.
        toasts.speak(t("try.spoken", { text: turn.answer }));
        break;
      case "failed":
        this.#fail(id, {
          reason: modelFaultSentence(update.fault),
          remedy: null,
          details: update.fault.message,
          refused: false,
        });
        break;
    }
  }

  #fail(id: string, failure: Failure): void {
    const turn = this.turns.find((turn) => turn.id === id);
    if (turn !== undefined) {
      turn.phase = "failed";
      turn.failure = failure;
      this.#warm = null;
    }
    this.#end();
  }

  #end(): void {
    this.#quit?.();
    this.#quit = null;
    this.running = null;
  }
}

export const chat = new Chat();
