// What the balancer tells, in words.

import { t } from "../i18n/index.svelte";
import { absoluteTime, duration, points } from "../lib/format";
import type { StateKind } from "../platform/types";
import type { Concern, OperatorNode } from "./api";
import { address } from "./route.svelte";

interface ConcernWords {
  what: string;
  remedy: string | null;
  link: { href: string; label: string };
}

/** What is wrong, what to do, and where. */
export function concernWords(concern: Concern, now: number): ConcernWords {
  const to = (page: "nodes" | "invitations" | "models" | "keys") => ({
    href: address(page),
    label: t(`operator.concern.open.${page}`),
  });
  switch (concern.kind) {
    case "database":
      return {
        what: t("operator.concern.database", { fault: concern.fault }),
        remedy: t("operator.concern.database.do"),
        link: to("nodes"),
      };
    case "no_models":
      return {
        what: t("operator.concern.no_models"),
        remedy: t("operator.concern.no_models.do"),
        link: to("models"),
      };
    case "unusable_model":
      return {
        what: t("operator.concern.unusable_model", { model: concern.model }),
        remedy: concern.fault,
        link: to("models"),
      };
    case "unserved_model":
      return {
        what: t("operator.concern.unserved_model", { model: concern.model }),
        remedy: t("operator.concern.unserved_model.do"),
        link: to("invitations"),
      };
    case "few_references":
      return {
        what: t("operator.concern.few_references", concern),
        remedy: t("operator.concern.few_references.do"),
        link: to("nodes"),
      };
    case "waiting": {
      const kind = concern.for_reference ? "reference" : "worker";
      const time = duration(Math.max(now - concern.since_ms, 0));
      const { model, count } = concern;
      return {
        what: t(`operator.concern.waiting.${kind}`, { model, count, time }),
        remedy: t(`operator.concern.waiting.${kind}.do`),
        link: to("nodes"),
      };
    }
    case "role_lost":
      return {
        what: t("operator.concern.role_lost", { node: concern.short, fault: concern.fault }),
        remedy: t("operator.concern.role_lost.do"),
        link: { href: address("nodes", concern.node), label: t("operator.concern.open.node") },
      };
    case "key_limit":
      return {
        what: t("operator.concern.key_limit", {
          key: concern.key,
          spent: points(concern.spent_micro),
          limit: points(concern.limit_micro),
        }),
        remedy: t("operator.concern.key_limit.do"),
        link: to("keys"),
      };
  }
}

/** The shape of a node's state. */
export function markOf(state: OperatorNode["state"]): StateKind {
  switch (state) {
    case "working":
      return "working";
    case "waiting":
      return "waiting";
    case "paused":
    case "no_model":
    case "offline":
      return "paused";
    case "unfit":
    case "held_back":
    case "banned":
      return "needs_you";
  }
}

/** Why it is so, beside what it does; null where there is no more to say. */
export function reasonWords(node: OperatorNode): string | null {
  if (node.ban !== null) return node.ban.reason;
  if (node.state === "paused" && node.paused !== null) return node.paused;
  if (node.state === "held_back" && node.held_back_until_ms !== null) {
    return t("operator.held_back_until", { time: absoluteTime(node.held_back_until_ms) });
  }
  if (node.state === "working") return t("operator.state.jobs", { count: node.running });
  return node.gets_no_jobs ? t("operator.gets_no_jobs") : null;
}

export function roleWords({ reference, trusted }: OperatorNode): string {
  const roles = [
    ...(reference ? [t("operator.node.role.reference")] : []),
    ...(trusted ? [t("operator.node.role.trusted")] : []),
  ];
  return roles.join(", ") || t("operator.node.role.worker");
}

/** The beginning of an id, by which people tell nodes and jobs apart. */
export function short(id: string): string {
  return id.slice(0, 8);
}
