// The balancer's API for those who run the network, and what it tells.

import type {
  Hardware,
  ModelOffer,
  PublicNetwork,
  Requirement,
  Standing,
  VerdictStatus,
} from "../platform/types";

/** Where this page is, without its name. */
const base = () => (location.origin + location.pathname).replace(/\/operator\/?$/, "");

export const url = (path: string) => `${base()}/operator/v1/${path}`;

/** A call was answered with a fault; without a code the balancer did not answer at all. */
export class CallFault extends Error {
  constructor(
    readonly code: string | null,
    message: string,
  ) {
    super(message);
  }
}

type Query = Record<string, string | number | boolean | null | undefined>;

export function get<Answer>(path: string, query: Query = {}): Promise<Answer> {
  const words = Object.entries(query).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  const search = new URLSearchParams(words.map(([name, value]) => [name, String(value)]));
  return call("GET", search.size > 0 ? `${path}?${search}` : path);
}

export function post<Answer>(path: string, message: object = {}): Promise<Answer> {
  return call("POST", path, message);
}

export function remove(path: string): Promise<unknown> {
  return call("DELETE", path, {});
}

async function call<Answer>(method: string, path: string, message?: object): Promise<Answer> {
  const request: RequestInit = { method, headers: { "X-Infera-Operator": "1" } };
  if (message !== undefined) {
    request.headers = { ...request.headers, "Content-Type": "application/json" };
    request.body = JSON.stringify(message);
  }
  let answer: Response;
  try {
    answer = await fetch(url(path), request);
  } catch (error) {
    throw new CallFault(null, String(error));
  }
  if (answer.status === 204) return undefined as Answer;
  const body: unknown = await answer.json().catch(() => null);
  if (answer.ok && body !== null) return body as Answer;
  const fault = body as { code?: string; message?: string } | null;
  throw new CallFault(fault?.code ?? null, fault?.message ?? `HTTP ${answer.status}`);
}

export interface Now {
  at_ms: number;
  started_ms: number;
  jobs_per_second: number;
  tokens_per_second: number;
  first_token: { p50_ms: number; p95_ms: number; count: number } | null;
  jobs_live: number;
  waiting: { model: string; for: "worker" | "reference"; count: number }[];
  nodes: {
    here: number;
    references: number;
    states: Partial<Record<Condition, number>>;
  };
  models: { name: string; model: string; workers: number; references: number }[];
}

/** What a node that is here does. */
export const CONDITIONS = [
  "working",
  "waiting",
  "paused",
  "no_model",
  "unfit",
  "held_back",
] as const;
export type Condition = (typeof CONDITIONS)[number];

export interface History {
  at_ms: number[];
  jobs: number[];
  tokens: number[];
  first_token_p50_ms: (number | null)[];
  first_token_p95_ms: (number | null)[];
  nodes: number[];
  waiting: number[];
}

export type Concern =
  | { kind: "database"; fault: string }
  | { kind: "no_models" }
  | { kind: "unusable_model"; model: string; fault: string }
  | { kind: "unserved_model"; model: string }
  | { kind: "few_references"; model: string; here: number; needed: number }
  | { kind: "waiting"; model: string; for_reference: boolean; count: number; since_ms: number }
  | { kind: "role_lost"; node: string; short: string; fault: string; at_ms: number }
  | { kind: "key_limit"; key: string; spent_micro: number; limit_micro: number };

export interface Ban {
  until_ms: number | null;
  reason: string;
  at_ms: number;
}

export interface OperatorNode extends Standing {
  node: string;
  short: string;
  state: Condition | "banned" | "offline";
  paused: string | null;
  held_back_until_ms: number | null;
  ban: Ban | null;
  gets_no_jobs: boolean;
  models: string[];
  running: number;
  free_slots: number | null;
  hardware: Hardware | null;
  requirements: Requirement[] | null;
  joined_ms: number | null;
  software: string;
  first_seen_ms: number | null;
  last_seen_ms: number | null;
  verified: number;
  failures: number;
  tokens_per_second: number | null;
  prefill_tokens_per_second: number | null;
  lapses: number;
  audits: number;
  outvoted: number;
  canaries_met: number;
  canaries_missed: number;
  role_lost: string | null;
}

export interface OperatorJob {
  id: string;
  client: string;
  model_name: string;
  state: "running" | "auditing" | "done";
  ended: string | null;
  error: string | null;
  verdict: VerdictStatus;
  reason: string;
  prompt_tokens: number;
  output_tokens: number;
  cost: number;
  created_ms: number;
  finished_ms: number | null;
  node: string | null;
}

export interface OperatorReceipt {
  job_id: string;
  client: string;
  model_name: string;
  state: OperatorJob["state"];
  finish_reason: string | null;
  error: string | null;
  verdict: VerdictStatus;
  reason: string;
  prompt_tokens: number;
  output_tokens: number;
  cost: number;
  created_ms: number;
  finished_ms: number | null;
  attempts: {
    attempt: number;
    node: string;
    start: number;
    end: number;
    ended: string | null;
    share: number;
    verdict: VerdictStatus;
  }[];
  references: { audit: string; node: string; step: string; pay: number }[];
  postings: { key: string; account: string; amount: number }[];
}

export interface Posting {
  id: number;
  key: string;
  amount: number;
  at_ms: number;
}

export interface OperatorModel {
  name: string;
  model: string;
  profile: string;
  context_tokens: number;
  price: ModelOffer["price"];
  workers: number;
  references: number;
}

export interface OperatorKey {
  name: string;
  limit_micro: number | null;
  created_ms: number;
  revoked_ms: number | null;
  spent_micro: number;
  last_used_ms: number | null;
}

export interface OperatorInvitation extends Standing {
  id: number;
  label: string;
  uses: number;
  max_uses: number | null;
  created_ms: number;
  expires_ms: number | null;
  revoked_ms: number | null;
  usable: boolean;
}

export interface Invited {
  id: number;
  link: string;
  page: string;
  /** The rows of a QR code, `1` for dark. */
  code: string[] | null;
}

export type Rules = Pick<PublicNetwork, "name" | "policy" | "checking" | "admission"> & {
  rules: string | null;
};

export const ACTS = [
  "sign_in",
  "appoint",
  "dismiss",
  "trust",
  "untrust",
  "demote",
  "ban",
  "unban",
  "add_model",
  "set_price",
  "remove_model",
  "create_key",
  "revoke_key",
  "invite",
  "revoke_invitation",
  "create_operator_key",
  "revoke_operator_key",
] as const;

export interface LoggedAct {
  id: number;
  at_ms: number;
  who: string | null;
  act: (typeof ACTS)[number];
  whom: string;
  detail: string;
}
