// Networks in words.

import { t } from "../../i18n/index.svelte";
import type { AppState, NetworkSetting, Standing } from "../../platform/types";
import type { NetworkSeen } from "./look-up.svelte";

/** Whether answers are checked, and what is missing for it. */
export function checkingWords({
  checking,
  references,
  references_needed: needed,
}: Pick<NetworkSeen, "checking" | "references" | "references_needed">): string {
  if (checking === "none") return t("networks.checking.none");
  return references < needed
    ? t("networks.checking.waiting", { count: references, needed })
    : t("networks.checking.always", { count: references });
}

/** What an invitation makes of this machine. */
export function standingWords({ trusted, reference }: Standing): string {
  if (reference) return t("networks.standing.reference");
  return t(trusted ? "networks.standing.trusted" : "networks.standing.ordinary");
}

/** Its name; with the address where another network has the same name. */
export function networkName(network: NetworkSetting, all: NetworkSetting[]): string {
  const isTwin = all.some(
    ({ name, address }) => name === network.name && address !== network.address,
  );
  const host = network.address.replace(/^https?:\/\//, "");
  if (network.name === "") return host;
  return isTwin ? `${network.name} (${host})` : network.name;
}

/** The network that the node works for, if it was joined. */
export function networkOf({ settings }: AppState): NetworkSetting | null {
  return settings.networks.find(({ address }) => address === settings.balancer) ?? null;
}
