// Settings are kept on change: one after the other, each on what the program has then.

import { commands } from "../../lib/commands";
import { toasts } from "../../lib/toasts.svelte";
import { refusalFault, type Fault } from "../../lib/wording";
import { t } from "../../i18n/index.svelte";
import { asCallError, type Settings } from "../../platform/types";

export type SectionId =
  "network" | "work" | "models" | "program" | "browser" | "looks" | "keys" | "help" | "end";

const SHOWN_MS = 2500;

export class Saving {
  /** Where something was kept a moment ago. */
  section = $state<SectionId | null>(null);
  /** By setting. */
  errors = $state<Partial<Record<keyof Settings, Fault>>>({});
  /** Counts up, so that a control goes back to what holds. */
  failures = $state(0);
  #queue: Promise<unknown> = Promise.resolve();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** True if it went well. */
  save<Name extends keyof Settings>(
    section: SectionId,
    name: Name,
    value: Settings[Name],
  ): Promise<boolean> {
    const done = this.#queue.then(() => this.#save(section, name, value));
    this.#queue = done;
    return done;
  }

  async #save<Name extends keyof Settings>(
    section: SectionId,
    name: Name,
    value: Settings[Name],
  ): Promise<boolean> {
    try {
      await commands.change_settings({ [name]: value });
    } catch (error) {
      const { text, details } = refusalFault(asCallError(error));
      const fault = { text: t("settings.not_saved", { message: text }), details };
      this.errors = { ...this.errors, [name]: fault };
      this.failures += 1;
      return false;
    }
    const errors = { ...this.errors };
    delete errors[name];
    this.errors = errors;
    this.section = section;
    toasts.speak(t("settings.saved"));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (this.section = null), SHOWN_MS);
    return true;
  }
}
