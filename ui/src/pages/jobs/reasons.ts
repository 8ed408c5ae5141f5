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
    /^No reference nodes could check it in time, so it is not paid as checked work\.$/,
    "Kein Vergleichsknoten konnte rechtzeitig prüfen, darum wird das nicht als geprüfte Arbeit bezahlt.",
  ],
  [
    /^A reference node sees a difference that rounding hardly explains, so another one is asked\.$/,
    "Ein Vergleichsknoten sieht einen Unterschied, den Runden kaum erklärt, darum wird ein weiterer gefragt.",
  ],
  [
    /^The reference nodes disagree, so another one is asked\.$/,
    "Die Vergleichsknoten sind uneins, darum wird ein weiterer gefragt.",
  ],
  [
    /^It waits for reference nodes: (\d+) have to check it, and of those with this model (\d+) are online\.$/,
    "Er wartet auf Vergleichsknoten: $1 müssen ihn prüfen, und von denen mit diesem Modell sind $2 online.",
  ],
  [
    /^A reference node agrees? on all (\d+) vectors\.$/,
    "Ein Vergleichsknoten stimmt bei allen $1 Vektoren überein.",
  ],
  [
    /^A reference node agrees? but for (\d+) of (\d+) tokens, where they differ by rounding only\.$/,
    "Ein Vergleichsknoten stimmt überein bis auf $1 von $2 Token, die sich nur durch Runden unterscheiden.",
  ],
  [
    /^A reference node agrees? but for (\d+) of (\d+) vectors, where they differ by rounding only\.$/,
    "Ein Vergleichsknoten stimmt überein bis auf $1 von $2 Vektoren, die sich nur durch Runden unterscheiden.",
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

/** In the chosen language; what is not known in it is for a report. */
export function reasonWords(english: string): { text: string | null; details: string | null } {
  if (locale.language === "en") {
    return {
      text: english.replace(/^A reference node agree /, "A reference node agrees "),
      details: null,
    };
  }
  const known = german.find(([pattern]) => pattern.test(english));
  return known === undefined
    ? { text: null, details: english }
    : { text: english.replace(...known), details: null };
}
