import type { Same } from "../../i18n/words";

export const en = {
  "models.text": "What your node can answer with. A model is one file; it stays on this machine.",
  "models.from_address": "From an address",
  "models.choose_file": "Choose a file",

  "models.disk": "Disk use",
  "models.disk.models": "installed models",
  "models.disk.partial": "unfinished downloads",
  "models.disk.free": "still allowed",
  "models.disk.free_disk": "free on the disk",
  "models.disk.limit": "You allow models {quota}. {free} are free on the disk.",
  "models.disk.limit_only": "You allow models {quota}.",
  "models.disk.no_limit": "No limit is set: models may fill the disk.",
  "models.disk.settings": "Limits in the settings",

  "models.downloads": "Downloads",
  "models.download.amount": "{done} of {total}",
  "models.download.queued": "Waits for the download before it",
  "models.download.connecting": "Connecting to {host}…",
  "models.download.running": "{speed}, about {time} left",
  "models.download.stalled": "Nothing is coming; tries again in {seconds} s. What has come is kept",
  "models.download.stalled_now": "Nothing is coming; trying again. What has come is kept",
  "models.download.paused": "Paused. What has come is kept, even over a restart",
  "models.download.metered": "Waits: this connection is metered. It goes on by itself over another",
  "models.download.verifying": "Checking that the file is whole",
  "models.download.verifying_at": "Checking that the file is whole: {percent}",
  "models.download.progress": "Download of {name}",
  "models.download.pause": "Pause",
  "models.download.resume": "Resume",
  "models.download.now": "Try now",
  "models.download.cancel": "Cancel",
  "models.download.of": "{act}: {name}",
  "models.cancel.title": "Cancel this download?",
  "models.cancel.text":
    "{size} of {name} have come. They are deleted; a later download begins anew.",
  "models.cancel.keep": "Keep it",
  "models.cancel.confirm": "Delete what has come",

  "models.fault.title.disk_full": "The disk is full",
  "models.fault.title.over_quota": "The limit for models is reached",
  "models.fault.title.wrong_hash": "The file is not what it should be",
  "models.fault.title.unreachable": "The source cannot be reached",
  "models.fault.title.refused": "The source does not hand out the file",
  "models.fault.title.not_a_model": "This is not a model file",
  "models.fault.title.storage": "The file could not be saved",
  "models.fault.meaning.disk_full": "What has come is kept; the download stands still.",
  "models.fault.meaning.over_quota": "With this model they would take more than you allow them.",
  "models.fault.meaning.wrong_hash":
    "It was damaged or changed on its way here. It was not installed, and no job sees it.",
  "models.fault.meaning.unreachable": "What has come is kept.",
  "models.fault.meaning.refused": "It may have moved, or ask for an account.",
  "models.fault.meaning.not_a_model": "Only GGUF files can be used. Nothing was installed.",
  "models.fault.meaning.storage": "The models folder cannot be written to. What has come is kept.",
  "models.fault.remedy.disk_full": "Free some space on the disk with the models, then resume.",
  "models.fault.remedy.over_quota": "Delete a model, or raise the limit in the settings.",
  "models.fault.remedy.wrong_hash":
    "Try again. If it comes back, the source has changed: choose another model.",
  "models.fault.remedy.unreachable": "Check the internet connection, then try again.",
  "models.fault.remedy.refused": "Choose another model, or an address that asks for no account.",
  "models.fault.remedy.not_a_model":
    "Check that the address leads to the file itself, not to a page about it.",
  "models.fault.remedy.storage": "Make the folder writable, then try again.",

  "models.fit.fits": "Fits, with {spare} to spare",
  "models.fit.fits_in": "Fits in your {memory} with {spare} to spare",
  "models.fit.too_large": "Needs {missing} more GPU memory than you have",
  "models.fit.on_cpu": "Runs on the processor, slowly",
  "models.fit.unknown": "The driver does not tell whether it fits",
  "models.short.disk": "Needs {missing} more free space on the disk",
  "models.short.quota": "{missing} over the limit that you set for models",

  "models.installed": "Installed",
  "models.installed.none": "No model yet",
  "models.installed.none_text":
    "Models stand here once they are downloaded or copied, with a switch to answer jobs with them. Begin with the suggested one below.",
  "models.in_use": "Answers jobs",
  "models.in_use.of": "Answer jobs with {name}",
  "models.imported": "your own file",
  "models.more": "More for {name}",
  "models.try": "Try it in the chat",
  "models.delete": "Delete",
  "models.delete.title": "Delete {name}?",
  "models.delete.text": "This frees {size} on the disk.",
  "models.delete.again": "You can download it again whenever you like.",
  "models.delete.copy":
    "It is deleted from the models folder. The file that you copied it from stays.",
  "models.delete.in_use":
    "Your node answers jobs with it and stops that now; a job in progress is given back to the network.",
  "models.delete.last": "It is the only one in use: without it no jobs come.",
  "models.delete.keep": "Keep it",
  "models.delete.confirm": "Delete {size}",
  "models.deleted": "{name} is deleted",
  "models.cannot_use":
    "Choose a smaller model, or keep less memory for other programs in the settings.",
  "models.price":
    "The network pays {output} points for 1,000 tokens written, {input} for 1,000 read",
  "models.price.none": "This network does not serve it",

  "models.catalogue": "To download",
  "models.catalogue.reading": "Reading the catalogue…",
  "models.catalogue.failed": "The catalogue could not be read",
  "models.catalogue.failed_text": "You can still download from an address or drop a file here.",
  "models.catalogue.all": "Every model of the catalogue is installed.",
  "models.suggested": "Suggested for this machine",
  "models.size": "Size",
  "models.size_unknown": "size not known yet",
  "models.parameters": "Parameters",
  "models.parameters.value": "{count} billion",
  "models.parameters.million": "{count} million",
  "models.quantisation": "Quantisation",
  "models.context": "Context",
  "models.licence": "Licence",
  "models.licence.open": "{licence}, opens in the browser",
  "models.download": "Download",
  "models.download.anyway": "Download anyway",
  "models.is_installed": "Installed",
  "models.is_downloading": "In the downloads above",
  "explain.quantisation":
    "How far a model’s numbers are rounded to make the file smaller: Q4 to about 4 bits, Q8 to 8.",
  "explain.context": "How much the model can keep in view at once: question and answer together.",
  "explain.parameters": "The numbers a model has learned. More answer better, and slower.",

  "models.import": "Your own model",
  "models.import.drop_or": "Drop a GGUF file on this window, or choose one",
  "models.import.text": "It is copied into the models folder; your file stays where it is.",
  "models.import.let_go": "Let go to copy it into the models folder",
  "models.import.copying": "Copying {name} into the models folder",
  "models.import.done": "{name} is copied and can be used",
  "models.import.failed": "{name} was not copied",
  "models.import.not_gguf": "It is not a GGUF file, and only those can be used.",
  "models.import.not_gguf_remedy": "Look for the model’s file whose name ends in .gguf.",
  "models.import.nothing": "Nothing was changed.",
  "models.import.dismiss": "Dismiss",

  "models.address": "Download from an address",
  "models.address.label": "Address of a GGUF file",
  "models.address.about":
    "Any HTTPS address, for example of a file on Hugging Face. Read the model’s licence there first.",
  "models.address.begin": "Download",
  "models.address.not_url":
    "This is no web address. It begins with https:// and leads to a file that ends in .gguf.",
  "models.address.plain":
    "Plain HTTP could be changed on its way. Use the same address with https://.",
  "models.address.password": "An address with a password in it is not taken, for it would be kept.",
  "models.address.page": "This leads to a page, not to a file. Copy the address of its download.",
  "models.address.cancel": "Cancel",
} as const;

