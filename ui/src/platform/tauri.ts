// The program's own window. The only file that knows of Tauri.

import { Channel, invoke } from "@tauri-apps/api/core";
import { getCurrentWebview } from "@tauri-apps/api/webview";
import { asCallError, type AppEvent, type AppState, type Commands, type Platform } from "./types";

export function tauriPlatform(): Platform {
  return {
    kind: "desktop",

    call<C extends keyof Commands>(name: C, request: Commands[C]["request"]) {
      return ask<Commands[C]["answer"]>("call", { name, request });
    },

    events(listener, lost) {
      let ended = false;
      const channel = new Channel<AppEvent>();
      channel.onmessage = (event) => {
        if (!ended) listener(event);
      };
      ask<null>("subscribe", { channel }).then(
        () => lost(false),
        () => lost(true),
      );
      return () => {
        ended = true;
      };
    },

    importFile(): Promise<AppState> {
      return Promise.reject({
        code: "precondition",
        message: "The window imports files by their path",
        remedy: "Drop the file on the window",
      });
    },

    onFileDrop(listener) {
      const unlisten = getCurrentWebview().onDragDropEvent(({ payload }) => {
        if (payload.type === "drop") listener(payload.paths);
      });
      return () => void unlisten.then((stop) => stop());
    },

    saveText: (name, text) => ask<string | null>("save_text", { name, text }),

    chooseModel: () => ask<string | null>("choose_model", {}),

    open: async (target) => {
      await ask<null>("open", { target });
    },
  };
}

async function ask<T>(command: string, args: Record<string, unknown>): Promise<T> {
  try {
    return await invoke<T>(command, args);
  } catch (error) {
    throw asCallError(error);
  }
}
