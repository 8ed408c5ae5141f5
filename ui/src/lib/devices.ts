// What the node computes on, as far as the owner's rules look at it.

import type { GpuSeen, Held, NodeSnapshot } from "../platform/types";

export interface Device {
  id: string;
  name: string;
  /** Null while nobody looks, and for what is no GPU. */
  seen: GpuSeen | null;
  /** What its own rules say. */
  decision?: { held: Held[] } | null;
}

export function devices(node: NodeSnapshot): Device[] {
  return (node as NodeSnapshot & { devices?: Device[] }).devices ?? [];
}
