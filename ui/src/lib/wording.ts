// State, obstacles and requirements in the words of the chosen language.

import { say, t, type Key } from "../i18n/index.svelte";
import { modelName } from "./catalogue.svelte";
import type {
  Amount,
  CallError,
  Gpu,
  ModelFault,
  Obstacle,
  Requirement,
  RequirementId,
  StartFault,
  State,
  Summary,
  Unreachable,
  Why,
  WordsFault,
} from "../platform/types";
import type { Page } from "./route.svelte";
import { bytes, bytesPerSecond, roundMemory, timeOfDay, tokensPerSecond } from "./format";

export interface Fault {
  text: string;
  /** For a report. */
  details: string | null;
}

/** What the program refused, what to do, and the line for a report. */
export function refusalWords(error: CallError): {
  title: string;
  text: string | null;
  details: string | null;
} {
  const { refusal, message } = error;
  const isWhole = WHOLE.includes(refusal.why);
  return {
    title: refusalSentence(refusal),
    text: remedyWords(error),
    details: isWhole || message === "" ? null : message,
  };
}

/** The same in one line, where there is little room. */
export function refusalFault(error: CallError): Fault {
  const { title, text, details } = refusalWords(error);
  return { text: [title, text].filter(Boolean).join(". "), details };
}

/** Whose sentence leaves nothing out. */
const WHOLE: readonly CallError["refusal"]["why"][] = [
  "no_such_model",
  "no_network",
  "no_certificate",
  "has_account",
  "no_account",
  "account_elsewhere",
  "key_is_here",
  "account_words",
  "link",
  "no_such_device",
  "starting",
  "ending",
  "key_has_place",
  "model_too_large",
  "jobs_at_once",
  "away_minutes",
  "out_of_range",
  "no_hours",
  "no_download_rate",
  "address_not_opened",
];

function wordsSentence(fault: WordsFault): string {
  switch (fault.fault) {
    case "count":
      return t("words.count", { count: fault.found });
    case "unknown":
      return t("words.unknown", { place: fault.place, word: fault.word, nearest: fault.nearest });
    case "checksum":
      return t("words.checksum");
  }
}

function refusalSentence(refusal: CallError["refusal"]): string {
  switch (refusal.why) {
    case "not_started":
      return startSentence(refusal.fault);
    case "history":
      return t(`refused.history.${refusal.cause}`);
    case "library":
      return t(`refused.library.${refusal.cause}`);
    case "network_address":
      return t(`refused.address.${refusal.fault}`);
    case "invitation":
      return t(`invitation.${refusal.fault}`);
    case "network_silent":
      return unreachableSentence(refusal.reason);
    case "too_many_networks":
      return t("refused.too_many_networks", { most: refusal.most });
    case "account":
      return t(`refused.account.${refusal.fault}`);
    case "account_words":
      return wordsSentence(refusal.fault);
    case "link":
      return t(`link.${refusal.fault.fault}`);
    case "model_broken":
      return t("obstacle.model_broken", {
        model: modelName(refusal.model),
        reason: t(`model_fault.${refusal.fault.cause}`),
      });
    case "model_too_large":
      return t("refused.model_too_large", {
        model: modelName(refusal.model),
        size: roundMemory(refusal.missing_bytes),
      });
    case "jobs_at_once":
      return t("refused.jobs_at_once", { asked: refusal.asked });
    case "away_minutes":
    case "out_of_range":
      return t(`refused.${refusal.why}`, { asked: refusal.asked });
    default:
      return t(`refused.${refusal.why}`);
  }
}

/** What the person can do about it. */
export function remedyWords({ refusal, remedy }: CallError): string | null {
  switch (refusal.why) {
    case "not_started":
      return startRemedy(refusal.fault);
    case "jobs_at_once":
      return t("refused.remedy.jobs_at_once", { most: refusal.most });
    case "away_minutes":
      return t("refused.remedy.away_minutes", { most: refusal.most });
    case "out_of_range":
      return t("refused.remedy.out_of_range", { least: refusal.least, most: refusal.most });
    case "model_broken":
      return t("remedy.models_broken");
    case "no_folders":
      return remedy;
    case "no_network":
    case "has_account":
    case "no_account":
    case "account_elsewhere":
    case "key_is_here":
    case "starting":
    case "key_has_place":
    case "model_too_large":
    case "no_hours":
    case "no_download_rate":
    case "not_removed":
    case "not_saved":
    case "address_not_opened":
      return t(`refused.remedy.${refusal.why}`);
    default:
      return null;
  }
}

