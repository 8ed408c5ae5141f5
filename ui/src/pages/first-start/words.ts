import type { Same } from "../../i18n/words";

export const en = {
  "first.title": "Welcome to Infera Node",
  "first.skip": "Skip",
} as const;

export const de: Same<typeof en> = {
  "first.title": "Willkommen bei Infera Node",
  "first.skip": "Überspringen",
};
