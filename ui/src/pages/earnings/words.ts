import type { Same } from "../../i18n/words";

export const en = {
  "earnings.text": "What this node has earned.",
  "earnings.export": "Export CSV",
  "earnings.saved": "The table is saved",
  "earnings.reading": "Reading your points…",
  "earnings.failed": "Your points could not be read",
  "earnings.failed_meaning": "They are not affected: the network keeps them.",
  "earnings.figures": "In all",
  "earnings.confirmed": "Confirmed",
  "earnings.confirmed_note": "Checked, or not drawn for a check. They are yours.",
  "earnings.pending": "Pending",
  "earnings.pending_note": "Earned, and still being checked.",
  "earnings.forfeited": "Forfeited",
  "earnings.forfeited_note": "Not paid: the answers failed their check.",
  "earnings.estimate": "Estimate",
  "earnings.estimate_value": "about {points}",
  "earnings.estimate_unit": "{unit} a day",
  "earnings.estimate_note": {
    one: "From the last minute of work; an estimate.",
    other: "From the last {count} minutes of work; an estimate.",
  },
  "earnings.estimate_days": {
    one: "What the last whole day brought; an estimate.",
    other: "The mean of the last {count} days; an estimate.",
  },
  "earnings.estimate_none":
    "After the first whole day, or as soon as your node has been busy for five of fifteen minutes.",
  "earnings.over_time": "Over time",
  "earnings.period": "Each bar is",
  "earnings.period.day": "Day",
  "earnings.period.week": "Week",
  "earnings.period.month": "Month",
  "earnings.chart": "Points over time; the arrow keys go from bar to bar",
  "earnings.chart.unit": "Points",
  "earnings.chart.nothing": "no work",
  "earnings.chart.hint": "The table has the same numbers.",
  "earnings.chart.last.day": {
    one: "The last of {all} days. The table has all of them.",
    other: "The last {count} of {all} days. The table has all of them.",
  },
  "earnings.chart.last.week": {
    one: "The last of {all} weeks. The table has all of them.",
    other: "The last {count} of {all} weeks. The table has all of them.",
  },
  "earnings.chart.last.month": {
    one: "The last of {all} months. The table has all of them.",
    other: "The last {count} of {all} months. The table has all of them.",
  },
  "earnings.table": "Points in numbers",
  "earnings.table.jobs": "Jobs",
  "earnings.table.tokens": "Tokens written",
  "earnings.so_far": "so far",
  "earnings.unlisted": "Earlier or elsewhere",
  "earnings.unlisted_about":
    "The network counts these for your node, and this machine has no record of them: an earlier installation, say.",
  "earnings.sum": "All together",
  "earnings.cost": "What the work costs",
  "earnings.cost.span": "Of",
  "earnings.cost.span.today": "Today",
  "earnings.cost.span.week": "7 days",
  "earnings.cost.span.month": "30 days",
  "earnings.cost.today": "Cost today",
  "earnings.cost.today_note": "So far.",
  "earnings.cost.a_day": "Cost per day",
  "earnings.cost.a_day_note": {
    one: "{cost} since midnight.",
    other: "{cost} in {count} days.",
  },
  "earnings.cost.tokens": "Per 1,000 tokens",
  "earnings.cost.tokens_note": "By what was written for jobs. Reading and checks are in the cost.",
  "earnings.cost.tokens_none": "No job was answered in this time.",
  "earnings.cost.points": "Per 100 points",
  "earnings.cost.points_note": "By what was earned, pending points included.",
  "earnings.cost.points_none": "No points were earned in this time.",
  "earnings.cost.energy": "Electricity",
  "earnings.cost.energy_about":
    "What the GPU itself draws while there is work, less what it draws at rest. Processor, screen and the losses of the power supply are not in it.",
  "earnings.cost.energy_note":
    "{time} of work at {watts}. At rest your GPU draws {rest}, which does not count.",
  "earnings.cost.energy_note_all":
    "{time} of work at {watts}. Your GPU was not seen at rest yet: all that it draws counts.",
  "earnings.cost.no_span": "No work was measured in this time.",
  "earnings.cost.price": "A kilowatt-hour costs",
  "earnings.cost.price_about":
    "Counted with what you pay for a kilowatt-hour. The price stays on this machine.",
  "earnings.cost.price_ask": "Tell what a kilowatt-hour costs, and the money will stand here.",
  "earnings.cost.price_where": "It is on your electricity bill, and stays on this machine.",
  "earnings.cost.price_wrong": "Write a price such as {example}, or leave it empty.",
  "earnings.cost.currency": "Currency",
  "earnings.cost.silent": "Not reported by this driver",
  "earnings.cost.silent_text":
    "The driver of {adapters} does not tell how much power it draws, so what the work costs is not known.",
  "earnings.cost.silent_part":
    "The driver of {adapters} does not tell how much power it draws: that is not in these figures.",
  "earnings.cost.processor": "Not measured here",
  "earnings.cost.processor_text":
    "Your processor computes, and nothing reports what it draws for that. With a GPU whose driver reports its power, what the work costs will stand here.",
  "earnings.cost.processor_now":
    "Your processor computes now, and nothing reports what it draws: that is not in these figures.",
  "earnings.cost.none": "No work measured yet",
  "earnings.cost.none_text":
    "From your first job on, what your GPU draws for it will stand here, and what that costs by day, by 1,000 tokens and by 100 points.",
  "earnings.none": "No points yet",
  "earnings.none_text":
    "Each answered job earns points by the tokens it read and wrote. Bars for days, weeks and months will stand here from your first job on, and a table of the same numbers.",
} as const;

