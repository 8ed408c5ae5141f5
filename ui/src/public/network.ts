// What the balancer behind this page says of its network, and of an invitation.

import { t } from "../i18n/index.svelte";
import { bytes, bytesPerSecond, roundMemory } from "../lib/format";
import type { Invited, PublicNetwork } from "../platform/types";

/** What a machine must have, a line for each. */
export function policyWords(policy: PublicNetwork["policy"]): string[] {
  const { ram_bytes, free_disk_bytes, network_bytes_per_second, gpu } = policy;
  const rows: string[] = [];
  if (gpu != null) {
    rows.push(
      t(gpu.apple_silicon_is_enough ? "public.needs.gpu_or_apple" : "public.needs.gpu", {
        size: roundMemory(gpu.own_vram_bytes),
      }),
    );
  }
  if (ram_bytes != null) rows.push(t("public.needs.ram", { size: roundMemory(ram_bytes) }));
  if (free_disk_bytes != null) rows.push(t("public.needs.disk", { size: bytes(free_disk_bytes) }));
  if (network_bytes_per_second != null) {
    rows.push(t("public.needs.rate", { rate: bytesPerSecond(network_bytes_per_second) }));
  }
  return rows;
}

/** The balancer's address: where this page is, without its name. */
export function baseOf(address: URL): string {
  return (address.origin + address.pathname).replace(/\/(join\/?)?$/, "");
}

/** The link that the desktop program opens; null where the page was opened without an invitation. */
export function linkOf(address: URL): string | null {
  const credentials = address.hash.replace(/^#/, "");
  if (!new URLSearchParams(credentials).has("token")) return null;
  const base = baseOf(address);
  return `infera://join?to=${base.replace(/^https:\/\//, "")}&${credentials}`;
}

export async function readNetwork(base: string): Promise<PublicNetwork> {
  const answer = await fetch(`${base}/node/v1/network`);
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  return (await answer.json()) as PublicNetwork;
}

/** Of the protocol between nodes and balancer. */
const VERSION = 3;

/** Why an invitation is of no use, in the node's words for it. */
export type InvitationFault = "cut_off" | "unknown" | "used_up" | "expired" | "revoked";

const FAULTS: Record<string, InvitationFault> = {
  invitation_unknown: "unknown",
  invitation_used_up: "used_up",
  invitation_expired: "expired",
  invitation_revoked: "revoked",
};

/** Characters of a whole token. */
const TOKEN = /^[\w-]{28}$/;

/** What an invitation is worth; null where the balancer does not say. */
export async function readInvitation(
  base: string,
  address: URL,
): Promise<Invited | InvitationFault | null> {
  const token = new URLSearchParams(address.hash.slice(1)).get("token") ?? "";
  if (!TOKEN.test(token)) return "cut_off";
  const answer = await fetch(`${base}/node/v1/invitation`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ version: VERSION, token }),
  });
  const body = (await answer.json()) as Invited | { code: string };
  if (answer.ok) return body as Invited;
  return FAULTS[(body as { code: string }).code] ?? null;
}
