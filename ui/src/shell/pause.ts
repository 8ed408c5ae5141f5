// Pausing and resuming, for the state bar and the keyboard.

import { t } from "../i18n/index.svelte";
import { attempt, commands, mendings } from "../lib/commands";
import type { AppState, PauseRequest } from "../platform/types";

/** By the person; a pause that the program takes for a chat is not theirs to end. */
export function isPaused(state: AppState): boolean {
  return (
    state.state.summary.summary === "paused" ||
    state.node?.decision.reason?.reason === "paused" ||
    state.obstacles.some(({ obstacle }) => obstacle === "paused")
  );
}

/** Jobs in progress are still being finished. */
export function isFinishing(state: AppState): boolean {
  const { summary } = state.state;
  return summary.summary === "paused" && summary.finishing;
}

/** A rule of the person's own keeps the node from working, and they may overrule it. Sleep they
 * may not. */
export function isHeld(state: AppState): boolean {
  const { summary } = state.state;
  return summary.summary === "rule" && summary.why.why !== "sleep";
}

/** Until when the person wants work done whatever their rules say. */
export function anywayUntil(state: AppState): number | null {
  return state.node?.anyway_until_ms ?? null;
}

/** No time at all takes the word back, and leaves the jobs that are being worked on alone. */
export const followRules = () => void attempt(() => commands.work_anyway({ seconds: 0 }));

export const workAnyway = () => void attempt(mendings.anyway);

export function togglePause(state: AppState): void {
  void attempt(() => (isPaused(state) ? commands.resume() : commands.pause({})));
}

type Choice = { label: string; hint?: string; onselect: () => void } | "line";

/** What the menu beside the button offers. */
export function pauseChoices(state: AppState): Choice[] {
  const pause = (request: PauseRequest) => () => void attempt(() => commands.pause(request));
  const rules: Choice[] = isHeld(state)
    ? [{ label: t("pause.anyway"), onselect: workAnyway }, "line"]
    : anywayUntil(state) !== null
      ? [{ label: t("pause.follow_rules"), onselect: followRules }, "line"]
      : [];
  const snoozes: Choice[] = [
    ...rules,
    { label: t("pause.15min"), onselect: pause({ seconds: 15 * 60 }) },
    { label: t("pause.1h"), onselect: pause({ seconds: 60 * 60 }) },
    { label: t("pause.4h"), onselect: pause({ seconds: 4 * 60 * 60 }) },
    {
      label: t("pause.tomorrow"),
      hint: t("pause.tomorrow_hint"),
      onselect: pause({ until_tomorrow: true }),
    },
  ];
  if (isFinishing(state)) {
    return [...snoozes, "line", { label: t("pause.now"), onselect: pause({}) }];
  }
  return [
    ...snoozes,
    "line",
    isPaused(state)
      ? { label: t("pause.untimed"), onselect: pause({}) }
      : { label: t("pause.finish"), onselect: pause({ finish_first: true }) },
  ];
}
