// The answer to "Why am I getting no jobs?", and what to read first.

import { modelName } from "../../lib/catalogue.svelte";
import type {
  AppState,
  InstalledModel,
  Mark,
  Obstacle,
  Requirement,
  StateKind,
} from "../../platform/types";

export type Answer =
  /** Nothing to mend: work is there, or will come. */
  | { answer: "working" | "clear" | "no_demand" }
  /** It takes a moment, and no act of the person. */
  | { answer: "passing" }
  | { answer: "obstacles"; obstacles: Obstacle[] };

export function answerOf({ obstacles, state }: AppState): Answer {
  const { summary } = state.summary;
  if (obstacles.length > 0 && obstacles.every(({ obstacle }) => obstacle === "no_demand")) {
    return { answer: "no_demand" };
  }
  if (obstacles.length > 0) return { answer: "obstacles", obstacles };
  switch (summary) {
    case "working":
      return { answer: "working" };
    case "waiting_for_jobs":
    case "waiting_for_audits":
      return { answer: "clear" };
    default:
      return { answer: "passing" };
  }
}

/** How heavy an obstacle is: as a shape. */
export function weight({ obstacle }: Obstacle): StateKind {
  switch (obstacle) {
    case "paused":
    case "own_use":
    case "rule":
      return "paused";
    case "offline":
    case "model_loading":
    case "no_demand":
      return "waiting";
    default:
      return "needs_you";
  }
}

const order: Record<Mark, number> = { fail: 0, warn: 1, pass: 2 };

/** What blocks first. */
export function sorted(rows: readonly Requirement[]): Requirement[] {
  return [...rows].sort((one, other) => order[one.mark] - order[other.mark]);
}

export function count(rows: readonly Requirement[], mark: Mark): number {
  return rows.filter((row) => row.mark === mark).length;
}

/** Those that answer jobs first. */
export function modelsInOrder(models: readonly InstalledModel[]): InstalledModel[] {
  return [...models].sort((one, other) => Number(other.in_use) - Number(one.in_use));
}

/** Null while it is not known. */
export function isServed({ node }: AppState, model: InstalledModel): boolean | null {
  const status = node?.models.find(({ id, name }) =>
    id === null || model.id === null ? name === model.name : id === model.id,
  );
  return model.in_use ? (status?.served ?? null) : null;
}

/** By name, what the network serves; none while it is not known. */
export function offered({ node }: AppState): string[] {
  return (node?.offers ?? []).map(({ name, model }) => modelName(name, model));
}
