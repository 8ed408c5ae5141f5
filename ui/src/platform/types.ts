// What the user interface knows of the program behind it.

import type { ApiError, AppEvent, AppState, Commands, Refusal } from "./bindings";

export type * from "./bindings";

export interface Platform {
  readonly kind: "desktop" | "web" | "fake";
  /** Rejects with a [`CallError`]. */
  call<C extends keyof Commands>(
    name: C,
    request: Commands[C]["request"],
  ): Promise<Commands[C]["answer"]>;
  /** The first event of every stream is the whole state. Returns what ends it. */
  events(listener: (event: AppEvent) => void, lost: (isLost: boolean) => void): () => void;
  /** Copies a model file that a browser has been given. */
  importFile(file: File): Promise<AppState>;
  /** Files dropped on the window, by path; a browser gives `File`s to the page instead. */
  onFileDrop(listener: (paths: string[]) => void): () => void;
  /** The path of a model's file that the person chooses; null if they changed their mind. Only the
   * program's own window can ask for one. */
  chooseModel(): Promise<string | null>;
  /** Where it was saved; null if the person changed their mind. */
  saveText(name: string, text: string): Promise<string | null>;
  /** An address in the browser, or a folder in the file browser. */
  open(target: string): Promise<void>;
}

/** An [`ApiError`], or what keeps the page from asking the program. */
export interface CallError extends Omit<ApiError, "refusal"> {
  refusal: Refusal | { why: "unauthorised" | "unreachable" | "no_folders" | "not_gguf" };
}

export function isCallError(error: unknown): error is CallError {
  return (
    typeof error === "object" &&
    error !== null &&
    typeof (error as CallError).refusal?.why === "string" &&
    typeof (error as CallError).message === "string"
  );
}

/** Whatever was thrown, in the three parts that people are shown. */
export function asCallError(error: unknown): CallError {
  if (isCallError(error)) return { ...error, remedy: error.remedy ?? null };
  const message = error instanceof Error ? error.message : String(error);
  return { refusal: { why: "unreachable" }, message, remedy: null };
}
