// Prices as people write them.

import { number } from "../lib/format";

const MICRO_PER_THOUSAND = 1000;
const MOST = 1000;

/** Micro-points a token, from points for 1,000 tokens; null where it is no such price. */
export function priceOf(text: string): number | null {
  const trimmed = text.trim().replace(",", ".");
  if (!/^\d+(\.\d+)?$/.test(trimmed)) return null;
  const points = Number(trimmed);
  return points <= MOST ? Math.round(points * MICRO_PER_THOUSAND) : null;
}

/** Points for 1,000 tokens, to the last digit: who sets a price sees what it is. */
export function priceWords(micro: number): string {
  const digits = [0, 1, 2].find((digits) => micro % 10 ** (3 - digits) === 0) ?? 3;
  return number(micro / MICRO_PER_THOUSAND, digits);
}
