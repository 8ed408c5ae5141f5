// What each step is about, and what is still missing before anything may be shared.

import type { AppState, InstalledModel } from "../../platform/types";

export const STEPS = ["agree", "check", "gpu", "model", "try"] as const;
export type Step = (typeof STEPS)[number];

export interface Choices {
  /** The box in the first step is ticked. Nothing is shared for it alone. */
  consent: boolean;
  /** The path of the model that was chosen here. */
  model: string | null;
}

export function isUsable(model: InstalledModel): boolean {
  return model.fault === null && model.fit.fit !== "too_large";
}

/** The model that is tried and then shared. */
export function modelToTry(state: AppState, choices: Choices): InstalledModel | null {
  const usable = state.installed.filter(isUsable);
  return (
    usable.find(({ path }) => path === choices.model) ??
    usable.find(({ in_use }) => in_use) ??
    usable[0] ??
    null
  );
}

/** Whether a step has what it is for. */
export function isDone(step: Step, state: AppState, choices: Choices): boolean {
  switch (step) {
    case "agree":
      return (choices.consent || state.setup.agreed) && state.settings.balancer !== null;
    case "check": {
      const rows = state.node?.requirements ?? [];
      return rows.length > 0 && rows.every(({ mark }) => mark !== "fail");
    }
    case "gpu":
      return (
        state.settings.devices.some(({ device }) => device === "cpu") ||
        state.adapters.some(({ standing }) => standing.standing === "chosen")
      );
    case "model":
      return modelToTry(state, choices) !== null;
    case "try": {
      const { benchmark } = state;
      return (
        benchmark?.progress.progress === "done" &&
        benchmark.model === modelToTry(state, choices)?.path
      );
    }
  }
}

export type Lack = "consent" | "network" | "model";

/** What must be there before sharing can begin, and the step that brings it. */
export function lacks(state: AppState, choices: Choices): { lack: Lack; step: Step }[] {
  const found: { lack: Lack; step: Step }[] = [];
  if (!choices.consent && !state.setup.agreed) found.push({ lack: "consent", step: "agree" });
  if (state.settings.balancer === null) found.push({ lack: "network", step: "agree" });
  if (modelToTry(state, choices) === null) found.push({ lack: "model", step: "model" });
  return found;
}
