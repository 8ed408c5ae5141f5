// What a device does, in words and as a mark.

import { t } from "../../i18n/index.svelte";
import { overWords, ruleSentence } from "../../lib/wording";
import type { DeviceStatus, StateKind } from "../../platform/types";

export function markOf(device: DeviceStatus): StateKind {
  const broken = device.models.some(({ engine }) => engine.state === "broken");
  if (device.missing || broken) return "needs_you";
  if (device.jobs + device.audits > 0) return "working";
  return device.reason === null ? "waiting" : "paused";
}

export function doing(device: DeviceStatus, now: number): string {
  if (device.missing) return t("gpu.work.missing");
  if (device.jobs > 0) return t("gpu.work.jobs", { count: device.jobs });
  if (device.audits > 0) return t("gpu.work.audits", { count: device.audits });
  if (device.paused) return t("gpu.work.paused");
  const { reason } = device;
  if (reason?.reason === "rule") {
    return reason.goes_on_ms === null
      ? ruleSentence(reason.why, now)
      : t("summary.rule.goes_on_soon", { over: overWords(reason.why) });
  }
  if (reason !== null) return t("gpu.work.rests");
  for (const { name, engine } of device.models) {
    if (engine.state === "broken") return t("gpu.work.broken", { name });
    if (engine.state === "restarting") return t("gpu.work.restarting", { name });
  }
  const loads = device.models.some(({ engine }) => engine.state !== "ready");
  if (device.models.length > 0 && loads) return t("gpu.work.loading");
  return t("gpu.work.waiting");
}
