// The same window in a browser: the program's control server on loopback.

import { EventStreamParser } from "./sse";
import {
  isCallError,
  type AppEvent,
  type AppState,
  type CallError,
  type Commands,
  type Platform,
} from "./types";

const BASE = "control/v1";
const TOKEN = "infera-token";
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15_000;
/** The server sends a sign of life every 15 s. */
const SILENCE_MS = 45_000;

export function webPlatform(): Platform {
  const token = takeToken();
  const headers = { Authorization: `Bearer ${token}` };

  return {
    kind: "web",

    call<C extends keyof Commands>(name: C, request: Commands[C]["request"]) {
      return ask<Commands[C]["answer"]>(`${BASE}/${name}`, {
        method: "POST",
        headers: { ...headers, "Content-Type": "application/json" },
        body: JSON.stringify(request),
      });
    },

    events(listener, lost) {
      const end = new AbortController();
      void follow(`${BASE}/events`, headers, listener, lost, end.signal);
      return () => end.abort();
    },

    importFile(file) {
      return ask<AppState>(`${BASE}/models/${encodeURIComponent(file.name)}`, {
        method: "PUT",
        headers: { ...headers, "Content-Type": "application/octet-stream" },
        body: file,
      });
    },

    onFileDrop: () => () => {},

    chooseModel: () => Promise.resolve(null),

    async saveText(name, text) {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
      return name;
    },

    async open(target) {
      if (!/^https?:\/\//.test(target)) {
        throw {
          refusal: { why: "no_folders" },
          message: "A browser cannot open folders of this machine",
          remedy: target,
        } satisfies CallError;
      }
      window.open(target, "_blank", "noopener,noreferrer");
    },
  };
}

/** From the address the first time; out of it at once, for it would be copied with it. */
function takeToken(): string {
  const found = /^#token=([^&]+)/.exec(location.hash)?.[1];
  if (found === undefined) return sessionStorage.getItem(TOKEN) ?? "";
  sessionStorage.setItem(TOKEN, decodeURIComponent(found));
  history.replaceState(null, "", location.pathname + location.search);
  return decodeURIComponent(found);
}

async function ask<T>(path: string, request: RequestInit): Promise<T> {
  const response = await answerTo(path, request);
  return (await response.json()) as T;
}

async function answerTo(path: string, request: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { ...request, cache: "no-store" });
  } catch (error) {
    throw {
      refusal: { why: "unreachable" },
      message: error instanceof Error ? error.message : String(error),
      remedy: null,
    } satisfies CallError;
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response: Response): Promise<CallError> {
  const text = await response.text().catch(() => "");
  if (response.status === 401)
    return { refusal: { why: "unauthorised" }, message: text, remedy: null };
  try {
    const error: unknown = JSON.parse(text);
    if (isCallError(error)) return error;
  } catch {
    // Not written by the program: told as it came.
  }
  const message = `${response.status} ${response.statusText} ${text}`.trim();
  return { refusal: { why: "unreachable" }, message, remedy: null };
}

async function follow(
  path: string,
  headers: Record<string, string>,
  listener: (event: AppEvent) => void,
  lost: (isLost: boolean) => void,
  end: AbortSignal,
): Promise<void> {
  let retry = FIRST_RETRY_MS;
  while (!end.aborted) {
    const silence = new AbortController();
    try {
      const signal = AbortSignal.any([end, silence.signal]);
      const response = await answerTo(path, { headers, signal });
      lost(false);
      await read(response, silence, (event) => {
        retry = FIRST_RETRY_MS;
        try {
          listener(event);
        } catch (error) {
          // A fault of the window's own is none of the connection.
          reportError(error);
        }
      });
    } catch {
      // Lost, whatever the reason; asking again shows whether it lasts.
    }
    if (end.aborted) return;
    lost(true);
    // Many windows shall not come back at one moment.
    await sleep(retry * (0.75 + Math.random() / 2), end);
    retry = Math.min(retry * 2, LONGEST_RETRY_MS);
  }
}

async function read(
  response: Response,
  silence: AbortController,
  listener: (event: AppEvent) => void,
): Promise<void> {
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  const parser = new EventStreamParser();
  for (;;) {
    const timer = setTimeout(() => silence.abort(), SILENCE_MS);
    const { value, done } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    for (const data of parser.push(decoder.decode(value, { stream: true }))) {
      listener(JSON.parse(data) as AppEvent);
    }
  }
}

function sleep(ms: number, end: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    end.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
