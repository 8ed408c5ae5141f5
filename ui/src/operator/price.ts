// Prices as people write them.

const MICRO_PER_THOUSAND = 1000;
const MOST = 1000;

/** Micro-points a token, from points for 1,000 tokens; null where it is no such price. */
export function priceOf(text: string): number | null {
  const trimmed = text.trim().replace(",", ".");
  if (!/^\d+(\.\d+)?$/.test(trimmed)) return null;
  const points = Number(trimmed);
  return points <= MOST ? Math.round(points * MICRO_PER_THOUSAND) : null;
}
