import type { Same } from "../../i18n/words";

export const en = {
  "try.text": "A chat on your own GPU. It never leaves this machine and is kept nowhere.",
  "try.model": "Model",
  "try.model.faulty": "{name} (cannot be used)",
  "try.model.large": "{name} (too large)",
  "try.new": "New conversation",
  "try.no_model": "No model to talk to yet",
  "try.no_model_text":
    "Download one first: the smallest is here within a minute. Then you see here what your GPU can do.",
  "try.no_model_act": "Choose a model",

  "try.empty": "Ask {name} something",
  "try.empty_text": "The first answer takes a moment longer: the model is loaded into the GPU.",
  "try.example.one": "Explain in two sentences what a graphics card does",
  "try.example.two": "Suggest a name for a quiet computer, with a reason",
  "try.example.three": "Write a short function in Python that finds prime numbers",

  "try.jobs_pause": "Jobs pause while you chat, until you leave this page.",
  "try.jobs_paused": "Jobs are paused until you leave this page.",
  "try.jobs_go_on": "Let jobs go on",

  "try.conversation": "Conversation",
  "try.you": "You",
  "try.message": "Message",
  "try.placeholder": "Write a message",
  "try.hint": "Enter sends, Shift and Enter begins a new line",
  "try.send": "Send",
  "try.stop": "Stop",
  "try.copy": "Copy",
  "try.copied": "Copied",
  "try.newest": "To the newest",

  "try.waiting": "Making room on the GPU…",
  "try.loading": "Loading {name} into the GPU",
  "try.loading_amount": "{done} of {total}",
  "try.tuning": "Finding out what is fastest on this GPU: only the first time",
  "try.tuning_amount": "{done} of {total} ways tried",
  "try.reading": "Reading your message…",
  "try.first_token": "first word after {time}",
  "try.cut_off": "ended early",
  "try.stopped_empty": "Stopped before the first word.",
  "try.spoken": "The answer: {text}",

  "try.failed": "The answer broke off",
  "try.failed_meaning": "What came so far stands above. The conversation is still there.",
  "try.failed_remedy": "Try again, or choose a smaller model.",
  "try.failed_start": "The question could not be asked",
  "try.failed_start_meaning": "Nothing was lost: it stands above and can be asked again.",
  "try.lost": "The connection to the program broke during the answer",
} as const;

export const de: Same<typeof en> = {
  "try.text":
    "Ein Chat auf Ihrer eigenen GPU. Er verlässt diesen Rechner nie und wird nirgends gespeichert.",
  "try.model": "Modell",
  "try.model.faulty": "{name} (nicht nutzbar)",
  "try.model.large": "{name} (zu groß)",
  "try.new": "Neues Gespräch",
  "try.no_model": "Noch kein Modell zum Reden",
  "try.no_model_text":
    "Laden Sie zuerst eines herunter: Das kleinste ist in einer Minute da. Dann sehen Sie hier, was Ihre GPU kann.",
  "try.no_model_act": "Modell wählen",

  "try.empty": "Fragen Sie {name} etwas",
  "try.empty_text": "Die erste Antwort dauert etwas länger: Das Modell wird in die GPU geladen.",
  "try.example.one": "Erkläre in zwei Sätzen, was eine Grafikkarte tut",
  "try.example.two": "Schlage einen Namen für einen leisen Computer vor, mit Begründung",
  "try.example.three": "Schreibe eine kurze Python-Funktion, die Primzahlen findet",

  "try.jobs_pause": "Aufträge pausieren beim Chatten, bis Sie diese Seite verlassen.",
  "try.jobs_paused": "Aufträge pausieren, bis Sie diese Seite verlassen.",
  "try.jobs_go_on": "Aufträge weiter annehmen",

  "try.conversation": "Gespräch",
  "try.you": "Sie",
  "try.message": "Nachricht",
  "try.placeholder": "Nachricht schreiben",
  "try.hint": "Enter sendet, Umschalt und Enter beginnt eine neue Zeile",
  "try.send": "Senden",
  "try.stop": "Anhalten",
  "try.copy": "Kopieren",
  "try.copied": "Kopiert",
  "try.newest": "Zum Neuesten",

  "try.waiting": "Auf der GPU wird Platz gemacht…",
  "try.loading": "{name} wird in die GPU geladen",
  "try.loading_amount": "{done} von {total}",
  "try.tuning": "Das Schnellste auf dieser GPU wird gesucht: nur beim ersten Mal",
  "try.tuning_amount": "{done} von {total} Wegen versucht",
  "try.reading": "Liest Ihre Nachricht…",
  "try.first_token": "erstes Wort nach {time}",
  "try.cut_off": "vorzeitig beendet",
  "try.stopped_empty": "Vor dem ersten Wort angehalten.",
  "try.spoken": "Die Antwort: {text}",

  "try.failed": "Die Antwort brach ab",
  "try.failed_meaning": "Was schon kam, steht oben. Das Gespräch ist noch da.",
  "try.failed_remedy": "Versuchen Sie es noch einmal oder wählen Sie ein kleineres Modell.",
  "try.failed_start": "Die Frage ließ sich nicht stellen",
  "try.failed_start_meaning":
    "Nichts ging verloren: Sie steht oben und lässt sich noch einmal stellen.",
  "try.lost": "Die Verbindung zum Programm brach während der Antwort ab",
};