export const de: Same<typeof en> = {
  "earnings.text": "Was dieser Knoten verdient hat.",
  "earnings.export": "Als CSV sichern",
  "earnings.saved": "Die Tabelle ist gesichert",
  "earnings.reading": "Ihre Punkte werden gelesen…",
  "earnings.failed": "Ihre Punkte ließen sich nicht lesen",
  "earnings.failed_meaning": "Sie sind davon nicht betroffen: Das Netzwerk bewahrt sie auf.",
  "earnings.figures": "Insgesamt",
  "earnings.confirmed": "Bestätigt",
  "earnings.confirmed_note": "Geprüft oder nicht zur Prüfung gezogen. Sie gehören Ihnen.",
  "earnings.pending": "Ausstehend",
  "earnings.pending_note": "Verdient und noch in Prüfung.",
  "earnings.forfeited": "Verfallen",
  "earnings.forfeited_note": "Nicht bezahlt: Die Antworten haben die Prüfung nicht bestanden.",
  "earnings.estimate": "Schätzung",
  "earnings.estimate_value": "etwa {points}",
  "earnings.estimate_unit": "{unit} am Tag",
  "earnings.estimate_note": {
    one: "Aus der letzten Minute Arbeit; eine Schätzung.",
    other: "Aus den letzten {count} Minuten Arbeit; eine Schätzung.",
  },
  "earnings.estimate_days": {
    one: "Was der letzte ganze Tag gebracht hat; eine Schätzung.",
    other: "Der Durchschnitt der letzten {count} Tage; eine Schätzung.",
  },
  "earnings.estimate_none":
    "Nach dem ersten ganzen Tag, oder sobald Ihr Knoten fünf von fünfzehn Minuten gearbeitet hat.",
  "earnings.over_time": "Im Lauf der Zeit",
  "earnings.period": "Ein Balken ist",
  "earnings.period.day": "Tag",
  "earnings.period.week": "Woche",
  "earnings.period.month": "Monat",
  "earnings.chart": "Punkte im Lauf der Zeit; die Pfeiltasten gehen von Balken zu Balken",
  "earnings.chart.unit": "Punkte",
  "earnings.chart.nothing": "keine Arbeit",
  "earnings.chart.hint": "Die Tabelle hat dieselben Zahlen.",
  "earnings.chart.last.day": {
    one: "Der letzte von {all} Tagen. Die Tabelle hat alle.",
    other: "Die letzten {count} von {all} Tagen. Die Tabelle hat alle.",
  },
  "earnings.chart.last.week": {
    one: "Die letzte von {all} Wochen. Die Tabelle hat alle.",
    other: "Die letzten {count} von {all} Wochen. Die Tabelle hat alle.",
  },
  "earnings.chart.last.month": {
    one: "Der letzte von {all} Monaten. Die Tabelle hat alle.",
    other: "Die letzten {count} von {all} Monaten. Die Tabelle hat alle.",
  },
  "earnings.table": "Punkte in Zahlen",
  "earnings.table.jobs": "Aufträge",
  "earnings.table.tokens": "Token geschrieben",
  "earnings.so_far": "bis jetzt",
  "earnings.unlisted": "Früher oder anderswo",
  "earnings.unlisted_about":
    "Das Netzwerk zählt diese für Ihren Knoten, und dieser Rechner weiß nichts von ihnen: etwa von einer früheren Installation.",
  "earnings.sum": "Zusammen",
  "earnings.cost": "Was die Arbeit kostet",
  "earnings.cost.span": "Von",
  "earnings.cost.span.today": "Heute",
  "earnings.cost.span.week": "7 Tage",
  "earnings.cost.span.month": "30 Tage",
  "earnings.cost.today": "Kosten heute",
  "earnings.cost.today_note": "Bis jetzt.",
  "earnings.cost.a_day": "Kosten am Tag",
  "earnings.cost.a_day_note": {
    one: "{cost} seit Mitternacht.",
    other: "{cost} in {count} Tagen.",
  },
  "earnings.cost.tokens": "Je 1.000 Token",
  "earnings.cost.tokens_note":
    "Nach dem, was für Aufträge geschrieben wurde. Lesen und Prüfungen sind in den Kosten.",
  "earnings.cost.tokens_none": "In dieser Zeit wurde kein Auftrag beantwortet.",
  "earnings.cost.points": "Je 100 Punkte",
  "earnings.cost.points_note": "Nach dem, was verdient wurde, mit ausstehenden Punkten.",
  "earnings.cost.points_none": "In dieser Zeit wurden keine Punkte verdient.",
  "earnings.cost.energy": "Strom",
  "earnings.cost.energy_about":
    "Was die Grafikkarte selbst während der Arbeit zieht, ohne das, was sie in Ruhe zieht. Prozessor, Bildschirm und die Verluste des Netzteils sind nicht dabei.",
  "earnings.cost.energy_note":
    "{time} Arbeit mit {watts}. In Ruhe zieht die Grafikkarte {rest}, die nicht zählen.",
  "earnings.cost.energy_note_all":
    "{time} Arbeit mit {watts}. In Ruhe war die Grafikkarte noch nicht zu sehen: Alles, was sie zieht, zählt.",
  "earnings.cost.no_span": "In dieser Zeit wurde keine Arbeit gemessen.",
  "earnings.cost.price": "Eine Kilowattstunde kostet",
  "earnings.cost.price_about":
    "Gerechnet mit dem, was Sie für eine Kilowattstunde zahlen. Der Preis bleibt auf diesem Rechner.",
  "earnings.cost.price_ask":
    "Sagen Sie, was eine Kilowattstunde kostet, und die Beträge stehen hier.",
  "earnings.cost.price_where": "Es steht auf Ihrer Stromrechnung und bleibt auf diesem Rechner.",
  "earnings.cost.price_wrong":
    "Schreiben Sie einen Preis wie {example}, oder lassen Sie das Feld leer.",
  "earnings.cost.currency": "Währung",
  "earnings.cost.silent": "Von diesem Treiber nicht gemeldet",
  "earnings.cost.silent_text":
    "Der Treiber von {adapters} meldet nicht, wie viel Leistung sie zieht. Was die Arbeit kostet, ist deshalb nicht bekannt.",
  "earnings.cost.silent_part":
    "Der Treiber von {adapters} meldet nicht, wie viel Leistung sie zieht: Das ist nicht in diesen Zahlen.",
  "earnings.cost.processor": "Hier nicht gemessen",
  "earnings.cost.processor_text":
    "Ihr Prozessor rechnet, und nichts meldet, was er dafür zieht. Mit einer Grafikkarte, deren Treiber die Leistung meldet, steht hier, was die Arbeit kostet.",
  "earnings.cost.processor_now":
    "Jetzt rechnet Ihr Prozessor, und nichts meldet, was er zieht: Das ist nicht in diesen Zahlen.",
  "earnings.cost.none": "Noch keine Arbeit gemessen",
  "earnings.cost.none_text":
    "Ab Ihrem ersten Auftrag steht hier, was Ihre Grafikkarte dafür zieht und was das am Tag, je 1.000 Token und je 100 Punkte kostet.",
  "earnings.none": "Noch keine Punkte",
  "earnings.none_text":
    "Jeder beantwortete Auftrag bringt Punkte, je nachdem, wie viele Token er gelesen und geschrieben hat. Ab dem ersten stehen hier Balken für Tage, Wochen und Monate und darunter eine Tabelle mit denselben Zahlen.",
};
