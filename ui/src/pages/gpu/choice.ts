// Which devices work, as changes of the settings.

import { t } from "../../i18n/index.svelte";
import type { Adapter, AppState, DeviceSetting, Settings, Unsupported } from "../../platform/types";

/** The settings that say which devices work. Without any device the best one does. */
export type Devices = Pick<Settings, "devices" | "excluded_adapters">;

/** What a device setting is called among the choices. */
export function keyOf(device: DeviceSetting): string {
  switch (device.device) {
    case "cpu":
      return "cpu";
    case "adapter":
      return `adapter ${device.id}`;
    case "named":
      return `named ${device.name}`;
  }
}

export function isTicked({ devices }: Devices, device: DeviceSetting): boolean {
  return devices.some((other) => keyOf(other) === keyOf(device));
}

/**
 * A device that works beside the others, or no longer. Where the last one goes, the best one is
 * taken. To choose a GPU that was never to be used lifts that.
 */
export function ticking(settings: Devices, device: DeviceSetting, on: boolean): Devices {
  const others = settings.devices.filter((other) => keyOf(other) !== keyOf(device));
  const lifted = on && device.device === "adapter" ? device.id : null;
  return {
    devices: on ? [...others, device] : others,
    excluded_adapters: settings.excluded_adapters.filter((id) => id !== lifted),
  };
}

/** Beside what works now, also where that was not chosen by hand. */
export function adding(state: AppState, id: string): Devices {
  const { settings } = state;
  const working =
    settings.devices.length > 0
      ? settings
      : {
          ...settings,
          devices: state.adapters
            .filter(({ standing }) => standing.standing === "chosen")
            .map(({ id }): DeviceSetting => ({ device: "adapter", id })),
        };
  return ticking(working, { device: "adapter", id }, true);
}

/** A GPU that is never to be used cannot stay chosen by hand. */
export function excluding(settings: Devices, id: string, excluded: boolean): Devices {
  const others = settings.excluded_adapters.filter((other) => other !== id);
  const without = settings.devices.filter((device) => keyOf(device) !== `adapter ${id}`);
  return {
    devices: excluded ? without : settings.devices,
    excluded_adapters: excluded ? [...others, id] : others,
  };
}

/** Nothing is remembered of a GPU that is gone. */
export function forgetting(settings: Devices, id: string): Devices {
  return excluding(excluding(settings, id, true), id, false);
}

/** Those that a person can choose; one they chose stays among them when it is gone. */
export function choosable(state: AppState): Adapter[] {
  return state.adapters.filter(
    ({ id, standing }) =>
      standing.standing === "chosen" ||
      standing.standing === "available" ||
      isTicked(state.settings, { device: "adapter", id }),
  );
}

/** What is set only by the command line. */
export function namedDevices({ devices }: Devices): string[] {
  return devices.flatMap((device) => (device.device === "named" ? [device.name] : []));
}

/** What a device is called on the screen. */
export function deviceName(state: AppState, device: DeviceSetting): string {
  switch (device.device) {
    case "cpu":
      return t("gpu.choice.cpu");
    case "adapter":
      return state.adapters.find(({ id }) => id === device.id)?.name ?? device.id;
    case "named":
      return t("gpu.choice.named", { name: device.name });
  }
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
