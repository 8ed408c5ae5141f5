import type { Same } from "../../i18n/words";

export const en = {
  "use.text":
    "Ask the network from any program that speaks OpenAI’s API. Your machines’ points pay for it.",
  "use.elsewhere": "The key of your account is on another machine",
  "use.elsewhere_text":
    "This machine earns for account {id}. Keys and spending are on the machine with the account; to have them here too, restore the account from its words on the Fleet page.",
  "use.to_fleet": "Open Fleet",
  "use.no_network": "No network is in use",
  "use.no_network_text": "Points are earned and spent within a network: join one, or choose one.",
  "use.to_networks": "Open networks",

  "use.failed": "The network does not tell",
  "use.failed_meaning": "What you see may be old. Points and keys are safe in its books.",
  "use.reading": "Asking the network…",

  "use.balance": "Points",
  "use.balance_left": "To spend",
  "use.balance_left_about": "What your machines have earned, less what your keys have spent.",
  "use.balance_earned": "Earned",
  "use.balance_spent": "Spent",

  "use.address": "Address",
  "use.address_about": "What programs call the base URL.",
  "use.certificate":
    "This network has a certificate of its own, which programs do not know. Save it, and tell them where it is; the examples below do.",
  "use.certificate_save": "Save certificate",
  "use.certificate_saved": "The certificate is saved",

  "use.keys": "Keys",
  "use.keys_none": "No keys yet",
  "use.keys_none_text":
    "A program proves with a key that it may spend your points. Make one for each program, so that you see what each spends and can end one alone.",
  "use.make": "Make a key",
  "use.name": "Name",
  "use.route": "Goes to",
  "use.route.own": "My machines",
  "use.route.own_about": "Costs nothing, and is not checked. Nobody else sees it.",
  "use.route.trusted": "Trusted machines",
  "use.route.trusted_about": "To machines that whoever runs the network vouches for. Not checked.",
  "use.route.any": "All machines",
  "use.route.any_about": "To any machine of the network; answers are checked by its rules.",
  "use.today": "Today",
  "use.of": "{spent} of {limit}",
  "use.all": "In all",
  "use.made": "Made",
  "use.revoked": "Revoked",
  "use.revoke": "Revoke",
  "use.revoke_of": "Revoke {name}",
  "use.revoke_title": "Revoke {name}?",
  "use.revoke_text":
    "Programs that use this key are refused at once, for good. What it spent stays in the books.",
  "use.revoked_done": "{name} is revoked",
  "use.keep": "Keep",
  "use.show_revoked": {
    one: "Show {count} revoked key",
    other: "Show {count} revoked keys",
  },

  "use.new_title": "A key for a program",
  "use.new_name": "What is it for?",
  "use.new_name_about": "Letters, digits, and - _ . @, as in “laptop” or “notes”.",
  "use.new_name_wrong": "1 to 64 letters, digits, - _ . or @, without spaces.",
  "use.new_limit": "At most on one day",
  "use.new_limit_about": "A day is one in UTC. Leave it empty for all that you have.",
  "use.new_limit_wrong": "A number of points, such as 50 or 0.5.",
  "use.new_points": "points",
  "use.new_route": "Where may its questions go?",
  "use.new_cancel": "Cancel",
  "use.new_done": "Your key",
  "use.new_once":
    "Copy it now: it is shown this one time. The examples on this page have it until you leave.",
  "use.new_close": "Done",

  "use.examples": "In a program",
  "use.examples_about": "Each is whole: paste it, and it answers.",
  "use.example.curl": "curl",
  "use.example.python": "Python",
  "use.example.javascript": "JavaScript",
  "use.example.editor": "Editor",
  "use.example_about.curl": "In a terminal.",
  "use.example_about.python": "Once: pip install openai",
  "use.example_about.javascript": "Once: npm install openai",
  "use.example_about.editor": "The Continue extension of VS Code and JetBrains: its config.yaml.",
  "use.example_key": "Where it says {placeholder}, put one of your keys.",

  "spent.title": "Spent by your keys",
  "spent.text": {
    one: "In the last day, in UTC",
    other: "In the last {count} days, in UTC",
  },
  "spent.none": "Nothing was spent in these days.",
  "spent.day": "Day",
  "spent.key": "Key",
  "spent.model": "Model",
  "spent.requests": "Requests",
  "spent.points": "Points",
  "spent.sum": "Together",
} as const;

