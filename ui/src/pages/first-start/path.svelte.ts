// Where the person is in the first start. Kept over a closed window: a download takes its time.

import { STEPS, type Choices, type Step } from "./steps";

const KEPT = "infera-first-start";

class Path implements Choices {
  step = $state<Step>("agree");
  /** The farthest step that was seen, as its number. */
  farthest = $state(0);
  consent = $state(false);
  model = $state<string | null>(null);

  get index(): number {
    return STEPS.indexOf(this.step);
  }

  read(): void {
    const kept = kept_();
    this.step = STEPS.find((step) => step === kept["step"]) ?? "agree";
    this.farthest = Math.max(this.index, Number(kept["farthest"]) || 0);
    this.consent = kept["consent"] === true;
    this.model = typeof kept["model"] === "string" ? kept["model"] : null;
  }

  go(step: Step): void {
    this.step = step;
    this.farthest = Math.max(this.farthest, this.index);
    this.keep();
  }

  next(): void {
    this.go(STEPS[Math.min(this.index + 1, STEPS.length - 1)]!);
  }

  back(): void {
    this.go(STEPS[Math.max(this.index - 1, 0)]!);
  }

  keep(): void {
    const { step, farthest, consent, model } = this;
    try {
      localStorage.setItem(KEPT, JSON.stringify({ step, farthest, consent, model }));
    } catch {
      // Then it begins anew after a restart.
    }
  }

  /** The next first start begins at its beginning, and asks again. */
  forget(): void {
    try {
      localStorage.removeItem(KEPT);
    } catch {
      // There was nothing kept.
    }
    this.read();
  }
}

export const path = new Path();

function kept_(): Record<string, unknown> {
  try {
    return (JSON.parse(localStorage.getItem(KEPT) ?? "{}") as Record<string, unknown>) ?? {};
  } catch {
    return {};
  }
}
