import type { Same } from "../../i18n/words";

export const en = {} as const;

export const de: Same<typeof en> = {};