export const de: Same<typeof en> = {
  "use.text":
    "Fragen Sie das Netz aus jedem Programm, das OpenAIs API spricht. Die Punkte Ihrer Rechner bezahlen dafür.",
  "use.elsewhere": "Der Schlüssel Ihres Kontos liegt auf einem anderen Rechner",
  "use.elsewhere_text":
    "Dieser Rechner verdient für das Konto {id}. Schlüssel und Ausgaben sind auf dem Rechner mit dem Konto; um sie auch hier zu haben, stellen Sie das Konto auf der Seite Flotte aus seinen Wörtern wieder her.",
  "use.to_fleet": "Flotte öffnen",
  "use.no_network": "Kein Netz ist in Benutzung",
  "use.no_network_text":
    "Punkte werden in einem Netz verdient und ausgegeben: Treten Sie einem bei, oder wählen Sie eines.",
  "use.to_networks": "Netze öffnen",

  "use.failed": "Das Netz sagt es nicht",
  "use.failed_meaning":
    "Was Sie sehen, ist vielleicht alt. Punkte und Schlüssel sind in seinen Büchern sicher.",
  "use.reading": "Das Netz wird gefragt…",

  "use.balance": "Punkte",
  "use.balance_left": "Verfügbar",
  "use.balance_left_about":
    "Was Ihre Rechner verdient haben, ohne das, was Ihre Schlüssel ausgegeben haben.",
  "use.balance_earned": "Verdient",
  "use.balance_spent": "Ausgegeben",

  "use.address": "Adresse",
  "use.address_about": "Was Programme die Basis-URL nennen.",
  "use.certificate":
    "Dieses Netz hat ein eigenes Zertifikat, das Programme nicht kennen. Speichern Sie es, und sagen Sie ihnen, wo es liegt; die Beispiele unten tun das.",
  "use.certificate_save": "Zertifikat speichern",
  "use.certificate_saved": "Das Zertifikat ist gespeichert",

  "use.keys": "Schlüssel",
  "use.keys_none": "Noch keine Schlüssel",
  "use.keys_none_text":
    "Mit einem Schlüssel zeigt ein Programm, dass es Ihre Punkte ausgeben darf. Machen Sie für jedes Programm einen: So sehen Sie, was jedes ausgibt, und können einen allein beenden.",
  "use.make": "Schlüssel machen",
  "use.name": "Name",
  "use.route": "Geht an",
  "use.route.own": "Meine Rechner",
  "use.route.own_about": "Kostet nichts und wird nicht geprüft. Niemand sonst sieht es.",
  "use.route.trusted": "Vertraute Rechner",
  "use.route.trusted_about":
    "An Rechner, für die der Betreiber des Netzes einsteht. Wird nicht geprüft.",
  "use.route.any": "Alle Rechner",
  "use.route.any_about":
    "An jeden Rechner des Netzes; Antworten werden nach seinen Regeln geprüft.",
  "use.today": "Heute",
  "use.of": "{spent} von {limit}",
  "use.all": "Insgesamt",
  "use.made": "Gemacht",
  "use.revoked": "Widerrufen",
  "use.revoke": "Widerrufen",
  "use.revoke_of": "{name} widerrufen",
  "use.revoke_title": "{name} widerrufen?",
  "use.revoke_text":
    "Programme mit diesem Schlüssel werden sofort und für immer abgewiesen. Was er ausgegeben hat, bleibt in den Büchern.",
  "use.revoked_done": "{name} ist widerrufen",
  "use.keep": "Behalten",
  "use.show_revoked": {
    one: "{count} widerrufenen Schlüssel zeigen",
    other: "{count} widerrufene Schlüssel zeigen",
  },

  "use.new_title": "Ein Schlüssel für ein Programm",
  "use.new_name": "Wofür ist er?",
  "use.new_name_about": "Buchstaben, Ziffern und - _ . @, wie „laptop“ oder „notizen“.",
  "use.new_name_wrong":
    "1 bis 64 Buchstaben ohne Umlaute, Ziffern, - _ . oder @, keine Leerzeichen.",
  "use.new_limit": "Höchstens an einem Tag",
  "use.new_limit_about": "Ein Tag in UTC. Leer heißt: alles, was Sie haben.",
  "use.new_limit_wrong": "Eine Zahl von Punkten, etwa 50 oder 0,5.",
  "use.new_points": "Punkte",
  "use.new_route": "Wohin dürfen seine Fragen gehen?",
  "use.new_cancel": "Abbrechen",
  "use.new_done": "Ihr Schlüssel",
  "use.new_once":
    "Kopieren Sie ihn jetzt: Er wird nur dieses eine Mal gezeigt. Die Beispiele auf dieser Seite haben ihn, bis Sie sie verlassen.",
  "use.new_close": "Fertig",

  "use.examples": "In einem Programm",
  "use.examples_about": "Jedes ist vollständig: einfügen, und es antwortet.",
  "use.example.curl": "curl",
  "use.example.python": "Python",
  "use.example.javascript": "JavaScript",
  "use.example.editor": "Editor",
  "use.example_about.curl": "In einem Terminal.",
  "use.example_about.python": "Einmal: pip install openai",
  "use.example_about.javascript": "Einmal: npm install openai",
  "use.example_about.editor":
    "Die Erweiterung Continue von VS Code und JetBrains: ihre config.yaml.",
  "use.example_key": "Wo {placeholder} steht, kommt einer Ihrer Schlüssel hin.",

  "spent.title": "Von Ihren Schlüsseln ausgegeben",
  "spent.text": {
    one: "Am letzten Tag, in UTC",
    other: "In den letzten {count} Tagen, in UTC",
  },
  "spent.none": "In diesen Tagen wurde nichts ausgegeben.",
  "spent.day": "Tag",
  "spent.key": "Schlüssel",
  "spent.model": "Modell",
  "spent.requests": "Anfragen",
  "spent.points": "Punkte",
  "spent.sum": "Zusammen",
};
