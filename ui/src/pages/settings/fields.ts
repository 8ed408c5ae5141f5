// What people type into the settings, and what it means.

import { locale } from "../../i18n/index.svelte";

export interface Bounds {
  min: number;
  max: number;
  /** Empty means none. */
  optional?: boolean;
  whole?: boolean;
}

/** With a comma or a point, as people write decimals. Undefined where it is no such number. */
export function parseNumber(text: string, bounds: Bounds): number | null | undefined {
  const typed = text.trim();
  if (typed === "") return bounds.optional === true ? null : undefined;
  if (!/^\d+([.,]\d+)?$/.test(typed)) return undefined;
  const value = Number(typed.replace(",", "."));
  if (bounds.whole === true && !Number.isInteger(value)) return undefined;
  return value >= bounds.min && value <= bounds.max ? value : undefined;
}

/** As it stands in a field: without groups, at most two decimals. */
export function writeNumber(value: number | null): string {
  if (value === null) return "";
  return new Intl.NumberFormat(locale.tag, {
    useGrouping: false,
    maximumFractionDigits: 2,
  }).format(value);
}

/** An address without its key, for a screen that others may see. */
export function withoutKey(address: string): string {
  return address.replace(/(#token=)[^&]+/, "$1••••••••");
}
