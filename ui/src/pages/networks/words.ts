import type { Same } from "../../i18n/words";

export const en = {
  "networks.asking": "Asking the network…",
  "networks.found": "This is {name}",
  "networks.operator": "Run by {operator}",
  "networks.models": "What it serves, and pays",
  "networks.no_models": "No model now",
  "networks.checking": "How answers are checked",
  "networks.checking.always": {
    one: "By {count} reference node",
    other: "By {count} reference nodes",
  },
  "networks.checking.waiting": {
    one: "By reference nodes: {count} of {needed} is here, so that answers wait to be checked",
    other: "By reference nodes: {count} of {needed} are here, so that answers wait to be checked",
  },
  "networks.checking.none": "Not at all: whoever runs it trusts every node",
  "networks.invitation": "What the invitation makes of this machine",
  "networks.standing.ordinary": "A node like any other",
  "networks.standing.trusted": "A trusted node: whoever runs the network vouches for it",
  "networks.standing.reference": "A reference node: it checks others’ answers in place of jobs",
  "networks.uses": {
    one: "{count} more machine may join by it",
    other: "{count} more machines may join by it",
  },
  "networks.expires": "Until {time}",
  "networks.machine": "This machine",
  "networks.met": "Meets its rules",
  "networks.unmet": "Does not meet its rules: {rows}",
  "networks.invitation_needed":
    "This network takes new machines by invitation only. Ask whoever runs it for a link",

  "networks.link": "Invitation or address",
  "networks.link_about": "Paste the link that you were given. Nothing is joined before you say so.",
  "networks.join": "Join",
  "networks.cancel": "Cancel",
  "networks.joined": "You are in {name}",

  "networks.busy": {
    one: "The job in progress goes back to the network.",
    other: "The {count} jobs in progress go back to the network.",
  },
  "networks.active": "In use",
  "networks.use": "Use",
  "networks.used": "The node works for {name} now",
  "networks.since": "since {date}",
  "networks.is_reference": "reference node",
  "networks.is_trusted": "trusted node",
  "networks.leave": "Leave",
  "networks.leave_title": "Leave {name}?",
  "networks.leave_text":
    "Points stay in its books under this identity, and the history stays here. To come back you may need a new invitation.",
  "networks.stay": "Stay",
  "networks.left": "The node has left {name}",
  "networks.another": "Join a network",
  "networks.another_about":
    "By an invitation, a link that begins with infera:// or https://, or by its address.",
  "networks.none": "No network is chosen: no job can come.",

  "invitation.not_one":
    "This is no invitation. One begins with infera://join, or with https:// and has a token: copy the whole link",
  "invitation.cut_off":
    "The invitation is cut off: its last characters are missing. Copy the whole link; mail programs break long lines",
  "invitation.changed":
    "The invitation was changed on its way. Ask for it again, as a file or a QR code",
  "invitation.plain_http":
    "The invitation leads to an address without encryption. Ask for one with https",
  "invitation.unknown":
    "The network never gave this invitation out. Ask for a new one, and check that it is this network’s",
  "invitation.used_up": "As many machines have joined by this invitation as may. Ask for a new one",
  "invitation.expired": "The invitation’s time is over. Ask for a new one",
  "invitation.revoked": "The invitation was taken back. Ask for a new one",
} as const;

