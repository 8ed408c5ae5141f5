// Which of the operators' pages is shown.

import { hashOf, Route } from "../lib/route.svelte";

export const OPERATOR_PAGES = [
  "overview",
  "nodes",
  "jobs",
  "ledger",
  "models",
  "keys",
  "invitations",
  "log",
] as const;
export type OperatorPage = (typeof OPERATOR_PAGES)[number];

export const route = new Route<OperatorPage>(OPERATOR_PAGES);

export function address(page: OperatorPage, ...rest: string[]): string {
  return hashOf(page, rest);
}
