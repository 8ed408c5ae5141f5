// What components ask of the program: `commands.pause({ seconds: 900 })`.

import type { Commands, JobsQuery } from "../platform/types";
import { asCallError } from "../platform/types";
import { app } from "./state.svelte";
import { toasts } from "./toasts.svelte";
import { refusalWords } from "./wording";

type Asked = {
  [C in keyof Commands]: Commands[C]["request"] extends null
    ? () => Promise<Commands[C]["answer"]>
    : (request: Commands[C]["request"]) => Promise<Commands[C]["answer"]>;
};

/** Each rejects with a `CallError`. */
export const commands = new Proxy({} as Asked, {
  get:
    (_, name) =>
    (request: never = null as never) =>
      app.call(name as keyof Commands, request),
});

/** What can be done about an obstacle on the spot. */
export const mendings = {
  resume: () => commands.resume(),
  anyway: () => commands.work_anyway({ seconds: 3600 }),
  setup: () => commands.finish_setup(false),
  check: () => commands.check(),
  key_file: () => commands.keep_key_in_file(),
};

/** Every job, the newest first, and none of the rows. */
export const ALL_JOBS: JobsQuery = {
  search: "",
  verdict: null,
  kind: null,
  since_ms: null,
  until_ms: null,
  sort: "started",
  ascending: false,
  offset: 0,
  limit: 0,
};

/** For a button: what goes wrong is shown as a message. True if it went well. */
export async function attempt(act: () => Promise<unknown>): Promise<boolean> {
  try {
    await act();
    return true;
  } catch (error) {
    toasts.show({ kind: "error", ...refusalWords(asCallError(error)) });
    return false;
  }
}
