// A change of the device: at once, and said in words.

import { t } from "../../i18n/index.svelte";
import { attempt, commands } from "../../lib/commands";
import { toasts } from "../../lib/toasts.svelte";
import type { AppState, DeviceSetting } from "../../platform/types";
import { choiceOf, using } from "./choice";

/** True if it went well. */
export async function choose(state: AppState, device: DeviceSetting): Promise<boolean> {
  if (choiceOf(device) === choiceOf(state.settings.device)) return true;
  const jobs = state.node?.work.length ?? 0;
  const done = await attempt(() => commands.change_settings(using(state.settings, device)));
  if (done) {
    toasts.show({
      title: sentence(state, device),
      text: jobs === 0 ? null : t("gpu.changed_back", { count: jobs }),
    });
  }
  return done;
}

function sentence(state: AppState, device: DeviceSetting): string {
  if (device.device === "cpu") return t("gpu.changed", { name: t("gpu.choice.cpu") });
  if (device.device !== "adapter") return t("gpu.changed_auto");
  const adapter = state.adapters.find(({ id }) => id === device.id);
  return t("gpu.changed", { name: adapter?.name ?? device.id });
}