export const de: Same<typeof en> = {
  "models.text":
    "Womit Ihr Knoten antworten kann. Ein Modell ist eine Datei; sie bleibt auf diesem Rechner.",
  "models.from_address": "Von einer Adresse",
  "models.choose_file": "Datei wählen",

  "models.disk": "Speicherplatz",
  "models.disk.models": "installierte Modelle",
  "models.disk.partial": "angefangene Downloads",
  "models.disk.free": "noch erlaubt",
  "models.disk.free_disk": "frei auf dem Datenträger",
  "models.disk.limit": "Sie erlauben Modellen {quota}. Auf dem Datenträger sind {free} frei.",
  "models.disk.limit_only": "Sie erlauben Modellen {quota}.",
  "models.disk.no_limit": "Es ist keine Grenze gesetzt: Modelle dürfen den Datenträger füllen.",
  "models.disk.settings": "Grenzen in den Einstellungen",

  "models.downloads": "Downloads",
  "models.download.amount": "{done} von {total}",
  "models.download.queued": "Wartet auf den Download davor",
  "models.download.connecting": "Verbindet mit {host}…",
  "models.download.running": "{speed}, noch etwa {time}",
  "models.download.stalled":
    "Es kommt nichts an; neuer Versuch in {seconds} s. Was da ist, bleibt erhalten",
  "models.download.stalled_now": "Es kommt nichts an; neuer Versuch. Was da ist, bleibt erhalten",
  "models.download.paused": "Pausiert. Was da ist, bleibt erhalten, auch nach einem Neustart",
  "models.download.metered":
    "Wartet: Diese Verbindung ist getaktet. Über eine andere geht es weiter",
  "models.download.verifying": "Prüft, ob die Datei vollständig ist",
  "models.download.verifying_at": "Prüft, ob die Datei vollständig ist: {percent}",
  "models.download.progress": "Download von {name}",
  "models.download.pause": "Pausieren",
  "models.download.resume": "Fortsetzen",
  "models.download.now": "Jetzt versuchen",
  "models.download.cancel": "Abbrechen",
  "models.download.of": "{act}: {name}",
  "models.cancel.title": "Diesen Download abbrechen?",
  "models.cancel.text":
    "{size} von {name} sind schon da. Sie werden gelöscht; ein späterer Download beginnt von vorn.",
  "models.cancel.keep": "Behalten",
  "models.cancel.confirm": "Löschen, was da ist",

  "models.fault.title.disk_full": "Der Datenträger ist voll",
  "models.fault.title.over_quota": "Die Grenze für Modelle ist erreicht",
  "models.fault.title.wrong_hash": "Die Datei ist nicht die erwartete",
  "models.fault.title.unreachable": "Die Quelle ist nicht erreichbar",
  "models.fault.title.refused": "Die Quelle gibt die Datei nicht heraus",
  "models.fault.title.not_a_model": "Das ist keine Modelldatei",
  "models.fault.title.storage": "Die Datei ließ sich nicht speichern",
  "models.fault.meaning.disk_full": "Was da ist, bleibt erhalten; der Download steht still.",
  "models.fault.meaning.over_quota":
    "Mit diesem Modell würden sie mehr belegen, als Sie ihnen erlauben.",
  "models.fault.meaning.wrong_hash":
    "Sie wurde unterwegs beschädigt oder verändert. Sie ist nicht installiert, kein Auftrag nutzt sie.",
  "models.fault.meaning.unreachable": "Was da ist, bleibt erhalten.",
  "models.fault.meaning.refused": "Vielleicht ist sie umgezogen oder verlangt ein Konto.",
  "models.fault.meaning.not_a_model":
    "Nur GGUF-Dateien lassen sich nutzen. Es wurde nichts installiert.",
  "models.fault.meaning.storage":
    "In den Modellordner lässt sich nicht schreiben. Was da ist, bleibt erhalten.",
  "models.fault.remedy.disk_full":
    "Schaffen Sie Platz auf dem Datenträger mit den Modellen und setzen Sie dann fort.",
  "models.fault.remedy.over_quota":
    "Löschen Sie ein Modell oder erhöhen Sie die Grenze in den Einstellungen.",
  "models.fault.remedy.wrong_hash":
    "Versuchen Sie es noch einmal. Kommt es wieder, hat sich die Quelle geändert: Wählen Sie ein anderes Modell.",
  "models.fault.remedy.unreachable":
    "Prüfen Sie die Internetverbindung und versuchen Sie es noch einmal.",
  "models.fault.remedy.refused":
    "Wählen Sie ein anderes Modell oder eine Adresse, die kein Konto verlangt.",
  "models.fault.remedy.not_a_model":
    "Prüfen Sie, ob die Adresse zur Datei selbst führt und nicht zu einer Seite über sie.",
  "models.fault.remedy.storage":
    "Machen Sie den Ordner beschreibbar und versuchen Sie es noch einmal.",

  "models.fit.fits": "Passt, {spare} bleiben frei",
  "models.fit.fits_in": "Passt in Ihre {memory}, {spare} bleiben frei",
  "models.fit.too_large": "Braucht {missing} mehr GPU-Speicher, als Sie haben",
  "models.fit.on_cpu": "Läuft auf dem Prozessor, langsam",
  "models.fit.unknown": "Der Treiber verrät nicht, ob es passt",
  "models.short.disk": "Braucht {missing} mehr freien Platz auf dem Datenträger",
  "models.short.quota": "{missing} über der Grenze, die Sie für Modelle gesetzt haben",

  "models.installed": "Installiert",
  "models.installed.none": "Noch kein Modell",
  "models.installed.none_text":
    "Hier stehen Modelle, sobald sie geladen oder kopiert sind, mit einem Schalter, um damit Aufträge zu beantworten. Beginnen Sie mit dem vorgeschlagenen unten.",
  "models.in_use": "Beantwortet Aufträge",
  "models.in_use.of": "Aufträge mit {name} beantworten",
  "models.imported": "eigene Datei",
  "models.more": "Mehr zu {name}",
  "models.try": "Im Chat ausprobieren",
  "models.delete": "Löschen",
  "models.delete.title": "{name} löschen?",
  "models.delete.text": "Das macht {size} auf dem Datenträger frei.",
  "models.delete.again": "Sie können es jederzeit wieder herunterladen.",
  "models.delete.copy":
    "Es wird aus dem Modellordner gelöscht. Die Datei, von der Sie es kopiert haben, bleibt.",
  "models.delete.in_use":
    "Ihr Knoten beantwortet damit Aufträge und hört damit auf; ein laufender Auftrag geht an das Netzwerk zurück.",
  "models.delete.last": "Es ist das einzige im Einsatz: Ohne es kommen keine Aufträge.",
  "models.delete.keep": "Behalten",
  "models.delete.confirm": "{size} löschen",
  "models.deleted": "{name} ist gelöscht",
  "models.cannot_use": "Es kann keine Aufträge beantworten, solange es nicht passt.",
  "models.price":
    "Das Netzwerk zahlt {output} Punkte für 1.000 geschriebene Token, {input} für 1.000 gelesene",
  "models.price.none": "Dieses Netzwerk bietet es nicht an",

  "models.catalogue": "Zum Herunterladen",
  "models.catalogue.reading": "Der Katalog wird gelesen…",
  "models.catalogue.failed": "Der Katalog ließ sich nicht lesen",
  "models.catalogue.failed_text":
    "Sie können trotzdem von einer Adresse laden oder eine Datei hier ablegen.",
  "models.catalogue.all": "Alle Modelle des Katalogs sind installiert.",
  "models.suggested": "Vorschlag für diesen Rechner",
  "models.size": "Größe",
  "models.size_unknown": "Größe noch nicht bekannt",
  "models.parameters": "Parameter",
  "models.parameters.value": "{count} Milliarden",
  "models.parameters.million": "{count} Millionen",
  "models.quantisation": "Quantisierung",
  "models.context": "Kontext",
  "models.licence": "Lizenz",
  "models.licence.open": "{licence}, öffnet sich im Browser",
  "models.download": "Herunterladen",
  "models.download.anyway": "Trotzdem herunterladen",
  "models.is_installed": "Installiert",
  "models.is_downloading": "Oben bei den Downloads",
  "explain.quantisation":
    "Wie stark die Zahlen eines Modells gerundet sind, damit die Datei kleiner wird: Q4 auf etwa 4 Bit, Q8 auf 8.",
  "explain.context": "Wie viel das Modell auf einmal im Blick behält: Frage und Antwort zusammen.",
  "explain.parameters":
    "Die Zahlen, die ein Modell gelernt hat. Mehr davon antworten besser und langsamer.",

  "models.import": "Eigenes Modell",
  "models.import.drop_or": "Legen Sie eine GGUF-Datei auf diesem Fenster ab, oder wählen Sie eine",
  "models.import.text": "Sie wird in den Modellordner kopiert; Ihre Datei bleibt, wo sie ist.",
  "models.import.let_go": "Loslassen, um sie in den Modellordner zu kopieren",
  "models.import.copying": "{name} wird in den Modellordner kopiert",
  "models.import.done": "{name} ist kopiert und kann genutzt werden",
  "models.import.failed": "{name} wurde nicht kopiert",
  "models.import.not_gguf": "Es ist keine GGUF-Datei, und nur solche lassen sich nutzen.",
  "models.import.not_gguf_remedy": "Suchen Sie die Datei des Modells, deren Name auf .gguf endet.",
  "models.import.nothing": "Es wurde nichts geändert.",
  "models.import.dismiss": "Ausblenden",

  "models.address": "Von einer Adresse herunterladen",
  "models.address.label": "Adresse einer GGUF-Datei",
  "models.address.about":
    "Jede HTTPS-Adresse, etwa die einer Datei bei Hugging Face. Lesen Sie dort zuerst die Lizenz des Modells.",
  "models.address.begin": "Herunterladen",
  "models.address.not_url":
    "Das ist keine Webadresse. Sie beginnt mit https:// und führt zu einer Datei, die auf .gguf endet.",
  "models.address.plain":
    "Einfaches HTTP ließe sich unterwegs ändern. Nehmen Sie dieselbe Adresse mit https://.",
  "models.address.password":
    "Eine Adresse mit einem Passwort wird nicht angenommen, denn sie würde gespeichert.",
  "models.address.page":
    "Das führt zu einer Seite, nicht zu einer Datei. Kopieren Sie die Adresse ihres Downloads.",
  "models.address.cancel": "Abbrechen",
};
