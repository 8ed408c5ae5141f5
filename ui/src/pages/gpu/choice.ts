// Which device works, as changes of the settings.

import { t } from "../../i18n/index.svelte";
import type { Adapter, AppState, DeviceSetting, Settings, Unsupported } from "../../platform/types";

/** The settings that say which device works. */
type Devices = Pick<Settings, "device" | "excluded_adapters">;

/** What a device setting is called among the choices. */
export function choiceOf(device: DeviceSetting): string {
  return device.device === "adapter" ? `adapter ${device.id}` : device.device;
}

/** To choose a GPU that was never to be used lifts that. */
export function using(settings: Devices, device: DeviceSetting): Devices {
  const excluded_adapters =
    device.device === "adapter"
      ? settings.excluded_adapters.filter((id) => id !== device.id)
      : settings.excluded_adapters;
  return { device, excluded_adapters };
}

/** A GPU that is never to be used cannot stay chosen by hand. */
export function excluding(settings: Devices, id: string, excluded: boolean): Devices {
  const others = settings.excluded_adapters.filter((other) => other !== id);
  const { device } = settings;
  const wasChosen = device.device === "adapter" && device.id === id;
  return {
    device: excluded && wasChosen ? { device: "auto" } : device,
    excluded_adapters: excluded ? [...others, id] : others,
  };
}

/** Nothing is remembered of a GPU that is gone. */
export function forgetting(settings: Devices, id: string): Devices {
  return excluding(excluding(settings, id, true), id, false);
}

/** Those that a person can choose; one they chose stays among them when it is gone. */
export function choosable(state: AppState): Adapter[] {
  const { device } = state.settings;
  return state.adapters.filter(
    ({ id, standing }) =>
      standing.standing === "chosen" ||
      standing.standing === "available" ||
      (device.device === "adapter" && device.id === id),
  );
}

/** What is set only by the command line; null for what this page offers. */
export function namedDevice(device: DeviceSetting): string | null {
  return "name" in device && typeof device.name === "string" ? device.name : null;
}

/** Why nothing can compute on a GPU, and what to do. */
export function unsupportedWords(why: Unsupported): string {
  switch (why.cause) {
    case "old_driver":
      return t("gpu.cause.old_driver", why);
    case "nvidia_without_vulkan":
      return t("gpu.cause.nvidia_without_vulkan", why);
    case "mesa_without_vulkan":
      return t("gpu.cause.mesa_without_vulkan", why);
    default:
      return t(`gpu.cause.${why.cause}`);
  }
}
