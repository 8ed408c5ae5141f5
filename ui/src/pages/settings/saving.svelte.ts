// Settings are kept on change: one after the other, each on what the program has then.

import { commands } from "../../lib/commands";
import { toasts } from "../../lib/toasts.svelte";
import { refusalFault, type Fault } from "../../lib/wording";
import { t } from "../../i18n/index.svelte";
import { asCallError, type Rules, type Settings } from "../../platform/types";

export type SectionId =
  | "network"
  | "rules"
  | "work"
  | "models"
  | "program"
  | "browser"
  | "looks"
  | "keys"
  | "help"
  | "end";

type Parts<Path extends string, Whole> = {
  [Name in keyof Whole & string as `${Path}.${Name}`]: Whole[Name];
};

/** What can be kept alone: a setting, or a part of one by its path. */
export type Kept = Settings &
  Parts<"rules", Rules> &
  Parts<"rules.away", Rules["away"]> &
  Parts<"rules.memory", Rules["memory"]> &
  Parts<"rules.gpu", Rules["gpu"]> &
  Parts<"rules.gpu.load", Rules["gpu"]["load"]> &
  Parts<"rules.gpu.memory", Rules["gpu"]["memory"]> &
  Parts<"rules.gpu.heat", Rules["gpu"]["heat"]> &
  Parts<"rules.schedule", Rules["schedule"]>;

const SHOWN_MS = 2500;

/** What is wrong with one part of a rule may be mended by another. */
const areOfOneRule = (one: string, other: string) => {
  const whole = (part: string) => part.split(".").slice(0, -1).join(".");
  return whole(one).includes(".") && whole(one) === whole(other);
};

export class Saving {
  /** Where something was kept a moment ago. */
  section = $state<SectionId | null>(null);
  /** By setting. */
  errors = $state<Partial<Record<keyof Kept | "preset", Fault>>>({});
  /** Counts up, so that a control goes back to what holds. */
  failures = $state(0);
  #queue: Promise<unknown> = Promise.resolve();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** True if it went well. What depends on the value before is worked out when its turn comes. */
  save<Name extends keyof Kept>(
    section: SectionId,
    name: Name,
    value: Kept[Name] | (() => Kept[Name]),
  ): Promise<boolean> {
    return this.act(section, name, () =>
      // The program takes a part's path, too.
      commands.change_settings({
        [name]: typeof value === "function" ? value() : value,
      } as Partial<Settings>),
    );
  }

  /** The same with a command of its own. */
  act(
    section: SectionId,
    name: keyof Kept | "preset",
    keep: () => Promise<unknown>,
  ): Promise<boolean> {
    const done = this.#queue.then(() => this.#keep(section, name, keep));
    this.#queue = done;
    return done;
  }

  async #keep(
    section: SectionId,
    name: keyof Kept | "preset",
    keep: () => Promise<unknown>,
  ): Promise<boolean> {
    try {
      await keep();
    } catch (error) {
      const { text, details } = refusalFault(asCallError(error));
      const fault = { text: t("settings.not_saved", { message: text }), details };
      this.errors = { ...this.errors, [name]: fault };
      this.failures += 1;
      return false;
    }
    this.errors = Object.fromEntries(
      Object.entries(this.errors).filter(([wrong]) => wrong !== name && !areOfOneRule(wrong, name)),
    );
    this.section = section;
    toasts.speak(t("settings.saved"));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (this.section = null), SHOWN_MS);
    return true;
  }
}
