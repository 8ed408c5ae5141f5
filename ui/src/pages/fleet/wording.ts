// Machines of an account in words.

import { t } from "../../i18n/index.svelte";
import { relativeTime, timeOfDay } from "../../lib/format";
import type { CommandSeen, FleetFault, Machine, StateKind } from "../../platform/types";

export function machineName({ node, report }: Machine): string {
  const name = report?.name ?? "";
  return name === "" ? t("fleet.unnamed", { id: node.slice(0, 8) }) : name;
}

/** What it does, and the mark beside it. */
export function machineState(machine: Machine, now: number): { kind: StateKind; words: string } {
  if (!machine.here) {
    const seen = machine.last_seen_ms;
    const words =
      seen === null ? t("fleet.gone") : t("fleet.gone_since", { time: timeOfDay(seen, now) });
    return { kind: "needs_you", words };
  }
  if (machine.paused !== null) return { kind: "paused", words: machine.paused };
  return machine.running > 0
    ? { kind: "working", words: t("fleet.working") }
    : { kind: "waiting", words: t("fleet.waiting") };
}

/** Of all its devices together. */
export function machineSpeed({ report }: Machine): number {
  return (report?.devices ?? []).reduce((sum, device) => sum + device.tokens_per_second, 0);
}

export function commandWords(seen: CommandSeen, now: number): string {
  return t(`fleet.command.${seen.outcome}`, {
    what: t(`fleet.what.${seen.action.type}`),
    time: relativeTime(seen.at_ms, now),
    id: seen.account.slice(0, 8),
  });
}

export function faultWords(fault: FleetFault): string {
  return t(`fleet.fault.${fault.fault}`);
}
