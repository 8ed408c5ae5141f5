// A change of the devices: at once, and said in words.

import { locale, t } from "../../i18n/index.svelte";
import { attempt, commands } from "../../lib/commands";
import { toasts } from "../../lib/toasts.svelte";
import type { AppState } from "../../platform/types";
import { deviceName, excluding, keyOf, type Devices } from "./choice";

/** True if it went well. */
export async function choose(state: AppState, chosen: Devices): Promise<boolean> {
  const keys = ({ devices }: Devices) => devices.map(keyOf).join();
  if (keys(chosen) === keys(state.settings)) return true;
  const jobs = state.node?.work.length ?? 0;
  const { devices, excluded_adapters } = chosen;
  const done = await attempt(() => commands.change_settings({ devices, excluded_adapters }));
  if (done) {
    toasts.show({
      title: sentence(state, chosen),
      text: jobs === 0 ? null : t("gpu.changed_back", { count: jobs }),
    });
  }
  return done;
}

/** The GPU that works now cannot go on with its job when it is excluded. */
export async function exclude(state: AppState, id: string, never: boolean): Promise<void> {
  const jobs = state.node?.work.length ?? 0;
  const adapter = state.adapters.find((adapter) => adapter.id === id);
  const works = never && adapter?.standing.standing === "chosen";
  const done = await attempt(() => commands.change_settings(excluding(state.settings, id, never)));
  if (done && works && jobs > 0) {
    const title = t("gpu.excluded", { name: adapter.name });
    toasts.show({ title, text: t("gpu.changed_back", { count: jobs }) });
  }
}

function sentence(state: AppState, { devices }: Devices): string {
  const names = devices.map((device) => deviceName(state, device));
  if (names.length === 0) return t("gpu.changed_auto");
  const list = new Intl.ListFormat(locale.tag, { type: "conjunction" }).format(names);
  return t("gpu.changed", { count: names.length, name: list });
}
