import type { Same } from "../../i18n/words";

export const en = {
  "first.title": "Welcome to Infera Node",
  "first.path": "Steps",
  "first.step.agree": "Agree",
  "first.step.check": "Check",
  "first.step.gpu": "Choose a GPU",
  "first.step.model": "Choose a model",
  "first.step.try": "Try it",
  "first.position": "Step {step} of {count}",
  "first.mark.done": "done",
  "first.mark.open": "left open",
  "first.hint.agreed": "You have agreed",
  "first.hint.reading": "Reading your hardware…",
  "first.hint.fine": "All fine",
  "first.hint.unmet": { one: "{count} row needs you", other: "{count} rows need you" },
  "first.hint.cpu": "Processor",
  "first.hint.downloading": "Downloading: {percent}",
  "first.back": "Back",
  "first.skip": "Skip",
  "first.continue": "Continue",
  "first.idle": "Nothing is shared yet",
  "first.sharing": "Sharing is on",

  "first.agree.text":
    "Lend your GPU to a network of AI models while you do not need it, and earn points. This is what it means. Nothing begins before you say so in the last step.",
  "first.agree.does": "What it does",
  "first.agree.does_text":
    "While you share, this machine answers questions of people you do not know, with a model that you choose. The GPU then works hard: it draws power, gets warm, and its fan can be heard.",
  "first.agree.never": "What it never does",
  "first.agree.never_text":
    "It looks at no file of yours: only models, in a folder of their own. It runs no code from the network: only numbers come in and go out. Nothing that you do on this machine is passed on.",
  "first.agree.sees": "Who sees what",
  "first.agree.sees_text":
    "Questions reach you as numbers that stand for pieces of words. They are not shown, and forgotten once the answer is delivered. The network learns your GPU, memory, free disk, speed and internet address.",
  "first.agree.stop": "How it stops",
  "first.agree.stop_text":
    "Pause is on every page and acts at once. It also pauses while you play, on battery, and while you chat with a model yourself. “Remove everything” in the settings deletes models, history, key and settings.",
  "first.network": "Your network: invitation or address",
  "first.network.other": "Another network: invitation or address",
  "first.network.joined": "This machine is in {name}",
  "first.network.about":
    "Whoever runs the network gives it to you. Continue joins it; you can leave it at any time.",
  "first.network.anyway": "Press Continue again to keep this address all the same.",
  "first.network.empty":
    "Paste an invitation or an address, or skip: you can look around without a network.",
  "first.consent":
    "I have read this, and this machine may answer jobs once I start sharing in the last step.",
  "first.consent.missing": "Tick the box to go on, or skip: nothing is shared then.",
  "first.agreed": "You have agreed, and this machine shares.",
  "first.withdraw": "Withdraw",
  "first.withdrawn": "You have withdrawn. Nothing is shared any more",

  "first.check.title": "What your machine has",
  "first.check.text":
    "Compared with what a public network asks for. Your own network is asked only once you share.",
  "first.check.text_network": "Compared with what your network asks for.",
  "first.check.fine": "This machine can take part",
  "first.check.unmet": {
    one: "One thing keeps jobs away",
    other: "{count} things keep jobs away",
  },
  "first.check.unmet_text": "You can go on all the same, and come back to it later.",
  "first.check.reading": "Reading your hardware. This takes a few seconds",
  "first.check.again": "Check again",
  "first.check.checked": "Checked just now",
  "first.check.row": "What",
  "first.check.need": "Needed",
  "first.check.found": "Found",
  "first.check.result": "Result",
  "first.check.pass": "Fine",
  "first.check.warn": "Not known",
  "first.check.fail": "Too little",
  "first.check.cannot_start": "The node cannot start",
  "first.check.cannot_start_meaning":
    "Until then no job can come. You can still choose a model and try it.",

  "first.gpu.title": "Which GPU may work",
  "first.gpu.text":
    "Only what you choose is used, and it may be more than one. You can change it at any time.",
  "first.gpu.auto": "Choose for me",
  "first.gpu.auto_text": "The strongest one that can be used. Now: {name}",
  "first.gpu.auto_none": "The strongest one that can be used. There is none now.",
  "first.gpu.cpu": "Processor, no GPU",
  "first.gpu.cpu_text":
    "Works on every machine, but many times slower. Most networks send it no jobs; the chat works.",
  "first.gpu.memory": "{size} of its own memory",
  "first.gpu.shared": "shares the machine’s memory",
  "first.gpu.unknown": "memory not reported",
  "first.gpu.software": "software, not a GPU",
  "first.gpu.excluded": "You have excluded it. Choosing it allows it again.",
  "first.gpu.missing": "It was here before and cannot be found now. Its settings are kept.",
  "first.gpu.unsupported": "Cannot be used: {why}",
  "first.gpu.none": "No GPU that can be used was found",
  "first.gpu.none_meaning":
    "This machine can still answer with its processor: slowly, and most networks send it no jobs.",
  "first.gpu.none_remedy":
    "If it has a GPU, install its driver with Vulkan (Windows and Linux), then check again.",
  "first.gpu.reading": "Looking for GPUs…",

  "first.model.title": "Which model answers",
  "first.model.text":
    "A larger model answers better, a smaller one faster. You can add and change models later.",
  "first.model.installed": "On this machine",
  "first.model.others": "Other models",
  "first.model.going_on": "You can go on while it downloads. The last step waits for it.",

  "first.try.title": "See what your GPU can do",
  "first.try.text":
    "For half a minute the model answers a question here, and only here. Nothing is sent.",
  "first.try.model": "Model",
  "first.try.begin": "Measure for 30 seconds",
  "first.try.again": "Measure again",
  "first.try.stop": "Stop",
  "first.try.loading": "Loading {name} into the GPU",
  "first.try.measuring": "Measuring {name}",
  "first.try.left": "about {seconds} s left",
  "first.try.almost": "almost done",
  "first.try.decode": "Writes",
  "first.try.prefill": "Reads",
  "first.try.first": "First word after",
  "first.try.on": "on {device}",
  "first.try.answer": "Its first answer",
  "first.try.faster": "About {count} times as fast as people read.",
  "first.try.same": "About as fast as people read.",
  "first.try.slower": "Slower than people read. It works, but jobs may go to faster nodes.",
  "first.try.failed": "The measurement broke off",
  "first.try.failed_remedy": "Choose a smaller model or another device, then measure again.",
  "first.try.other_model": "Choose another model",
  "first.try.other_gpu": "Choose another device",
  "first.try.no_model": "No model is here yet",
  "first.try.no_model_text": "Once one is downloaded, its speed and first answer stand here.",
  "first.try.waiting": "{name} is on its way. Once it is here you can measure it.",
  "first.try.choose": "Choose a model",

  "first.rules": "When may it work?",
  "first.rules.text":
    "This machine stays yours: the node steps aside and goes on by itself. The settings have finer rules.",

  "first.share": "Start sharing?",
  "first.share.text":
    "From then on this machine takes jobs from {network} and answers them with {model}. You can pause at any time.",
  "first.share.missing": "Before you can share:",
  "first.share.consent": "You have not agreed yet",
  "first.share.network": "No network is chosen",
  "first.share.model": "No model is here yet",
  "first.share.fix": "Go to “{step}”",
  "first.share.warning": "You can start, but jobs will not come yet:",
  "first.share.start": "Start sharing",
  "first.share.not_now": "Not now",
  "first.share.finish": "Finish",
  "first.share.on": "Sharing is on",
  "first.share.on_text": "This machine takes jobs from {network}. You can pause at any time.",
} as const;

