import type { Same } from "../i18n/words";

export const en = {
  "public.reading": "Asking the network…",
  "public.silent": "The network does not answer now. Reload the page in a moment.",
  "public.what":
    "A network of people who lend the GPU of their machine to each other, to answer questions with AI models.",
  "public.operator": "Run by {operator}",
  "public.nodes": { one: "{count} machine is here now", other: "{count} machines are here now" },
  "public.invited": "You are invited",
  "public.invited.text":
    "Open the invitation on the machine that joins. The program shows what this network is once more, and joins when you say so.",
  "public.invited.open": "Open in Infera Node",
  "public.invited.paste": "Or paste this link in the program, under Settings, Networks:",
  "public.invited.command": "Without a window, in a terminal:",
  "public.invited.program":
    "The machine needs the program Infera Node. Whoever invited you knows where to get it.",
  "public.copy": "Copy",
  "public.copied": "Copied",
  "public.models": "Models",
  "public.model": "Model",
  "public.price": "Price",
  "public.price.text": "{input} points for 1,000 tokens read, {output} for 1,000 written",
  "public.context": "Longest conversation",
  "public.tokens": "{count} tokens",
  "public.ask": "Ask something",
  "public.ask.text":
    "It speaks the OpenAI API at this address. You need a key, which whoever runs the network gives to you.",
  "public.join": "Lend your GPU",
  "public.join.open":
    "Everybody may join: open Infera Node, and give it this address under Settings, Networks.",
  "public.join.work":
    "Everybody may join: open Infera Node, and give it this address under Settings, Networks. A new machine works a moment for its identity.",
  "public.join.invitation": "This network takes new machines by invitation only.",
  "public.needs": "What a machine must have",
  "public.needs.nothing": "Nothing in particular",
  "public.needs.ram": "{size} of memory",
  "public.needs.disk": "{size} of free disk space",
  "public.needs.rate": "A line of {rate}",
  "public.needs.gpu": "A GPU with {size} of its own",
  "public.needs.gpu_or_apple": "A GPU with {size} of its own, or a Mac with an M chip",
  "public.rules": "What is asked of those who join",
} as const;

export const de: Same<typeof en> = {
  "public.reading": "Das Netzwerk wird gefragt…",
  "public.silent":
    "Das Netzwerk antwortet gerade nicht. Laden Sie die Seite in einem Moment noch einmal.",
  "public.what":
    "Ein Netzwerk von Menschen, die einander die GPU ihres Rechners leihen, um Fragen mit KI-Modellen zu beantworten.",
  "public.operator": "Betrieben von {operator}",
  "public.nodes": { one: "{count} Rechner ist gerade da", other: "{count} Rechner sind gerade da" },
  "public.invited": "Sie sind eingeladen",
  "public.invited.text":
    "Öffnen Sie die Einladung auf dem Rechner, der beitritt. Das Programm zeigt noch einmal, was dieses Netzwerk ist, und tritt bei, wenn Sie es sagen.",
  "public.invited.open": "In Infera Node öffnen",
  "public.invited.paste":
    "Oder fügen Sie diesen Link im Programm ein, unter Einstellungen, Netzwerke:",
  "public.invited.command": "Ohne Fenster, in einem Terminal:",
  "public.invited.program":
    "Auf dem Rechner muss das Programm Infera Node sein. Wer Sie eingeladen hat, weiß, woher man es bekommt.",
  "public.copy": "Kopieren",
  "public.copied": "Kopiert",
  "public.models": "Modelle",
  "public.model": "Modell",
  "public.price": "Preis",
  "public.price.text": "{input} Punkte für 1.000 gelesene Token, {output} für 1.000 geschriebene",
  "public.context": "Längstes Gespräch",
  "public.tokens": "{count} Token",
  "public.ask": "Etwas fragen",
  "public.ask.text":
    "An dieser Adresse spricht es die OpenAI-API. Dafür brauchen Sie einen Schlüssel; den gibt Ihnen, wer das Netzwerk betreibt.",
  "public.join": "Die eigene GPU leihen",
  "public.join.open":
    "Alle dürfen beitreten: Öffnen Sie Infera Node und geben Sie unter Einstellungen, Netzwerke diese Adresse ein.",
  "public.join.work":
    "Alle dürfen beitreten: Öffnen Sie Infera Node und geben Sie unter Einstellungen, Netzwerke diese Adresse ein. Ein neuer Rechner rechnet einen Moment für seine Identität.",
  "public.join.invitation": "Dieses Netzwerk nimmt neue Rechner nur auf Einladung.",
  "public.needs": "Was ein Rechner haben muss",
  "public.needs.nothing": "Nichts Besonderes",
  "public.needs.ram": "{size} Arbeitsspeicher",
  "public.needs.disk": "{size} freien Speicherplatz",
  "public.needs.rate": "Eine Leitung mit {rate}",
  "public.needs.gpu": "Eine GPU mit {size} eigenem Speicher",
  "public.needs.gpu_or_apple": "Eine GPU mit {size} eigenem Speicher, oder einen Mac mit M-Chip",
  "public.rules": "Was von denen erbeten wird, die beitreten",
};
