// What the program says of a fault, parted into a sentence for a person and a line for a report.

import { locale } from "../i18n/index.svelte";

export interface Fault {
  text: string;
  details: string | null;
}

/** Words of libraries and systems, which tell a person nothing. */
const TECHNICAL =
  /\berror (sending|decoding|trying|reading|writing)\b|\b(builder|os|dns|tls|i\/o|io) error\b|\btcp\b|\bconnection (reset|refused|closed|aborted|timed out)\b|\btimed out\b|\btimeout\b|\bbroken pipe\b|\bno such (file|host)\b|\bpermission denied\b|\bdatabase\b|\bsqlite\b|\btensor\b|\bpanicked\b|\binvalid (type|value|digit)\b|\bexpected\b.*\bat line\b|\bat line \d|\bunexpected (end|eof)\b|\b[\w-]+::\w|\b0x[0-9a-f]+\b|\bSHA-256\b|\b[a-z0-9]+_[a-z0-9_]+\b/i;

/**
 * The part of a message that is a sentence for people, and all of it where that is not the whole.
 * The program speaks English: in another language there is no such part.
 */
export function parted(message: string): { text: string | null; details: string | null } {
  if (message === "") return { text: null, details: null };
  if (locale.language !== "en") return { text: null, details: message };
  if (!TECHNICAL.test(message)) return { text: message, details: null };
  const clauses = message.split(/(?::|;|\.) /);
  const end = clauses.findIndex((clause) => TECHNICAL.test(clause));
  const length = clauses.slice(0, end).join(": ").length;
  return { text: length === 0 ? null : message.slice(0, length), details: message };
}

/** A sentence of ours where the program has none for people. */
export function faultOf(message: string, otherwise: string): Fault {
  const { text, details } = parted(message);
  return { text: text ?? otherwise, details };
}
