// The price of electricity as people write it, and the currencies it may be in.

import { locale } from "../../i18n/index.svelte";

export const EXAMPLE = "0.32";

/**
 * With a comma or a point, and every digit as it was typed. Null for none, undefined where it is no
 * price: the program's own rule.
 */
export function parsePrice(text: string): string | null | undefined {
  const typed = text.trim();
  if (typed === "") return null;
  return /^\d{1,9}([.,]\d{1,6})?$/.test(typed) ? typed.replace(",", ".") : undefined;
}

/** As it stands in the field, every digit of it, with the language's own decimal mark. */
export function writePrice(price: string | null, tag: string): string {
  const parts = new Intl.NumberFormat(tag).formatToParts(0.5);
  const mark = parts.find(({ type }) => type === "decimal")?.value ?? ".";
  return (price ?? "").replace(".", mark);
}

/** Those that people pay their electricity in, the most of them. */
const CURRENCIES =
  "AED ARS AUD BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KRW KZT MAD MXN MYR NGN NOK NZD PEN PHP PKR PLN RON RSD RUB SAR SEK SGD THB TRY TWD UAH USD UYU VND ZAR".split(
    " ",
  );

const EURO =
  "AD AT BE BG CY DE EE ES FI FR GR HR IE IT LT LU LV MC ME MT NL PT SI SK SM VA XK".split(" ");

const ELSEWHERE: Record<string, string> = {
  GB: "GBP",
  CZ: "CZK",
  DK: "DKK",
  HU: "HUF",
  IS: "ISK",
  JP: "JPY",
  KR: "KRW",
  CN: "CNY",
  LI: "CHF",
  CH: "CHF",
  NO: "NOK",
  PL: "PLN",
  RO: "RON",
  RS: "RSD",
  SE: "SEK",
  TR: "TRY",
  UA: "UAH",
  IN: "INR",
  AU: "AUD",
  NZ: "NZD",
  CA: "CAD",
  US: "USD",
  MX: "MXN",
  BR: "BRL",
  ZA: "ZAR",
  SG: "SGD",
};

/** What is paid with where the person is, as far as their language tells. */
export function currencyHere(tag: string): string {
  const region = new Intl.Locale(tag).maximize().region ?? "";
  return EURO.includes(region) ? "EUR" : (ELSEWHERE[region] ?? "EUR");
}

/** By name, with the one in use whatever it is. */
export function currencies(inUse: string, tag: string): { value: string; label: string }[] {
  const names = new Intl.DisplayNames(tag, { type: "currency" });
  const order = new Intl.Collator(tag);
  return [...new Set([...CURRENCIES, inUse])]
    .map((value) => ({ value, label: label(value, names.of(value)) }))
    .sort((one, other) => order.compare(one.label, other.label));
}

/** Several GPUs in one sentence. */
export function named(adapters: readonly string[]): string {
  return new Intl.ListFormat(locale.tag, { type: "conjunction" }).format(adapters);
}

function label(code: string, name: string | undefined): string {
  return name === undefined || name === code ? code : `${name} (${code})`;
}
