// German.

import { de as earnings } from "../pages/earnings/words";
import { de as firstStart } from "../pages/first-start/words";
import { de as fleet } from "../pages/fleet/words";
import { de as gpu } from "../pages/gpu/words";
import { de as home } from "../pages/home/words";
import { de as jobs } from "../pages/jobs/words";
import { de as models } from "../pages/models/words";
import { de as networks } from "../pages/networks/words";
import { de as requirements } from "../pages/requirements/words";
import { de as settings } from "../pages/settings/words";
import { de as tryIt } from "../pages/try-it/words";
import { de as operator } from "../operator/words";
import { de as useIt } from "../pages/use-it/words";
import { de as pub } from "../public/words";
import type { SharedWords, Words } from "./en";
import type { Same } from "./words";

const shared: Same<SharedWords> = {
  "app.name": "Infera Node",
  "app.skip": "Zum Inhalt springen",
  "app.starting": "Startet…",

  "nav.label": "Seiten",
  "nav.home": "Start",
  "nav.gpu": "GPU",
  "nav.requirements": "Voraussetzungen",
  "nav.earnings": "Verdienst",
  "nav.jobs": "Aufträge",
  "nav.models": "Modelle",
  "nav.try-it": "Ausprobieren",
  "nav.use-it": "Benutzen",
  "nav.fleet": "Flotte",
  "nav.settings": "Einstellungen",

  "connection.connected": "Online",
  "connection.reference": "Online, prüft andere",
  "connection.connecting": "Verbindet…",
  "connection.disconnected": "Offline",
  "connection.refused": "Abgewiesen",
  "connection.none": "Nicht verbunden",
  "connection.lost": "Programm antwortet nicht",

  "lost.text":
    "Diese Seite hat das Programm verloren. Was Sie sehen, kann veraltet sein; sie versucht es weiter.",
  "unauthorised.title": "Dieser Seite fehlt ihr Schlüssel",
  "unauthorised.text":
    "Das Programm auf diesem Rechner antwortet nur dem, der den Schlüssel hat, den es beim Start ausgegeben hat. Diese Seite hat keinen oder einen alten.",
  "unauthorised.remedy": "Öffnen Sie die Adresse, die dieser Befehl ausgibt:",
  "failure.title": "Das Programm antwortet nicht",
  "failure.meaning":
    "Bis dahin lässt sich nichts anzeigen. Ihre Punkte und Modelle sind davon nicht betroffen.",
  "failure.remedy":
    "Prüfen Sie, ob Infera Node auf diesem Rechner läuft, und versuchen Sie es noch einmal.",

  "state.working": "Arbeitet",
  "state.waiting": "Wartet",
  "state.paused": "Pausiert",
  "state.needs_you": "Braucht Sie",
  "state.region": "Zustand des Knotens",

  "summary.reading_hardware": "Ihre Hardware wird gelesen",
  "summary.not_agreed": "Noch wird nichts geteilt: Sie haben nicht zugestimmt",
  "summary.no_balancer": "Keine Aufträge: Es ist kein Netzwerk gewählt",
  "summary.closing": "Wird beendet",
  "summary.paused": "Von Ihnen pausiert",
  "summary.paused_until": "Von Ihnen pausiert bis {time}",
  "summary.finishing": "Beendet den laufenden Auftrag, dann von Ihnen pausiert",
  "summary.finishing_until": "Beendet den laufenden Auftrag, dann von Ihnen pausiert bis {time}",
  "summary.own_use": "Pausiert, solange Sie das Modell selbst nutzen",
  "summary.rule.sleep": "Pausiert: Der Rechner geht in den Ruhezustand",
  "summary.rule.game": "Pausiert: {name} läuft. Geht weiter, sobald es beendet ist",
  "summary.rule.program": "Pausiert: {name} läuft. Geht weiter, sobald es beendet ist",
  "summary.rule.full_screen":
    "Pausiert: {name} füllt den Bildschirm. Geht weiter, sobald das vorbei ist",
  "summary.rule.low_memory":
    "Pausiert: Andere Programme brauchen den Arbeitsspeicher, {left} sind übrig. Geht weiter, sobald {enough} frei sind",
  "summary.rule.battery": "Pausiert: Akkubetrieb. Geht mit Netzstrom weiter",
  "summary.rule.battery_left":
    "Pausiert: Akkubetrieb (noch {percent}\u00a0%). Geht mit Netzstrom weiter",
  "summary.rule.low_battery": "Pausiert: Der Akku ist fast leer. Geht bei {percent}\u00a0% weiter",
  "summary.rule.gpu_busy":
    "Pausiert: Andere Programme nutzen die GPU. Geht weiter, sobald sie es nicht mehr tun",
  "summary.rule.gpu_memory":
    "Pausiert: Andere Programme brauchen den Speicher der GPU. Geht weiter, sobald {enough} frei sind",
  "summary.rule.gpu_hot": "Pausiert: Die GPU ist heiß. Geht bei {celsius}\u00a0°C weiter",
  "summary.rule.in_use":
    "Pausiert, solange Sie diesen Rechner benutzen. Geht nach {minutes}\u00a0min ohne Tastatur, Maus oder Gamepad weiter",
  "summary.rule.in_use_remote":
    "Pausiert: Jemand benutzt diesen Rechner aus der Ferne. Geht weiter, sobald die Verbindung getrennt ist",
  "summary.rule.hours": "Nach Ihrem Zeitplan pausiert bis {time}",
  "summary.rule.hours_never": "Pausiert: Ihr Zeitplan schließt alle Stunden aus",
  "summary.rule.goes_on": "Geht in {seconds}\u00a0s weiter: {over}",
  "summary.rule.goes_on_soon": "Geht gleich weiter: {over}",
  "summary.rule.over.sleep": "Der Rechner ist wach",
  "summary.rule.over.game": "{name} ist beendet",
  "summary.rule.over.program": "{name} ist beendet",
  "summary.rule.over.full_screen": "{name} füllt den Bildschirm nicht mehr",
  "summary.rule.over.low_memory": "Es ist wieder Arbeitsspeicher frei",
  "summary.rule.over.battery": "Der Netzstrom ist wieder da",
  "summary.rule.over.low_battery": "Der Akku ist wieder geladen",
  "summary.rule.over.gpu_busy": "Andere Programme nutzen die GPU nicht mehr",
  "summary.rule.over.gpu_memory": "Die GPU hat wieder Speicher",
  "summary.rule.over.gpu_hot": "Die GPU ist abgekühlt",
  "summary.rule.over.in_use": "Niemand benutzt diesen Rechner",
  "summary.rule.over.hours": "Die Stunden beginnen",
  "summary.outdated": "Keine Aufträge: Das Netzwerk verlangt eine andere Version von Infera Node",
  "summary.storage_fault": "Keine Aufträge: Der Knoten kann seine Arbeit nicht speichern",
  "summary.models_broken": "Keine Aufträge, Ihr Modell läuft nicht: {reason}",
  "summary.low_disk":
    "Keine Aufträge: Auf dem Datenträger mit dem Datenordner sind nur {free} frei",
  "summary.ram":
    "Keine Aufträge: Dieser Rechner hat {found} Arbeitsspeicher, das Netzwerk verlangt {need}",
  "summary.free_disk":
    "Keine Aufträge: Auf dem Datenträger sind {found} frei, das Netzwerk verlangt {need}",
  "summary.network":
    "Keine Aufträge: Ihre Verbindung schafft {found}, das Netzwerk verlangt {need}",
  "summary.no_gpu": "Keine Aufträge: Es wurde keine GPU gefunden, das Netzwerk verlangt {need}",
  "summary.gpu": "Keine Aufträge: Ihre GPU ist {found}, das Netzwerk verlangt {need}",
  "summary.after_job": "{sentence} (der laufende Auftrag wird noch beendet)",
  "summary.no_model": "Keine Aufträge: Es ist kein Modell gewählt",
  "summary.unreachable": "{balancer} ist nicht erreichbar; neuer Versuch in {seconds} s",
  "summary.unreachable_now": "{balancer} ist nicht erreichbar; neuer Versuch läuft",
  "summary.turned_away.identity_in_use":
    "Keine Aufträge: Ein anderes Programm arbeitet unter der Identität dieses Knotens",
  "summary.turned_away.invitation_needed":
    "Keine Aufträge: Das Netzwerk nimmt neue Rechner nur auf Einladung",
  "summary.turned_away.too_much":
    "Keine Aufträge: Das Netzwerk nimmt von Ihrer Internetadresse gerade nichts mehr an",
  "summary.loading": "{model} wird geladen: {percent}\u00a0%",
  "summary.tuning": "{model} wird einmalig auf diese GPU abgestimmt: {done} von {total}",
  "summary.restarting": "Das Modell ist stehen geblieben; neuer Start in {seconds} s",
  "summary.restarting_now": "Das Modell ist stehen geblieben; neuer Start läuft",
  "summary.not_served": "Keine Aufträge: Dieses Netzwerk bietet {models} nicht an",
  "summary.connecting": "Verbindet sich mit dem Netzwerk",
  "summary.waiting_for_jobs": "Wartet auf Aufträge",
  "summary.waiting_for_audits": "Wartet auf Antworten zum Prüfen",
  "summary.jobs": { one: "Arbeitet an einem Auftrag", other: "Arbeitet an {count} Aufträgen" },
  "summary.audits": {
    one: "Prüft die Antwort eines anderen Knotens",
    other: "Prüft {count} Antworten anderer Knoten",
  },
  "summary.at_rate": "{what}: {rate}",

  "history.working": "Arbeitet an Aufträgen",
  "history.audits": "Prüft Antworten anderer Knoten",
  "history.unreachable": "{balancer} war nicht erreichbar",
  "history.low_disk": "Keine Aufträge: Der Datenträger mit dem Datenordner war fast voll",
  "history.loading": "{model} wird geladen",
  "history.tuning": "{model} wird auf diese GPU abgestimmt",
  "history.restarting": "Das Modell blieb stehen und wurde neu gestartet",
  "history.rule.sleep": "Pausiert: Der Rechner ging in den Ruhezustand",
  "history.rule.game": "Pausiert: {name} lief",
  "history.rule.program": "Pausiert: {name} lief",
  "history.rule.full_screen": "Pausiert: {name} füllte den Bildschirm",
  "history.rule.low_memory": "Pausiert: Andere Programme brauchten den Arbeitsspeicher",
  "history.rule.battery": "Pausiert: Akkubetrieb",
  "history.rule.low_battery": "Pausiert: Der Akku war fast leer",
  "history.rule.gpu_busy": "Pausiert: Andere Programme nutzten die GPU",
  "history.rule.gpu_memory": "Pausiert: Andere Programme brauchten den Speicher der GPU",
  "history.rule.gpu_hot": "Pausiert: Die GPU war heiß",
  "history.rule.in_use": "Pausiert, während Sie diesen Rechner benutzten",
  "history.rule.in_use_remote": "Pausiert: Jemand benutzte diesen Rechner aus der Ferne",
  "history.rule.hours": "Nach Ihrem Zeitplan pausiert",
  "history.rule.hours_never": "Pausiert: Ihr Zeitplan schloss alle Stunden aus",
  "history.none": "Lief nicht",

  "remedy.outdated": "Installieren Sie die aktuelle Version von Infera Node",
  "remedy.not_agreed": "Gehen Sie die ersten Schritte durch",
  "remedy.no_balancer": "Tragen Sie in den Einstellungen die Adresse eines Netzwerks ein",
  "remedy.storage_fault":
    "Schaffen Sie Platz oder machen Sie den Datenordner beschreibbar; der Knoten macht dann von selbst weiter",
  "remedy.low_disk": "Schaffen Sie Platz; der Knoten macht weiter, wenn {size} frei sind",
  "remedy.ram": "Bauen Sie mehr Speicher ein oder wählen Sie ein Netzwerk, das weniger verlangt",
  "remedy.free_disk":
    "Schaffen Sie Platz oder legen Sie den Datenordner auf einen anderen Datenträger",
  "remedy.network":
    "Nutzen Sie eine Kabelverbindung oder schließen Sie Programme, die etwas herunterladen",
  "remedy.not_measured": "Es ließ sich nicht messen; Aufträge werden deshalb nicht zurückgehalten",
  "remedy.no_gpu":
    "Installieren Sie den GPU-Treiber, falls der Rechner eine GPU hat; ohne GPU schickt dieses Netzwerk keine Aufträge",
  "remedy.gpu_memory_unknown":
    "Der Treiber nennt den Speicher der GPU nicht; Aufträge, die nicht hineinpassen, lassen sich nicht laden",
  "remedy.gpu_too_small":
    "Diese GPU ist für dieses Netzwerk zu klein; eines, das weniger verlangt, nimmt sie vielleicht",
  "remedy.no_model": "Wählen Sie ein Modell",
  "remedy.models_broken": "Wählen Sie ein anderes Modell oder Gerät",
  "remedy.not_served": "Wählen Sie ein Modell, das das Netzwerk anbietet",
  "remedy.cannot_start":
    "Beheben Sie, was die Einzelheiten nennen, und starten Sie Infera Node neu",
  "remedy.keychain_locked":
    "Entsperren Sie ihn und prüfen Sie noch einmal, oder legen Sie den Schlüssel in eine Datei: Starten Sie Infera Node mit --key-file DATEI",
  "remedy.keychain_missing":
    "Der Schlüssel kann stattdessen in einer Datei liegen: Wer Ihre Dateien lesen kann, könnte dann unter dem Namen dieses Knotens arbeiten",
  "remedy.keychain_silent":
    "Entsperren Sie ihn und prüfen Sie noch einmal, oder legen Sie den Schlüssel in eine Datei: Starten Sie Infera Node mit --key-file DATEI",
  "remedy.paused": "Machen Sie weiter, wann Sie möchten",
  "remedy.own_use": "Beenden Sie den Chat oder die Messung; dann kommen sofort wieder Aufträge",
  "remedy.rule.sleep": "Nichts zu tun: Der Knoten macht weiter, wenn der Rechner aufwacht",
  "remedy.rule.game": "Nichts zu tun: Der Knoten macht weiter, sobald es beendet ist",
  "remedy.rule.program": "Nichts zu tun: Der Knoten macht weiter, sobald es beendet ist",
  "remedy.rule.full_screen": "Nichts zu tun: Der Knoten macht weiter, sobald das vorbei ist",
  "remedy.rule.low_memory":
    "Schließen Sie Programme; der Knoten macht weiter, wenn {enough} frei sind",
  "remedy.rule.battery": "Schließen Sie das Netzteil an; mit Netzstrom macht der Knoten weiter",
  "remedy.rule.low_battery":
    "Schließen Sie das Netzteil an; bei {percent}\u00a0% macht der Knoten weiter",
  "remedy.rule.gpu_busy": "Nichts zu tun: Der Knoten macht weiter, sobald sie es nicht mehr tun",
  "remedy.rule.gpu_memory":
    "Schließen Sie Programme; der Knoten macht weiter, wenn {enough} frei sind",
  "remedy.rule.gpu_hot":
    "Nichts zu tun: Der Knoten macht bei {celsius}\u00a0°C weiter. Kommt es oft vor, lassen Sie ihn einen kleineren Teil der Zeit arbeiten",
  "remedy.rule.in_use":
    "Nichts zu tun: Der Knoten macht nach {minutes}\u00a0min ohne Tastatur, Maus oder Gamepad weiter",
  "remedy.rule.in_use_remote":
    "Nichts zu tun: Der Knoten macht weiter, sobald die Verbindung getrennt ist",
  "remedy.rule.hours": "Nichts zu tun: Der Knoten macht weiter, wenn Ihre Stunden beginnen",
  "remedy.rule.hours_never": "Wählen Sie in den Einstellungen Stunden oder eine andere Regel",
  "remedy.rule.goes_on": "Nichts zu tun: Der Knoten macht gleich weiter",
  "remedy.offline":
    "Prüfen Sie die Internetverbindung dieses Rechners; der Knoten versucht es von selbst wieder",
  "remedy.offline.address":
    "Prüfen Sie die Adresse in den Einstellungen und die Internetverbindung; der Knoten versucht es von selbst wieder",
  "remedy.offline.plain_http":
    "Schreiben Sie http:// für ein Netzwerk auf diesem Rechner; bei einem anderen bitten Sie den Betreiber um TLS",
  "remedy.offline.certificate":
    "Bitten Sie den Betreiber um das Zertifikat, und starten Sie Infera Node mit --ca-file DATEI",
  "remedy.offline.certificate_changed":
    "Fragen Sie den Betreiber, ob das stimmt, und bitten Sie um eine neue Einladung",
  "remedy.offline.failing": "Nichts zu tun: Der Knoten versucht es von selbst wieder",
  "remedy.turned_away.identity_in_use":
    "Beenden Sie das andere, oder geben Sie einem von beiden einen eigenen Datenordner und Schlüssel. Nach einem Absturz ist nichts zu tun: Es wird von selbst wieder versucht",
  "remedy.turned_away.invitation_needed":
    "Bitten Sie den Betreiber um eine Einladung, und treten Sie damit in den Einstellungen bei",
  "remedy.turned_away.too_much":
    "Nichts zu tun: Es wird von selbst wieder versucht. Wenn hier viele Knoten laufen, beenden Sie einige",
  "remedy.model_loading": "Nichts zu tun: Sobald es geladen ist, kommen Aufträge",
  "remedy.no_demand": "Nichts zu tun: Ihr Knoten steht bereit und nimmt den nächsten",

  "requirement.ram": "Arbeitsspeicher (RAM)",
  "requirement.free_disk": "Freier Speicherplatz",
  "requirement.network": "Netzwerkgeschwindigkeit",
  "requirement.gpu": "GPU",

  "amount.unknown": "unbekannt",
  "amount.none": "keine",
  "amount.vram": "{size} VRAM",
  "amount.vram_or_apple": "{size} VRAM oder eine Apple-GPU der M-Reihe",
  "amount.gpu.vram": "{name} mit {size}",
  "amount.gpu.unknown": "{name} mit unbekanntem Speicher",
  "amount.gpu.software": "{name} (Software, keine GPU)",
  "amount.gpu.integrated": "{name} (teilt sich den Arbeitsspeicher)",

  "start.other": "Der Knoten kann nicht starten",
  "start.keychain_locked": "Der Schlüsselbund mit dem Schlüssel dieses Knotens ist gesperrt",
  "start.keychain_missing":
    "Dieser Rechner hat keinen Schlüsselbund für den Schlüssel dieses Knotens",
  "start.keychain_silent": "Der Schlüsselbund mit dem Schlüssel dieses Knotens antwortet nicht",

  "unreachable.host_not_found": "Kein Rechner hat den Namen des Netzwerks",
  "unreachable.nobody_listens": "Unter der Adresse des Netzwerks antwortet nichts",
  "unreachable.no_way": "Dieser Rechner hat keine Verbindung zur Adresse des Netzwerks",
  "unreachable.too_slow": "Das Netzwerk antwortet nicht",
  "unreachable.broken": "Die Verbindung zum Netzwerk brach ab",
  "unreachable.plain_http":
    "Unter der Adresse des Netzwerks wird nur HTTP gesprochen, verlangt ist https://",
  "unreachable.certificate": "Dem Zertifikat des Netzwerks wird nicht vertraut",
  "unreachable.certificate_changed":
    "Das Netzwerk zeigt ein anderes Zertifikat, als Ihre Einladung nennt",
  "unreachable.failing": "Das Netzwerk hat selbst eine Störung (Status {status})",
  "unreachable.not_a_network": "Dort antwortet etwas anderes als ein Netzwerk (Status {status})",
  "unreachable.other": "Das Netzwerk ist nicht erreichbar",

  "refused.malformed": "Das hat das Programm nicht verstanden",
  "refused.not_allowed": "Diese Seite darf das nicht verlangen",
  "refused.unauthorised": "Diese Seite darf das nicht verlangen",
  "refused.unreachable": "Das Programm antwortet nicht",
  "refused.no_folders": "Ein Browser kann keine Ordner dieses Rechners öffnen",
  "refused.not_gguf": "Das ist keine GGUF-Datei",
  "refused.no_such_command": "Das kann diese Version des Programms nicht",
  "refused.no_such_model": "Dieses Modell ist nicht mehr da",
  "refused.no_such_device": "Dieses Gerät rechnet nicht mehr",
  "refused.starting": "Der Knoten startet noch",
  "refused.ending": "Das Programm wird beendet",
  "refused.key_has_place": "Der Schlüssel des Knotens hat schon einen Platz",
  "refused.key_not_kept": "Der Schlüssel ließ sich nicht in einer Datei aufbewahren",
  "refused.settings_not_kept": "Die Einstellungen ließen sich nicht speichern",
  "refused.history.newer":
    "Den Auftragsverlauf hat eine neuere Version von Infera Node geschrieben",
  "refused.history.full": "Der Datenträger mit dem Auftragsverlauf ist voll",
  "refused.history.read_only": "In den Datenordner kann nicht geschrieben werden",
  "refused.history.locked": "Ein anderes Programm hält den Auftragsverlauf gesperrt",
  "refused.history.damaged":
    "Der Auftragsverlauf ist beschädigt; Ihre Punkte sind beim Netzwerk sicher",
  "refused.history.other": "Der Auftragsverlauf ist nicht benutzbar",
  "refused.model_too_large": "{model} braucht {size} mehr GPU-Speicher, als da ist",
  "refused.address.not_url": "Das ist nicht die Adresse eines Netzwerks",
  "refused.address.plain_http":
    "Über einfaches HTTP könnte jeder unterwegs mitlesen und ändern: Ein Netzwerk braucht https://",
  "refused.address.certificates": "Die eingestellten Zertifikate sind nicht benutzbar",
  "refused.jobs_at_once": "{asked} Aufträge zugleich sind nicht möglich",
  "refused.no_download_rate": "Mit einer Grenze von 0 würde nichts je fertig",
  "refused.out_of_range": "{asked} ist hier nicht möglich",
  "refused.away_minutes": "{asked} Minuten sind nicht möglich",
  "refused.no_hours": "Ohne einen gewählten Tag würde der Knoten nie arbeiten",
  "refused.library.folder": "Der Modellordner ist nicht benutzbar",
  "refused.library.not_in_catalogue": "Dieses Modell steht nicht mehr im Katalog",
  "refused.no_network": "Kein Netz ist in Benutzung",
  "refused.no_certificate": "Dieses Netz gibt kein Zertifikat heraus",
  "refused.has_account": "Dieser Rechner hat schon ein Konto",
  "refused.no_account": "Dieser Rechner hat kein Konto",
  "refused.account_elsewhere":
    "Der Schlüssel des Kontos dieses Rechners liegt auf einem anderen Rechner",
  "refused.key_is_here": "Dieser Rechner hat den Schlüssel des Kontos, also gehört er ihm",
  "refused.account_key": "Der Schlüssel des Kontos kann nicht gelesen oder aufbewahrt werden",
  "refused.account.no_machine": "Das Konto hat in diesem Netz noch keinen Rechner",
  "refused.account.full": "Das Konto hat so viele davon, wie es haben darf",
  "refused.account.name_taken": "Sie haben schon einen Schlüssel mit diesem Namen",
  "refused.account.no_such": "Das Konto hat keinen solchen Schlüssel oder Rechner",
  "refused.account.malformed": "Das Netz nimmt diesen Namen oder diese Zahl nicht",
  "refused.not_joined": "Diesem Netzwerk sind Sie nicht beigetreten",
  "refused.too_many_networks":
    "Sie sind {most} Netzwerken beigetreten, mehr gehen nicht: Verlassen Sie erst eines",
  "refused.library.not_url": "Das ist keine Webadresse",
  "refused.library.plain_http":
    "Was über einfaches HTTP kommt, könnte jeder unterwegs ändern: Nehmen Sie https://",
  "refused.library.password": "Eine Adresse mit Passwort wird nicht aufbewahrt",
  "refused.library.no_download": "Dieser Download ist fertig oder wurde abgebrochen",
  "refused.library.installed": "Dieses Modell ist schon installiert",
  "refused.library.not_installed": "Diese Modelldatei ist nicht auf diesem Rechner",
  "refused.library.in_folder": "Diese Datei liegt schon im Modellordner",
  "refused.library.unreadable": "Die Datei ist nicht lesbar",
  "refused.library.interrupted": "Die Datei ist nicht vollständig angekommen",
  "refused.library.not_a_model": "Das ist kein Modell, das benutzt werden kann",
  "refused.library.disk_full": "Auf dem Datenträger ist zu wenig Platz",
  "refused.library.over_quota": "Modelle würden mehr belegen, als Sie erlauben",
  "refused.library.not_deleted":
    "Die Datei lässt sich nicht löschen: Vielleicht benutzt sie ein anderes Programm",
  "refused.library.certificates": "Die eingestellten Zertifikate sind nicht benutzbar",
  "refused.library.ended": "Das Programm wird beendet",
  "refused.not_removed": "Einiges ließ sich nicht löschen",
  "refused.not_saved": "Die Datei wurde nicht gespeichert",
  "refused.address_not_opened": "Diese Adresse wird von hier nicht geöffnet",
  "refused.desktop": "Das System tut das nicht",
  "refused.remedy.no_network":
    "Treten Sie einem bei, oder wählen Sie eines, dem Sie beigetreten sind",
  "refused.remedy.has_account":
    "Entfernen Sie es erst von diesem Rechner, wenn Sie seine Wörter haben",
  "refused.remedy.no_account":
    "Legen Sie eines an, stellen Sie eines aus seinen Wörtern wieder her, oder verbinden Sie diesen Rechner mit einem Code",
  "refused.remedy.account_elsewhere":
    "Tun Sie das auf dem Rechner mit dem Konto, oder stellen Sie das Konto hier aus seinen Wörtern wieder her",
  "refused.remedy.key_is_here": "Entfernen Sie stattdessen das Konto von diesem Rechner",
  "refused.remedy.starting": "Versuchen Sie es gleich noch einmal",
  "refused.remedy.key_has_place": "Sehen Sie nach, ob etwas anderes den Knoten am Start hindert",
  "refused.remedy.model_too_large":
    "Wählen Sie ein kleineres Modell, ein anderes Gerät oder in den Einstellungen eine kleinere Reserve",
  "refused.remedy.jobs_at_once": "Wählen Sie zwischen 1 und {most}",
  "refused.remedy.no_download_rate": "Lassen Sie die Grenze leer, oder halten Sie den Download an",
  "refused.remedy.out_of_range": "Wählen Sie zwischen {least} und {most}",
  "refused.remedy.away_minutes": "Wählen Sie zwischen 1 und {most}",
  "refused.remedy.no_hours": "Wählen Sie einen Tag, oder schalten Sie den Zeitplan aus",
  "refused.remedy.not_removed": "Löschen Sie es von Hand: Die Details nennen es",
  "refused.remedy.not_saved": "Wählen Sie einen anderen Ordner, oder schaffen Sie Platz",
  "refused.remedy.address_not_opened": "Kopieren Sie sie in Ihren Browser, wenn Sie ihr vertrauen",

  "model_fault.unreadable": "Das System gibt die Datei nicht heraus",
  "model_fault.unsupported": "Diese Art von Modell kann das Programm noch nicht ausführen",
  "model_fault.damaged": "Die Datei ist beschädigt oder unvollständig",
  "model_fault.template": "Die Chatvorlage nimmt diese Unterhaltung nicht an",
  "model_fault.no_device": "Das gewählte Gerät ist nicht da",
  "model_fault.out_of_memory": "Das Gerät hat zu wenig Speicher für dieses Modell",
  "model_fault.device_lost": "Der Treiber der GPU ist abgestürzt oder wurde zurückgesetzt",
  "model_fault.not_started": "Die Rechenmaschine lässt sich nicht starten",
  "model_fault.silent": "Die Rechenmaschine antwortet nicht",
  "model_fault.ended": "Die Rechenmaschine hat sich von selbst beendet",
  "model_fault.context_full":
    "Die Unterhaltung ist länger als der Kontext des Modells: Beginnen Sie eine neue",
  "model_fault.broken_off": "Die Antwort wurde abgebrochen",
  "model_fault.internal": "Die Rechenmaschine hat versagt",

  "obstacle.not_agreed": "Sie haben dem Teilen noch nicht zugestimmt",
  "obstacle.no_balancer": "Es ist kein Netzwerk gewählt",
  "obstacle.paused": "Sie haben den Knoten pausiert",
  "obstacle.paused_until": "Sie haben den Knoten bis {time} pausiert",
  "obstacle.own_use": "Sie nutzen die GPU gerade für ein eigenes Modell",
  "obstacle.rule.sleep": "Dieser Rechner geht in den Ruhezustand",
  "obstacle.rule.game": "{name} läuft",
  "obstacle.rule.program": "{name} läuft",
  "obstacle.rule.full_screen": "{name} füllt den Bildschirm",
  "obstacle.rule.low_memory": "Andere Programme brauchen den Arbeitsspeicher: {left} sind übrig",
  "obstacle.rule.battery": "Dieser Rechner läuft mit Akku",
  "obstacle.rule.low_battery": "Der Akku ist fast leer",
  "obstacle.rule.gpu_busy": "Andere Programme nutzen die GPU",
  "obstacle.rule.gpu_memory": "Andere Programme brauchen den Speicher der GPU",
  "obstacle.rule.gpu_hot": "Die GPU ist heiß",
  "obstacle.rule.in_use": "Sie benutzen diesen Rechner",
  "obstacle.rule.in_use_remote": "Jemand benutzt diesen Rechner aus der Ferne",
  "obstacle.rule.hours": "Ihr Zeitplan lässt den Knoten bis {time} pausieren",
  "obstacle.rule.hours_never": "Ihr Zeitplan schließt alle Stunden aus",
  "obstacle.turned_away.identity_in_use":
    "Ein anderes Programm arbeitet unter der Identität dieses Knotens",
  "obstacle.turned_away.invitation_needed": "Das Netzwerk nimmt neue Rechner nur auf Einladung",
  "obstacle.turned_away.too_much":
    "Das Netzwerk nimmt von Ihrer Internetadresse gerade nichts mehr an",
  "obstacle.outdated": "Das Netzwerk verlangt eine andere Version von Infera Node",
  "obstacle.requirement": "{title}: {found} gefunden, {need} verlangt",
  "obstacle.storage_fault": "Der Knoten kann seine Arbeit nicht speichern",
  "obstacle.low_disk": "Auf dem Datenträger mit dem Datenordner sind nur {free} frei",
  "obstacle.no_model": "Es ist kein Modell gewählt",
  "obstacle.model_broken": "{model} läuft nicht: {reason}",
  "obstacle.model_loading": "{model} wird noch geladen",
  "obstacle.model_not_served": "Das Netzwerk bietet {model} nicht an",
  "obstacle.no_demand": "Das Netzwerk hat gerade keine Arbeit für diesen Knoten",

  "obstacle.act.first_start": "Erste Schritte öffnen",
  "obstacle.act.settings": "Einstellungen öffnen",
  "obstacle.act.requirements": "Voraussetzungen ansehen",
  "obstacle.act.models": "Modelle öffnen",
  "obstacle.act.try_it": "Chat öffnen",
  "obstacle.act.check": "Erneut prüfen",
  "obstacle.act.key_file": "Schlüssel in einer Datei auf diesem Rechner ablegen",
  "obstacle.act.resume": "Weitermachen",

  "pause.pause": "Pausieren",
  "pause.resume": "Weitermachen",
  "pause.menu": "Weitere Arten zu pausieren",
  "pause.menu_paused": "Anders pausieren",
  "pause.15min": "15 Minuten pausieren",
  "pause.1h": "1 Stunde pausieren",
  "pause.4h": "4 Stunden pausieren",
  "pause.tomorrow": "Bis morgen pausieren",
  "pause.tomorrow_hint": "8 Uhr früh",
  "pause.finish": "Auftrag beenden, dann pausieren",
  "pause.now": "Sofort pausieren",
  "pause.untimed": "Pausieren, bis ich weitermache",
  "pause.anyway": "Trotzdem eine Stunde arbeiten",
  "pause.anyway_until": "Ihre Regeln ruhen bis {time}",
  "pause.follow_rules": "Regeln wieder befolgen",

  "points.today": "Heute, bestätigt und in Prüfung",

  "unit.points": { one: "{points} Punkt", other: "{points} Punkte" },
  "unit.tokens": { one: "{count} Token", other: "{count} Token" },
  "unit.jobs": { one: "{count} Auftrag", other: "{count} Aufträge" },
  "unit.tokens_per_second": "{rate} Token/s",
  "unit.tokens_per_second_short": "Token/s",
  "unit.per_second": "{size}/s",
  "unit.percent": "{value}\u00a0%",

  "verdict.verified": "Bestätigt",
  "verdict.sampled_out": "Nicht zur Prüfung gezogen",
  "verdict.not_checked": "Nicht geprüft",
  "verdict.pending": "In Prüfung",
  "verdict.failed": "Prüfung nicht bestanden",
  "kind.audit": "Prüfung",

  "explain.vram":
    "Der eigene Speicher der GPU. Ein Modell muss hineinpassen, um schnell zu antworten.",
  "explain.token":
    "Ein Wortstück: was ein Modell liest und schreibt. Im Deutschen etwa drei Buchstaben.",
  "explain.verified":
    "Vergleichsknoten haben die Antwort nachgerechnet und keinen Unterschied gefunden.",
  "explain.sampled_out":
    "Nicht jeder Auftrag wird nachgerechnet: Das Los entscheidet. Nicht gezogene werden voll bezahlt.",
  "explain.not_checked":
    "Dieses Netz prüft keine Antworten: Sein Betreiber vertraut den Knoten. Bezahlt wird sofort und voll.",
  "explain.points":
    "Was ein Auftrag einbringt. Bestätigt sind sie, sobald der Auftrag geprüft worden ist.",

  "error.details": "Einzelheiten",
  "error.copy": "Kopieren",
  "error.copied": "Kopiert",
  "error.try_again": "Noch einmal versuchen",
  "dialog.close": "Schließen",
  "toast.dismiss": "Ausblenden",
  "toast.label": "Meldungen",

  "chart.summary": "Jetzt {now}, im Mittel {mean}, höchstens {highest}",
  "chart.empty": "Noch keine Messwerte",
  "chart.ago": "{minutes} min",
  "chart.hours_ago": "{hours} h",
  "chart.now": "jetzt",
  "chart.none": "kein Messwert",
  "table.sort": "Nach {column} sortieren",
};

export const de: Same<Words> = {
  ...shared,
  ...home,
  ...firstStart,
  ...gpu,
  ...requirements,
  ...earnings,
  ...jobs,
  ...models,
  ...networks,
  ...tryIt,
  ...useIt,
  ...fleet,
  ...settings,
  ...operator,
  ...pub,
};
