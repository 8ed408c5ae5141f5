// The balancer gives a verdict's rule as an English sentence; those that are known, in German.

import { locale } from "../../i18n/index.svelte";

const german: [RegExp, string][] = [
  [/^The lottery chose no audit for this job\.$/, "Das Los hat diesen Auftrag nicht gezogen."],
  [/^There was no output to check\.$/, "Es gab keine Antwort zu prüfen."],
  [
    /^No reference nodes could decide in time\.$/,
    "Kein Vergleichsknoten konnte rechtzeitig entscheiden.",
  ],
  [
    /^A reference node agrees? on all (\d+) tokens\.$/,
    "Ein Vergleichsknoten stimmt bei allen $1 Token überein.",
  ],
  [
    /^(\d+) reference nodes agree on all (\d+) tokens\.$/,
    "$1 Vergleichsknoten stimmen bei allen $2 Token überein.",
  ],
  [
    /^(\d+) of (\d+) reference nodes agree on all (\d+) tokens\.$/,
    "$1 von $2 Vergleichsknoten stimmen bei allen $3 Token überein.",
  ],
  [
    /^(\d+) reference nodes agree but for (\d+) of (\d+) tokens, where they differ by rounding only\.$/,
    "$1 Vergleichsknoten stimmen überein bis auf $2 von $3 Token, die sich nur durch Runden unterscheiden.",
  ],
  [
    /^(\d+) of (\d+) reference nodes agree but for (\d+) of (\d+) tokens, where they differ by rounding only\.$/,
    "$1 von $2 Vergleichsknoten stimmen überein bis auf $3 von $4 Token, die sich nur durch Runden unterscheiden.",
  ],
  [
    /^(\d+) of (\d+) reference nodes find that this model did not write this: (\d+) of (\d+) tokens differ by more than rounding can explain\.$/,
    "$1 von $2 Vergleichsknoten finden, dass dieses Modell das nicht geschrieben hat: $3 von $4 Token weichen stärker ab, als Runden erklärt.",
  ],
  [
    /^(\d+) reference nodes agree on all (\d+) vectors\.$/,
    "$1 Vergleichsknoten stimmen bei allen $2 Vektoren überein.",
  ],
  [
    /^(\d+) of (\d+) reference nodes agree on all (\d+) vectors\.$/,
    "$1 von $2 Vergleichsknoten stimmen bei allen $3 Vektoren überein.",
  ],
  [
    /^(\d+) reference nodes agree but for (\d+) of (\d+) vectors, where they differ by rounding only\.$/,
    "$1 Vergleichsknoten stimmen überein bis auf $2 von $3 Vektoren, die sich nur durch Runden unterscheiden.",
  ],
  [
    /^(\d+) of (\d+) reference nodes agree but for (\d+) of (\d+) vectors, where they differ by rounding only\.$/,
    "$1 von $2 Vergleichsknoten stimmen überein bis auf $3 von $4 Vektoren, die sich nur durch Runden unterscheiden.",
  ],
  [
    /^(\d+) of (\d+) reference nodes find that this model does not give these vectors: (\d+) of (\d+) vectors differ by more than rounding can explain\.$/,
    "$1 von $2 Vergleichsknoten finden, dass dieses Modell andere Vektoren ergibt: $3 von $4 weichen stärker ab, als Runden erklärt.",
  ],
];

/** In the chosen language where that is known, else as it came. */
export function reasonWords(english: string): { text: string; lang: string } {
  if (locale.language === "de") {
    const known = german.find(([pattern]) => pattern.test(english));
    if (known !== undefined) return { text: english.replace(...known), lang: "de" };
  }
  return { text: english, lang: "en" };
}
