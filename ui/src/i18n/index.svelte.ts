// The chosen language, and texts in it.

import { de } from "./de";
import { en, type Key, type Words } from "./en";
import type { Parameters, Plural } from "./words";

export type { Key };

export const LANGUAGES = { en: "English", de: "Deutsch" } as const;
export type Language = keyof typeof LANGUAGES;

const catalogues: Record<Language, Record<Key, string | Plural>> = { en, de };

class Locale {
  language = $state<Language>("en");
  /** For numbers and dates: the language with the person's region, `de-AT`. */
  tag = $state("en");

  /** What the settings say, else the first of the system's languages that there is. */
  choose(setting: string | null, system: readonly string[]): void {
    const known = (tag: string) => Object.hasOwn(LANGUAGES, languageOf(tag));
    const asked = setting !== null && known(setting) ? setting : system.find(known);
    this.language = languageOf(asked ?? "en") as Language;
    this.tag = system.find((tag) => languageOf(tag) === this.language) ?? this.language;
  }
}

export const locale = new Locale();

type Rest<K extends Key> = keyof Parameters<Words[K]> extends never
  ? []
  : [parameters: Parameters<Words[K]>];

/** The text of a key; numbers are written as the language writes them. */
export function t<K extends Key>(key: K, ...[parameters]: Rest<K>): string {
  return say(key, parameters ?? {});
}

/** The same where the key is put together: each of the texts takes what it needs. */
export function say(key: Key, values: Record<string, string | number>): string {
  const text = catalogues[locale.language][key];
  const chosen =
    typeof text === "string"
      ? text
      : (text[new Intl.PluralRules(locale.tag).select(Number(values["count"]))] ?? text.other);
  return chosen.replace(/\{(\w+)\}/g, (braces, name: string) => {
    const value = values[name];
    if (value === undefined) return braces;
    return typeof value === "number" ? new Intl.NumberFormat(locale.tag).format(value) : value;
  });
}

function languageOf(tag: string): string {
  return tag.split(/[-_]/)[0]!.toLowerCase();
}