/** Why a model does not answer, as a sentence of its own. */
export function modelFaultSentence(fault: ModelFault): string {
  return upperFirst(t(`model_fault.${fault.cause}`));
}

function upperFirst(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** State and reason in one sentence. */
export function stateSentence(state: State, now: number): string {
  return summarySentence(state.summary, now) ?? state.sentence;
}

/** The same without what changes every second: for the document's title and for speech. */
export function steadySentence(state: State, now: number): string {
  const { summary } = state;
  switch (summary.summary) {
    case "working":
      return summarySentence({ ...summary, tokens_per_second: null }, now) ?? state.sentence;
    case "rule":
      return summary.goes_on_ms === null
        ? stateSentence(state, now)
        : t("summary.rule.goes_on_soon", { over: overWords(summary.why) });
    case "loading":
    case "tuning":
    case "unreachable":
    case "restarting":
      return t(kindWords[state.kind]);
    default:
      return stateSentence(state, now);
  }
}

/** What the person can do about it; null where there is nothing to do. */
export function stateRemedy(state: State): string | null {
  const { summary } = state;
  switch (summary.summary) {
    case "low_disk":
      return t("remedy.low_disk", { size: bytes(summary.resume_above_bytes) });
    case "requirement_failed":
      return requirementRemedy(summary.requirement);
    case "turned_away":
      return t(`remedy.turned_away.${summary.why}`);
    case "rule":
      // The sentence says for all others when the node goes on.
      return neverOpens(summary.why) ? t("remedy.rule.hours_never") : null;
    case "outdated":
    case "not_agreed":
    case "no_balancer":
    case "storage_fault":
    case "no_model":
    case "models_broken":
    case "not_served":
      return t(remedies[summary.summary]);
    case "cannot_start":
      return startRemedy(summary.fault);
    default:
      return state.remedy;
  }
}

/** Why there is no node. */
function startSentence(fault: StartFault): string {
  return t(`start.${fault.fault}`);
}

export function startRemedy(fault: StartFault): string {
  return t(fault.fault === "other" ? "remedy.cannot_start" : `remedy.${fault.fault}`);
}

export function requirementTitle(requirement: Requirement): string {
  return t(requirementTitles[requirement.id]);
}

export function requirementRemedy(row: Requirement): string | null {
  if (row.mark === "pass") return null;
  if (row.id === "gpu") {
    if (row.mark === "warn") return t("remedy.gpu_memory_unknown");
    const gpus = row.found.amount === "gpus" ? row.found.gpus : [];
    const software = gpus.every(({ kind }) => kind === "software");
    return t(software ? "remedy.no_gpu" : "remedy.gpu_too_small");
  }
  return t(row.mark === "warn" ? "remedy.not_measured" : requirementRemedies[row.id]);
}

/** What a requirement asks for, or what was found. */
export function amountWords(amount: Amount): string {
  switch (amount.amount) {
    case "unknown":
      return t("amount.unknown");
    case "memory":
      return roundMemory(amount.bytes);
    case "disk":
      return bytes(amount.bytes);
    case "rate":
      return bytesPerSecond(amount.bytes_per_second);
    case "vram":
      return t(amount.or_apple_silicon ? "amount.vram_or_apple" : "amount.vram", {
        size: roundMemory(amount.bytes),
      });
    case "gpus":
      return amount.gpus.map(gpuWords).join(", ") || t("amount.none");
  }
}

function gpuWords({ name, kind, vram_bytes }: Gpu): string {
  if (kind === "software") return t("amount.gpu.software", { name });
  if (kind === "integrated") return t("amount.gpu.integrated", { name });
  if (vram_bytes !== null) return t("amount.gpu.vram", { name, size: roundMemory(vram_bytes) });
  return kind === "apple_silicon" ? name : t("amount.gpu.unknown", { name });
}

export function obstacleSentence(obstacle: Obstacle, now: number): string {
  switch (obstacle.obstacle) {
    case "not_agreed":
      return t("obstacle.not_agreed");
    case "no_balancer":
      return t("obstacle.no_balancer");
    case "cannot_start":
      return startSentence(obstacle.fault);
    case "paused":
      return obstacle.until_ms === null
        ? t("obstacle.paused")
        : t("obstacle.paused_until", { time: timeOfDay(obstacle.until_ms, now) });
    case "own_use":
      return t("obstacle.own_use");
    case "rule": {
      const { key, values } = rule(obstacle.why, now);
      return say(`obstacle.rule.${key}`, values);
    }
    case "offline":
      return unreachableSentence(obstacle.reason);
    case "turned_away":
      return t(`obstacle.turned_away.${obstacle.why}`);
    case "outdated":
      return t("obstacle.outdated");
    case "requirement":
      return t("obstacle.requirement", {
        title: requirementTitle(obstacle.requirement),
        found: amountWords(obstacle.requirement.found),
        need: amountWords(obstacle.requirement.need),
      });
    case "storage_fault":
      return t("obstacle.storage_fault");
    case "low_disk":
      return t("obstacle.low_disk", { free: bytes(obstacle.free_bytes) });
    case "no_model":
      return t("obstacle.no_model");
    case "model_broken":
      return t("obstacle.model_broken", {
        model: modelName(obstacle.model),
        reason: t(`model_fault.${obstacle.fault.cause}`),
      });
    case "model_loading":
      return t("obstacle.model_loading", { model: modelName(obstacle.model) });
    case "model_not_served":
      return t("obstacle.model_not_served", { model: modelName(obstacle.model) });
    case "no_demand":
      return t("obstacle.no_demand");
  }
}

/** The program's own line about it, for a report. */
export function obstacleDetails(obstacle: Obstacle): string | null {
  switch (obstacle.obstacle) {
    case "cannot_start":
      return obstacle.fault.fault === "other" ? obstacle.fault.message : null;
    case "offline":
      return unreachableDetails(obstacle.reason);
    case "outdated":
    case "storage_fault":
      return obstacle.message;
    case "model_broken":
      return obstacle.fault.message;
    default:
      return null;
  }
}

export function obstacleRemedy(obstacle: Obstacle): string | null {
  switch (obstacle.obstacle) {
    case "cannot_start":
      return startRemedy(obstacle.fault);
    case "requirement":
      return requirementRemedy(obstacle.requirement);
    case "low_disk":
      return t("remedy.low_disk", { size: bytes(obstacle.resume_above_bytes) });
    case "model_broken":
      return t("remedy.models_broken");
    case "model_not_served":
      return t("remedy.not_served");
    case "turned_away":
      return t(`remedy.turned_away.${obstacle.why}`);
    case "rule": {
      if (obstacle.goes_on_ms !== null) return t("remedy.rule.goes_on");
      const { key, values } = rule(obstacle.why, 0);
      return say(`remedy.rule.${key}`, values);
    }
    case "offline":
      return t(offlineRemedies[obstacle.reason.why] ?? "remedy.offline");
    default:
      return t(remedies[obstacle.obstacle]);
  }
}

/** Where an obstacle is mended: a page, or what can be done on the spot. */
export type Mending =
  | { words: Key; page: Page }
  | { words: Key; act: "resume" | "anyway" | "setup" | "check" | "key_file" };

export function obstacleMending(obstacle: Obstacle): Mending | null {
  switch (obstacle.obstacle) {
    case "not_agreed":
      return { words: "obstacle.act.first_start", act: "setup" };
    case "paused":
      return { words: "obstacle.act.resume", act: "resume" };
    case "own_use":
      return { words: "obstacle.act.try_it", page: "try-it" };
    case "rule":
      if (neverOpens(obstacle.why)) return { words: "obstacle.act.settings", page: "settings" };
      return obstacle.why.why === "sleep" ? null : { words: "pause.anyway", act: "anyway" };
    case "cannot_start":
      return obstacle.fault.fault === "keychain_missing"
        ? { words: "obstacle.act.key_file", act: "key_file" }
        : { words: "obstacle.act.check", act: "check" };
    case "no_balancer":
    case "outdated":
      return { words: "obstacle.act.settings", page: "settings" };
    case "requirement":
      return { words: "obstacle.act.requirements", page: "requirements" };
    case "storage_fault":
    case "low_disk":
    case "no_model":
    case "model_broken":
    case "model_not_served":
      return { words: "obstacle.act.models", page: "models" };
    case "offline":
    case "turned_away":
    case "model_loading":
    case "no_demand":
      return null;
  }
}

export const kindWords = {
  working: "state.working",
  waiting: "state.waiting",
  paused: "state.paused",
  needs_you: "state.needs_you",
} as const satisfies Record<State["kind"], Key>;

const requirementTitles = {
  ram: "requirement.ram",
  free_disk: "requirement.free_disk",
  network: "requirement.network",
  gpu: "requirement.gpu",
} as const satisfies Record<RequirementId, Key>;

const requirementRemedies = {
  ram: "remedy.ram",
  free_disk: "remedy.free_disk",
  network: "remedy.network",
} as const;

const remedies = {
  outdated: "remedy.outdated",
  not_agreed: "remedy.not_agreed",
  no_balancer: "remedy.no_balancer",
  storage_fault: "remedy.storage_fault",
  no_model: "remedy.no_model",
  models_broken: "remedy.models_broken",
  not_served: "remedy.not_served",
  paused: "remedy.paused",
  own_use: "remedy.own_use",
  model_loading: "remedy.model_loading",
  no_demand: "remedy.no_demand",
} as const satisfies Record<string, Key>;

const offlineRemedies: Partial<Record<Unreachable["why"], Key>> = {
  host_not_found: "remedy.offline.address",
  nobody_listens: "remedy.offline.address",
  not_a_network: "remedy.offline.address",
  plain_http: "remedy.offline.plain_http",
  certificate: "remedy.offline.certificate",
  certificate_changed: "remedy.offline.certificate_changed",
  failing: "remedy.offline.failing",
};

export function unreachableSentence(reason: Unreachable): string {
  switch (reason.why) {
    case "failing":
    case "not_a_network":
      return t(`unreachable.${reason.why}`, { status: reason.status });
    default:
      return t(`unreachable.${reason.why}`);
  }
}

/** A library's or the network's own words, for a report. */
export function unreachableDetails(reason: Unreachable): string | null {
  return "detail" in reason ? reason.detail : null;
}

/** Undefined for what a newer program may say. */
function summarySentence(summary: Summary, now: number): string | undefined {
  switch (summary.summary) {
    case "reading_hardware":
      return t("summary.reading_hardware");
    case "cannot_start":
      return startSentence(summary.fault);
    case "outdated":
      return t("summary.outdated");
    case "not_agreed":
      return t("summary.not_agreed");
    case "no_balancer":
      return t("summary.no_balancer");
    case "closing":
      return t("summary.closing");
    case "paused": {
      if (summary.until_ms === null) {
        return t(summary.finishing ? "summary.finishing" : "summary.paused");
      }
      const time = timeOfDay(summary.until_ms, now);
      return summary.finishing
        ? t("summary.finishing_until", { time })
        : t("summary.paused_until", { time });
    }
    case "own_use":
      return t("summary.own_use");
    case "rule": {
      if (summary.goes_on_ms === null) return ruleSentence(summary.why, now);
      const seconds = Math.ceil((summary.goes_on_ms - now) / 1000);
      const over = overWords(summary.why);
      return seconds > 0
        ? t("summary.rule.goes_on", { seconds, over })
        : t("summary.rule.goes_on_soon", { over });
    }
    case "storage_fault":
      return t("summary.storage_fault");
    case "models_broken":
      return t("summary.models_broken", { reason: t(`model_fault.${summary.fault.cause}`) });
    case "low_disk":
      return t("summary.low_disk", { free: bytes(summary.free_bytes) });
    case "requirement_failed": {
      const sentence = shortfall(summary.requirement);
      return summary.finishing ? t("summary.after_job", { sentence }) : sentence;
    }
    case "no_model":
      return t("summary.no_model");
    case "unreachable": {
      const seconds = Math.ceil((summary.retry_at_ms - now) / 1000);
      return seconds > 0
        ? t("summary.unreachable", { balancer: summary.balancer, seconds })
        : t("summary.unreachable_now", summary);
    }
    case "turned_away":
      return t(`summary.turned_away.${summary.why}`);
    case "loading":
      return t("summary.loading", { ...summary, model: modelName(summary.model) });
    case "tuning":
      return t("summary.tuning", { ...summary, model: modelName(summary.model) });
    case "restarting":
      return summary.retry_in_ms > 0
        ? t("summary.restarting", { seconds: Math.ceil(summary.retry_in_ms / 1000) })
        : t("summary.restarting_now");
    case "not_served":
      return t("summary.not_served", {
        models: summary.models.map((model) => modelName(model)).join(", "),
      });
    case "connecting":
      return t("summary.connecting");
    case "waiting_for_jobs":
      return t("summary.waiting_for_jobs");
    case "waiting_for_audits":
      return t("summary.waiting_for_audits");
    case "working": {
      if (summary.jobs === 0) return t("summary.audits", { count: summary.audits });
      const what = t("summary.jobs", { count: summary.jobs });
      return summary.tokens_per_second === null
        ? what
        : t("summary.at_rate", { what, rate: tokensPerSecond(summary.tokens_per_second) });
    }
  }
}

/** What the texts about a rule are called, and what is in their braces. */
function rule(why: Why, now: number) {
  const values = {
    name: "name" in why ? why.name : "",
    minutes: "minutes" in why ? why.minutes : 0,
    left: "available_bytes" in why ? roundMemory(why.available_bytes) : "",
    enough: "resume_above_bytes" in why ? roundMemory(why.resume_above_bytes) : "",
    percent: "resume_percent" in why ? why.resume_percent : 0,
    celsius: "resume_celsius" in why ? why.resume_celsius : 0,
    time: "opens_ms" in why && why.opens_ms !== null ? timeOfDay(why.opens_ms, now) : "",
  };
  if (why.why === "in_use" && why.remote) return { key: "in_use_remote", values } as const;
  return { key: neverOpens(why) ? "hours_never" : why.why, values } as const;
}

export function ruleSentence(why: Why, now: number): string {
  if (why.why === "battery" && why.percent !== null) {
    return t("summary.rule.battery_left", { percent: why.percent });
  }
  const { key, values } = rule(why, now);
  return say(`summary.rule.${key}`, values);
}

/** That a rule's reason is gone. */
export function overWords(why: Why): string {
  return say(`summary.rule.over.${why.why}`, rule(why, 0).values);
}

/** Only the person can end that. */
function neverOpens(why: Why): boolean {
  return why.why === "hours" && why.opens_ms === null;
}

/** What the node did once: without what was true for a moment only. */
export function historySentence(summary: Summary, now: number): string | undefined {
  switch (summary.summary) {
    case "working":
      return t(summary.jobs > 0 ? "history.working" : "history.audits");
    case "paused":
      return t("summary.paused");
    case "rule": {
      const { key, values } = rule(summary.why, now);
      return say(`history.rule.${key}`, values);
    }
    case "requirement_failed":
      return shortfall(summary.requirement);
    case "unreachable":
      return t("history.unreachable", summary);
    case "loading":
    case "tuning":
      return t(`history.${summary.summary}`, { model: modelName(summary.model) });
    case "low_disk":
    case "restarting":
      return t(`history.${summary.summary}`);
    default:
      return summarySentence(summary, now);
  }
}

function shortfall(row: Requirement): string {
  const words = { found: amountWords(row.found), need: amountWords(row.need) };
  switch (row.id) {
    case "ram":
      return t("summary.ram", words);
    case "free_disk":
      return t("summary.free_disk", words);
    case "network":
      return t("summary.network", words);
    case "gpu":
      return row.found.amount === "gpus" && row.found.gpus.length === 0
        ? t("summary.no_gpu", words)
        : t("summary.gpu", words);
  }
}
