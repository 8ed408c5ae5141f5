import type { Same } from "../../i18n/words";

export const en = {
  "fleet.text": "Every machine of your account in this network, wherever it stands.",
  "fleet.reading": "Asking the network…",
  "fleet.none": "No machine is linked here yet",
  "fleet.none_text": "This machine is linked by itself as soon as it is connected to the network.",
  "fleet.all": "All machines",
  "fleet.pause_all": "Pause all",
  "fleet.snooze_all_1h": "Snooze all for 1 hour",
  "fleet.snooze_all_4h": "Snooze all for 4 hours",
  "fleet.resume_all": "Resume all",
  "fleet.acts_of": "What to do with {name}",
  "fleet.pause": "Pause",
  "fleet.resume": "Resume",
  "fleet.unlink": "Unlink",
  "fleet.told": { one: "{count} machine was told", other: "{count} machines were told" },
  "fleet.not_told": "{name} was not told",
  "fleet.fault.not_here": "It is not connected now.",
  "fleet.fault.not_allowed":
    "It takes no commands from afar. Allow them on that machine, on its Fleet page.",
  "fleet.fault.no_such": "The account has no such machine here.",
  "fleet.fault.other": "The network did not pass it on.",

  "fleet.this": "This machine",
  "fleet.unnamed": "Machine {id}",
  "fleet.gone": "Not here",
  "fleet.gone_since": "Not here since {time}",
  "fleet.working": "Working",
  "fleet.waiting": "Waiting for jobs",
  "fleet.jobs": "Jobs now",
  "fleet.speed": "Tokens/s",
  "fleet.points": "Points",
  "fleet.no_commands": "Takes no commands from afar",
  "fleet.device_rate": "{name}, {rate}",
  "fleet.device_paused": "{name}: {why}",

  "fleet.unlink_title": "Unlink {name}?",
  "fleet.unlink_text":
    "It is nobody’s then, and works on for itself. What it has earned until now stays yours.",
  "fleet.unlinked": "{name} is unlinked",
  "fleet.keep": "Keep",

  "fleet.link": "Link a machine",
  "fleet.link_title": "Link another machine",
  "fleet.link_about":
    "Make a code here, and type it on the other machine: on its Fleet page, or with this command.",
  "fleet.link_for": "For",
  "fleet.link_for.one": "One machine, 15 minutes",
  "fleet.link_for.few": "5 machines, 1 hour",
  "fleet.link_for.many": "100 machines, 1 day",
  "fleet.link_make": "Make a code",
  "fleet.link_left": "Good for {time} more",
  "fleet.link_over": "Its time is over: make another one.",
  "fleet.link_secret":
    "Whoever types it lends their machine to your account; show it to nobody else.",
  "fleet.close": "Close",
  "fleet.cancel": "Cancel",

  "fleet.name": "Name of this machine",
  "fleet.name_about": "As you see it among your machines.",
  "fleet.commands": "Take commands from afar",
  "fleet.commands_about":
    "Your account may pause and resume this machine. Each command is signed by your account and checked here, so nobody else can give one, whoever runs the network included.",
  "fleet.command.done": "Your account told this machine to {what}, {time}.",
  "fleet.command.not_allowed":
    "Your account wanted this machine to {what}, {time}. Commands from afar are not allowed here.",
  "fleet.command.forged":
    "Somebody wanted this machine to {what}, {time}, in the name of account {id}. It was not signed by your account, and was not done.",
  "fleet.command.stale":
    "A command to {what} came {time}. It was too old, or the clocks of two machines differ by more than two minutes.",
  "fleet.command.replayed":
    "Somebody sent an old command to {what} once more, {time}. It was not done again.",
  "fleet.what.pause": "pause",
  "fleet.what.snooze": "snooze",
  "fleet.what.resume": "resume",

  "account.title": "Account",
  "account.id": "Account {id}",
  "account.key_here":
    "Its key is on this machine: from here you spend its points and command its machines.",
  "account.key_elsewhere":
    "This machine earns for it. Its key is on another machine: spend and command from there.",
  "account.not_linked": "This machine becomes the account’s when it is next connected.",
  "account.backup": "Backup",
  "account.backup_about":
    "24 words are the whole account. If this machine is lost, only they bring it back.",
  "account.backup_show": "Show the words",
  "account.backup_title": "The words of your account",
  "account.backup_text":
    "Write them down in their order, or save them where nobody else reads them. Whoever has them owns the account.",
  "account.backup_list": "24 words in their order",
  "account.backup_save": "Save as a file",
  "account.backup_saved": "The words are saved",
  "account.copy": "Copy",
  "account.copied": "Copied",
  "account.remove": "Remove from this machine",
  "account.remove_about": "This machine is nobody’s then. Others of the account stay its own.",
  "account.remove_act": "Remove",
  "account.remove_title": "Remove the account from this machine?",
  "account.remove_text":
    "Its key is deleted here. Without the 24 words, or another machine with the key, the account is lost: its points, its keys and the command of its machines. Nobody can bring it back.",
  "account.removed": "The account is no longer on this machine",
  "account.unlink": "Unlink this machine",
  "account.unlink_about":
    "Before you sell it or give it away. What it has earned stays the account’s.",
  "account.unlink_act": "Unlink",
  "account.unlink_title": "Unlink this machine?",
  "account.unlink_text":
    "It is nobody’s then, and what it earns from now on is its own. This works without a network, too.",
  "account.unlinked": "This machine is nobody’s now",
  "account.keep": "Keep it",

  "account.none_title": "An account makes your machines one",
  "account.none_text":
    "With it you spend what this machine earns, add other machines by a short code, and see them all on one page. It is a key on this machine: no name, no password, no mail.",
  "account.create": "Create an account",
  "account.created": "You have an account",
  "account.created_text": "Keep its 24 words somewhere safe, on the Fleet page.",
  "account.have": "I have one already",
  "account.have_title": "Use an account that you have",
  "account.have_link": "Linking code",
  "account.have_link_about":
    "Sixteen letters and digits, shown on the machine with the account. This machine then earns for it; the key stays there.",
  "account.have_link_act": "Link this machine",
  "account.have_words": "Or its 24 words",
  "account.have_words_about":
    "They bring the account’s key to this machine. It may be on several machines at once.",
  "account.have_words_act": "Restore the account",
  "account.restored": "The account is on this machine",
  "account.linked": "This machine is your account’s now",
  "account.waiting": "A linking code waits: it is used when this machine is next connected.",

  "words.count": {
    one: "An account has 24 words, and this is {count}. Look for those that are missing",
    other: "An account has 24 words, and these are {count}. Look for one that is missing",
  },
  "words.unknown":
    "Word {place}, “{word}”, is none of those that accounts are made of. Did you mean “{nearest}”?",
  "words.checksum":
    "All words are right by themselves, but not together: one is another word of the list, or two changed places. Compare each with what you wrote down",
  "link.not_a_code":
    "This is not a linking code. One has sixteen letters and digits in groups of four, such as 7KQ2-M9XD-4HTC-VB3N",
  "link.unknown":
    "This network does not know that linking code. Check each character, and that both machines are in the same network",
  "link.used_up":
    "As many machines were linked by this code as may. Have another one shown on the machine with the account",
  "link.expired":
    "The linking code’s time is over. Have another one shown on the machine with the account",
  "link.forged":
    "This network gave another account’s word in place of the one that belongs to this code, and nothing was linked. Ask whoever runs the network what happened",
  "link.full": "The account has as many machines in this network as it may: unlink one first",
  "link.no_answer": "The network cannot be asked now",
} as const;