export const de: Same<typeof en> = {
  "first.title": "Willkommen bei Infera Node",
  "first.path": "Schritte",
  "first.step.agree": "Zustimmen",
  "first.step.check": "Prüfen",
  "first.step.gpu": "GPU wählen",
  "first.step.model": "Modell wählen",
  "first.step.try": "Ausprobieren",
  "first.position": "Schritt {step} von {count}",
  "first.mark.done": "erledigt",
  "first.mark.open": "offen gelassen",
  "first.hint.agreed": "Sie haben zugestimmt",
  "first.hint.reading": "Hardware wird gelesen…",
  "first.hint.fine": "Alles in Ordnung",
  "first.hint.unmet": { one: "{count} Zeile braucht Sie", other: "{count} Zeilen brauchen Sie" },
  "first.hint.cpu": "Prozessor",
  "first.hint.downloading": "Wird geladen: {percent}",
  "first.back": "Zurück",
  "first.skip": "Überspringen",
  "first.continue": "Weiter",
  "first.idle": "Noch wird nichts geteilt",
  "first.sharing": "Das Teilen ist an",

  "first.agree.text":
    "Verleihen Sie Ihre GPU an ein Netzwerk von KI-Modellen, solange Sie sie nicht brauchen, und verdienen Sie Punkte. Das bedeutet es. Nichts beginnt, bevor Sie es im letzten Schritt sagen.",
  "first.agree.does": "Was geschieht",
  "first.agree.does_text":
    "Solange Sie teilen, beantwortet dieser Rechner Fragen von Menschen, die Sie nicht kennen, mit einem Modell, das Sie wählen. Die GPU arbeitet dann hart: Sie braucht Strom, wird warm, und ihr Lüfter ist zu hören.",
  "first.agree.never": "Was nie geschieht",
  "first.agree.never_text":
    "Keine Ihrer Dateien wird angesehen: nur Modelle, in einem eigenen Ordner. Kein Code aus dem Netzwerk läuft: Nur Zahlen kommen und gehen. Nichts, was Sie auf diesem Rechner tun, wird weitergegeben.",
  "first.agree.sees": "Wer was sieht",
  "first.agree.sees_text":
    "Fragen erreichen Sie als Zahlen, die für Wortteile stehen. Sie werden nicht angezeigt und vergessen, sobald die Antwort zugestellt ist. Das Netzwerk erfährt GPU, Speicher, freien Platz, Tempo und Internetadresse.",
  "first.agree.stop": "Wie es aufhört",
  "first.agree.stop_text":
    "Pausieren steht auf jeder Seite und wirkt sofort. Pausiert wird auch, während Sie spielen, im Akkubetrieb und während Sie selbst chatten. „Alles entfernen“ in den Einstellungen löscht Modelle, Verlauf, Schlüssel und Einstellungen.",
  "first.network": "Ihr Netzwerk: Einladung oder Adresse",
  "first.network.other": "Ein anderes Netzwerk: Einladung oder Adresse",
  "first.network.joined": "Dieser Rechner ist in {name}",
  "first.network.about":
    "Wer das Netzwerk betreibt, gibt sie Ihnen. Mit Weiter treten Sie bei; verlassen können Sie es jederzeit.",
  "first.network.anyway":
    "Drücken Sie noch einmal auf Weiter, um die Adresse trotzdem zu behalten.",
  "first.network.empty":
    "Fügen Sie eine Einladung oder Adresse ein oder überspringen Sie: Umsehen geht auch ohne Netzwerk.",
  "first.consent":
    "Ich habe das gelesen, und dieser Rechner darf Aufträge beantworten, sobald ich im letzten Schritt das Teilen starte.",
  "first.consent.missing":
    "Setzen Sie den Haken, um weiterzugehen, oder überspringen Sie: Dann wird nichts geteilt.",
  "first.agreed": "Sie haben zugestimmt, und dieser Rechner teilt.",
  "first.withdraw": "Widerrufen",
  "first.withdrawn": "Sie haben widerrufen. Es wird nichts mehr geteilt",

  "first.check.title": "Was Ihr Rechner hat",
  "first.check.text":
    "Verglichen mit dem, was ein öffentliches Netzwerk verlangt. Ihr eigenes wird erst gefragt, wenn Sie teilen.",
  "first.check.text_network": "Verglichen mit dem, was Ihr Netzwerk verlangt.",
  "first.check.fine": "Dieser Rechner kann mitmachen",
  "first.check.unmet": {
    one: "Eines hält Aufträge fern",
    other: "{count} Dinge halten Aufträge fern",
  },
  "first.check.unmet_text": "Sie können trotzdem weitergehen und später darauf zurückkommen.",
  "first.check.reading": "Ihre Hardware wird gelesen. Das dauert ein paar Sekunden",
  "first.check.again": "Noch einmal prüfen",
  "first.check.checked": "Gerade geprüft",
  "first.check.row": "Was",
  "first.check.need": "Verlangt",
  "first.check.found": "Gefunden",
  "first.check.result": "Ergebnis",
  "first.check.pass": "In Ordnung",
  "first.check.warn": "Unbekannt",
  "first.check.fail": "Zu wenig",
  "first.check.cannot_start": "Der Knoten kann nicht starten",
  "first.check.cannot_start_meaning":
    "Bis dahin kann kein Auftrag kommen. Ein Modell wählen und ausprobieren können Sie trotzdem.",

  "first.gpu.title": "Welche GPU arbeiten darf",
  "first.gpu.text":
    "Benutzt wird nur, was Sie wählen, und es dürfen mehrere sein. Sie können das jederzeit ändern.",
  "first.gpu.auto": "Für mich wählen",
  "first.gpu.auto_text": "Die stärkste, die sich nutzen lässt. Jetzt: {name}",
  "first.gpu.auto_none": "Die stärkste, die sich nutzen lässt. Zurzeit gibt es keine.",
  "first.gpu.cpu": "Prozessor, keine GPU",
  "first.gpu.cpu_text":
    "Geht auf jedem Rechner, aber um ein Vielfaches langsamer. Die meisten Netzwerke schicken dann keine Aufträge; der Chat geht.",
  "first.gpu.memory": "{size} eigener Speicher",
  "first.gpu.shared": "teilt sich den Arbeitsspeicher",
  "first.gpu.unknown": "Speicher nicht gemeldet",
  "first.gpu.software": "Software, keine GPU",
  "first.gpu.excluded":
    "Sie haben sie ausgeschlossen. Wenn Sie sie wählen, ist sie wieder erlaubt.",
  "first.gpu.missing":
    "Sie war früher da und ist jetzt nicht zu finden. Ihre Einstellungen bleiben erhalten.",
  "first.gpu.unsupported": "Lässt sich nicht nutzen: {why}",
  "first.gpu.none": "Keine nutzbare GPU gefunden",
  "first.gpu.none_meaning":
    "Dieser Rechner kann trotzdem mit dem Prozessor antworten: langsam, und die meisten Netzwerke schicken ihm keine Aufträge.",
  "first.gpu.none_remedy":
    "Falls er eine GPU hat, installieren Sie ihren Treiber mit Vulkan (Windows und Linux) und prüfen Sie noch einmal.",
  "first.gpu.reading": "GPUs werden gesucht…",

  "first.model.title": "Welches Modell antwortet",
  "first.model.text":
    "Ein größeres Modell antwortet besser, ein kleineres schneller. Später können Sie Modelle hinzufügen und wechseln.",
  "first.model.installed": "Auf diesem Rechner",
  "first.model.others": "Andere Modelle",
  "first.model.going_on":
    "Sie können weitergehen, während es lädt. Der letzte Schritt wartet darauf.",

  "first.try.title": "Sehen Sie, was Ihre GPU kann",
  "first.try.text":
    "Eine halbe Minute lang beantwortet das Modell hier eine Frage, und nur hier. Es wird nichts gesendet.",
  "first.try.model": "Modell",
  "first.try.begin": "30 Sekunden messen",
  "first.try.again": "Noch einmal messen",
  "first.try.stop": "Anhalten",
  "first.try.loading": "{name} wird in die GPU geladen",
  "first.try.measuring": "{name} wird gemessen",
  "first.try.left": "noch etwa {seconds} s",
  "first.try.almost": "fast fertig",
  "first.try.decode": "Schreibt",
  "first.try.prefill": "Liest",
  "first.try.first": "Erstes Wort nach",
  "first.try.on": "auf {device}",
  "first.try.answer": "Die erste Antwort",
  "first.try.faster": "Etwa {count}-mal so schnell, wie Menschen lesen.",
  "first.try.same": "Etwa so schnell, wie Menschen lesen.",
  "first.try.slower":
    "Langsamer, als Menschen lesen. Es geht, aber Aufträge gehen eher an schnellere Knoten.",
  "first.try.failed": "Die Messung brach ab",
  "first.try.failed_remedy":
    "Wählen Sie ein kleineres Modell oder ein anderes Gerät und messen Sie noch einmal.",
  "first.try.other_model": "Anderes Modell wählen",
  "first.try.other_gpu": "Anderes Gerät wählen",
  "first.try.no_model": "Noch kein Modell da",
  "first.try.no_model_text":
    "Sobald eines geladen ist, stehen hier sein Tempo und seine erste Antwort.",
  "first.try.waiting": "{name} ist unterwegs. Sobald es da ist, können Sie es messen.",
  "first.try.choose": "Modell wählen",

  "first.rules": "Wann darf gearbeitet werden?",
  "first.rules.text":
    "Dieser Rechner bleibt Ihrer: Der Knoten macht Platz und macht von selbst weiter. Feinere Regeln stehen in den Einstellungen.",

  "first.share": "Das Teilen starten?",
  "first.share.text":
    "Von da an nimmt dieser Rechner Aufträge von {network} an und beantwortet sie mit {model}. Sie können jederzeit pausieren.",
  "first.share.missing": "Bevor Sie teilen können:",
  "first.share.consent": "Sie haben noch nicht zugestimmt",
  "first.share.network": "Es ist kein Netzwerk gewählt",
  "first.share.model": "Es ist noch kein Modell da",
  "first.share.fix": "Zu „{step}“",
  "first.share.warning": "Sie können starten, aber es kommen noch keine Aufträge:",
  "first.share.start": "Teilen starten",
  "first.share.not_now": "Jetzt nicht",
  "first.share.finish": "Fertig",
  "first.share.on": "Das Teilen ist an",
  "first.share.on_text":
    "Dieser Rechner nimmt Aufträge von {network} an. Sie können jederzeit pausieren.",
};
