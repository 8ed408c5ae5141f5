// Which program is behind this window.

import type { Platform } from "./types";

export async function connect(): Promise<Platform> {
  if ("__TAURI_INTERNALS__" in window) return (await import("./tauri")).tauriPlatform();
  if (__FAKE__ && !location.hash.startsWith("#token=")) {
    const { fakePlatform, isScenario } = await import("./fake");
    const asked = new URLSearchParams(location.search).get("fake");
    return fakePlatform(isScenario(asked) ? asked : "working");
  }
  return (await import("./web")).webPlatform();
}