export const de: Same<typeof en> = {
  "fleet.text": "Jeder Rechner Ihres Kontos in diesem Netz, wo immer er steht.",
  "fleet.reading": "Das Netz wird gefragt…",
  "fleet.none": "Hier ist noch kein Rechner verbunden",
  "fleet.none_text":
    "Dieser Rechner wird von selbst verbunden, sobald er mit dem Netz verbunden ist.",
  "fleet.all": "Alle Rechner",
  "fleet.pause_all": "Alle pausieren",
  "fleet.snooze_all_1h": "Alle 1 Stunde ruhen lassen",
  "fleet.snooze_all_4h": "Alle 4 Stunden ruhen lassen",
  "fleet.resume_all": "Alle fortsetzen",
  "fleet.acts_of": "Was mit {name} geschehen soll",
  "fleet.pause": "Pausieren",
  "fleet.resume": "Fortsetzen",
  "fleet.unlink": "Trennen",
  "fleet.told": {
    one: "{count} Rechner weiß Bescheid",
    other: "{count} Rechner wissen Bescheid",
  },
  "fleet.not_told": "{name} weiß nicht Bescheid",
  "fleet.fault.not_here": "Er ist gerade nicht verbunden.",
  "fleet.fault.not_allowed":
    "Er nimmt keine Befehle aus der Ferne an. Erlauben Sie sie dort, auf der Seite Flotte.",
  "fleet.fault.no_such": "Das Konto hat hier keinen solchen Rechner.",
  "fleet.fault.other": "Das Netz hat es nicht weitergegeben.",

  "fleet.this": "Dieser Rechner",
  "fleet.unnamed": "Rechner {id}",
  "fleet.gone": "Nicht da",
  "fleet.gone_since": "Nicht da seit {time}",
  "fleet.working": "Arbeitet",
  "fleet.waiting": "Wartet auf Aufträge",
  "fleet.jobs": "Aufträge",
  "fleet.speed": "Tokens/s",
  "fleet.points": "Punkte",
  "fleet.no_commands": "Nimmt keine Befehle aus der Ferne an",
  "fleet.device_rate": "{name}, {rate}",
  "fleet.device_paused": "{name}: {why}",

  "fleet.unlink_title": "{name} trennen?",
  "fleet.unlink_text":
    "Er gehört dann niemandem und arbeitet für sich weiter. Was er bisher verdient hat, bleibt Ihres.",
  "fleet.unlinked": "{name} ist getrennt",
  "fleet.keep": "Behalten",

  "fleet.link": "Rechner verbinden",
  "fleet.link_title": "Einen weiteren Rechner verbinden",
  "fleet.link_about":
    "Machen Sie hier einen Code, und tippen Sie ihn auf dem anderen Rechner ein: auf seiner Seite Flotte, oder mit diesem Befehl.",
  "fleet.link_for": "Für",
  "fleet.link_for.one": "Einen Rechner, 15 Minuten",
  "fleet.link_for.few": "5 Rechner, 1 Stunde",
  "fleet.link_for.many": "100 Rechner, 1 Tag",
  "fleet.link_make": "Code machen",
  "fleet.link_left": "Gilt noch {time}",
  "fleet.link_over": "Seine Zeit ist um: Machen Sie einen neuen.",
  "fleet.link_secret":
    "Wer ihn eintippt, leiht Ihrem Konto seinen Rechner; zeigen Sie ihn sonst niemandem.",
  "fleet.close": "Schließen",
  "fleet.cancel": "Abbrechen",

  "fleet.name": "Name dieses Rechners",
  "fleet.name_about": "So sehen Sie ihn unter Ihren Rechnern.",
  "fleet.commands": "Befehle aus der Ferne annehmen",
  "fleet.commands_about":
    "Ihr Konto darf diesen Rechner pausieren und fortsetzen. Jeder Befehl ist von Ihrem Konto unterschrieben und wird hier geprüft; niemand sonst kann einen geben, auch nicht der Betreiber des Netzes.",
  "fleet.command.done": "Ihr Konto hat diesem Rechner befohlen: {what}, {time}.",
  "fleet.command.not_allowed":
    "Ihr Konto wollte von diesem Rechner: {what}, {time}. Befehle aus der Ferne sind hier nicht erlaubt.",
  "fleet.command.forged":
    "Jemand wollte von diesem Rechner: {what}, {time}, im Namen des Kontos {id}. Es war nicht von Ihrem Konto unterschrieben und geschah nicht.",
  "fleet.command.stale":
    "Ein Befehl kam an: {what}, {time}. Er war zu alt, oder die Uhren zweier Rechner gehen mehr als zwei Minuten auseinander.",
  "fleet.command.replayed":
    "Jemand hat einen alten Befehl noch einmal geschickt: {what}, {time}. Er wurde nicht wiederholt.",
  "fleet.what.pause": "pausieren",
  "fleet.what.snooze": "eine Weile ruhen",
  "fleet.what.resume": "fortsetzen",

  "account.title": "Konto",
  "account.id": "Konto {id}",
  "account.key_here":
    "Sein Schlüssel liegt auf diesem Rechner: Von hier geben Sie seine Punkte aus und befehlen seinen Rechnern.",
  "account.key_elsewhere":
    "Dieser Rechner verdient für es. Sein Schlüssel liegt auf einem anderen Rechner: Ausgeben und befehlen können Sie von dort.",
  "account.not_linked": "Dieser Rechner gehört dem Konto, sobald er das nächste Mal verbunden ist.",
  "account.backup": "Sicherung",
  "account.backup_about":
    "24 Wörter sind das ganze Konto. Geht dieser Rechner verloren, bringen nur sie es zurück.",
  "account.backup_show": "Wörter zeigen",
  "account.backup_title": "Die Wörter Ihres Kontos",
  "account.backup_text":
    "Schreiben Sie sie in ihrer Reihenfolge auf, oder speichern Sie sie, wo niemand sonst liest. Wer sie hat, dem gehört das Konto.",
  "account.backup_list": "24 Wörter in ihrer Reihenfolge",
  "account.backup_save": "Als Datei speichern",
  "account.backup_saved": "Die Wörter sind gespeichert",
  "account.copy": "Kopieren",
  "account.copied": "Kopiert",
  "account.remove": "Von diesem Rechner entfernen",
  "account.remove_about": "Dieser Rechner gehört dann niemandem. Andere des Kontos bleiben seine.",
  "account.remove_act": "Entfernen",
  "account.remove_title": "Das Konto von diesem Rechner entfernen?",
  "account.remove_text":
    "Sein Schlüssel wird hier gelöscht. Ohne die 24 Wörter oder einen anderen Rechner mit dem Schlüssel ist das Konto verloren: seine Punkte, seine Schlüssel und der Befehl über seine Rechner. Niemand kann es zurückbringen.",
  "account.removed": "Das Konto ist nicht mehr auf diesem Rechner",
  "account.unlink": "Diesen Rechner trennen",
  "account.unlink_about":
    "Bevor Sie ihn verkaufen oder weggeben. Was er verdient hat, bleibt dem Konto.",
  "account.unlink_act": "Trennen",
  "account.unlink_title": "Diesen Rechner trennen?",
  "account.unlink_text":
    "Er gehört dann niemandem, und was er von jetzt an verdient, ist seins. Das geht auch ohne Netz.",
  "account.unlinked": "Dieser Rechner gehört jetzt niemandem",
  "account.keep": "Lassen",

  "account.none_title": "Ein Konto macht Ihre Rechner zu einem",
  "account.none_text":
    "Damit geben Sie aus, was dieser Rechner verdient, nehmen weitere mit einem kurzen Code dazu und sehen alle auf einer Seite. Es ist ein Schlüssel auf diesem Rechner: kein Name, kein Passwort, keine Mail.",
  "account.create": "Konto anlegen",
  "account.created": "Sie haben ein Konto",
  "account.created_text": "Bewahren Sie seine 24 Wörter sicher auf, von der Seite Flotte.",
  "account.have": "Ich habe schon eines",
  "account.have_title": "Ein Konto benutzen, das Sie haben",
  "account.have_link": "Verbindungscode",
  "account.have_link_about":
    "Sechzehn Buchstaben und Ziffern, gezeigt auf dem Rechner mit dem Konto. Dieser Rechner verdient dann für es; der Schlüssel bleibt dort.",
  "account.have_link_act": "Diesen Rechner verbinden",
  "account.have_words": "Oder seine 24 Wörter",
  "account.have_words_about":
    "Sie bringen den Schlüssel des Kontos auf diesen Rechner. Er darf auf mehreren Rechnern zugleich sein.",
  "account.have_words_act": "Konto wiederherstellen",
  "account.restored": "Das Konto ist auf diesem Rechner",
  "account.linked": "Dieser Rechner gehört jetzt Ihrem Konto",
  "account.waiting":
    "Ein Verbindungscode wartet: Er wird benutzt, wenn dieser Rechner das nächste Mal verbunden ist.",

  "words.count": {
    one: "Ein Konto hat 24 Wörter, und das ist {count}. Suchen Sie, welche fehlen",
    other: "Ein Konto hat 24 Wörter, und das sind {count}. Suchen Sie, ob eines fehlt",
  },
  "words.unknown":
    "Wort {place}, „{word}“, ist keines von denen, aus denen Konten bestehen. Meinten Sie „{nearest}“?",
  "words.checksum":
    "Alle Wörter gibt es, aber nicht so zusammen: Eines ist ein anderes Wort der Liste, oder zwei haben die Plätze getauscht. Vergleichen Sie jedes mit dem, was Sie aufgeschrieben haben",
  "link.not_a_code":
    "Das ist kein Verbindungscode. Er hat sechzehn Buchstaben und Ziffern in Vierergruppen, wie 7KQ2-M9XD-4HTC-VB3N",
  "link.unknown":
    "Dieses Netz kennt den Verbindungscode nicht. Prüfen Sie jedes Zeichen, und dass beide Rechner im selben Netz sind",
  "link.used_up":
    "Mit diesem Code sind so viele Rechner verbunden, wie es dürfen. Lassen Sie auf dem Rechner mit dem Konto einen neuen zeigen",
  "link.expired":
    "Die Zeit des Verbindungscodes ist um. Lassen Sie auf dem Rechner mit dem Konto einen neuen zeigen",
  "link.forged":
    "Dieses Netz gab das Wort eines anderen Kontos statt dessen, das zu diesem Code gehört, und nichts wurde verbunden. Fragen Sie den Betreiber des Netzes, was geschehen ist",
  "link.full":
    "Das Konto hat in diesem Netz so viele Rechner, wie es haben darf: Trennen Sie erst einen",
  "link.no_answer": "Das Netz kann gerade nicht gefragt werden",
};