export const de: Same<typeof en> = {
  "networks.asking": "Das Netzwerk wird gefragt…",
  "networks.found": "Das ist {name}",
  "networks.operator": "Betrieben von {operator}",
  "networks.models": "Was es anbietet und zahlt",
  "networks.no_models": "Zurzeit kein Modell",
  "networks.checking": "Wie Antworten geprüft werden",
  "networks.checking.always": {
    one: "Von {count} Referenzknoten",
    other: "Von {count} Referenzknoten",
  },
  "networks.checking.waiting": {
    one: "Von Referenzknoten: {count} von {needed} ist da, darum warten Antworten auf ihre Prüfung",
    other:
      "Von Referenzknoten: {count} von {needed} sind da, darum warten Antworten auf ihre Prüfung",
  },
  "networks.checking.none": "Gar nicht: Wer es betreibt, vertraut allen Knoten",
  "networks.invitation": "Was die Einladung aus diesem Rechner macht",
  "networks.standing.ordinary": "Ein Knoten wie jeder andere",
  "networks.standing.trusted": "Ein vertrauter Knoten: Wer das Netzwerk betreibt, bürgt für ihn",
  "networks.standing.reference":
    "Ein Referenzknoten: Er prüft Antworten anderer, statt Aufträge zu bekommen",
  "networks.uses": {
    one: "Noch {count} Rechner kann damit beitreten",
    other: "Noch {count} Rechner können damit beitreten",
  },
  "networks.expires": "Bis {time}",
  "networks.machine": "Dieser Rechner",
  "networks.met": "Erfüllt die Regeln",
  "networks.unmet": "Erfüllt nicht alle Regeln: {rows}",
  "networks.invitation_needed":
    "Dieses Netzwerk nimmt neue Rechner nur auf Einladung. Bitten Sie den Betreiber um einen Link",

  "networks.link": "Einladung oder Adresse",
  "networks.link_about":
    "Fügen Sie den Link ein, den Sie bekommen haben. Beigetreten wird erst, wenn Sie es sagen.",
  "networks.join": "Beitreten",
  "networks.cancel": "Abbrechen",
  "networks.joined": "Sie sind in {name}",

  "networks.busy": {
    one: "Der laufende Auftrag geht an das Netzwerk zurück.",
    other: "Die {count} laufenden Aufträge gehen an das Netzwerk zurück.",
  },
  "networks.active": "In Gebrauch",
  "networks.use": "Verwenden",
  "networks.used": "Der Knoten arbeitet jetzt für {name}",
  "networks.since": "seit {date}",
  "networks.is_reference": "Referenzknoten",
  "networks.is_trusted": "vertrauter Knoten",
  "networks.leave": "Verlassen",
  "networks.leave_title": "{name} verlassen?",
  "networks.leave_text":
    "Punkte bleiben unter dieser Identität in den Büchern des Netzwerks, der Verlauf bleibt hier. Für die Rückkehr kann eine neue Einladung nötig sein.",
  "networks.stay": "Bleiben",
  "networks.left": "Der Knoten hat {name} verlassen",
  "networks.another": "Einem Netzwerk beitreten",
  "networks.another_about":
    "Mit einer Einladung, einem Link, der mit infera:// oder https:// beginnt, oder mit seiner Adresse.",
  "networks.none": "Es ist kein Netzwerk gewählt: Es kann kein Auftrag kommen.",

  "invitation.not_one":
    "Das ist keine Einladung. Eine beginnt mit infera://join, oder mit https:// und hat ein Token: Kopieren Sie den ganzen Link",
  "invitation.cut_off":
    "Die Einladung ist abgeschnitten: Ihre letzten Zeichen fehlen. Kopieren Sie den ganzen Link; Mailprogramme brechen lange Zeilen um",
  "invitation.changed":
    "Die Einladung wurde unterwegs verändert. Lassen Sie sie sich noch einmal geben, als Datei oder QR-Code",
  "invitation.plain_http":
    "Die Einladung führt zu einer Adresse ohne Verschlüsselung. Bitten Sie um eine mit https",
  "invitation.unknown":
    "Diese Einladung hat das Netzwerk nie ausgegeben. Bitten Sie um eine neue, und prüfen Sie, ob sie von diesem Netzwerk ist",
  "invitation.used_up":
    "Mit dieser Einladung sind so viele Rechner beigetreten, wie dürfen. Bitten Sie um eine neue",
  "invitation.expired": "Die Zeit der Einladung ist um. Bitten Sie um eine neue",
  "invitation.revoked": "Die Einladung wurde zurückgezogen. Bitten Sie um eine neue",
};
