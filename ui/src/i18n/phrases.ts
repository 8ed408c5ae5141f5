// What the backend writes in English where it gives no data for it: requirement rows.

import { locale } from "./index.svelte";

const german: [RegExp, string][] = [
  [/, or any Apple M-series GPU/g, " oder eine Apple-GPU der M-Reihe"],
  [/ of its own memory/g, " VRAM"],
  [/ \(software, not a GPU\)/g, " (Software, keine GPU)"],
  [/ \(shares the machine's memory\)/g, " (teilt sich den Arbeitsspeicher)"],
  [/ with unknown memory/g, " mit unbekanntem Speicher"],
  [/ with (?=[\d.]+ GB)/g, " mit "],
  [/^none$/g, "keine"],
  [/^unknown$/g, "unbekannt"],
  [/(\d)\.(\d)(?=\d* [GM]B)/g, "$1,$2"],
];

/** A requirement's `need` or `found` in the chosen language. */
export function phrase(english: string): string {
  if (locale.language !== "de") return english;
  return german.reduce((text, [pattern, by]) => text.replace(pattern, by), english);
}
