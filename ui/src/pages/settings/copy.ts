import { t } from "../../i18n/index.svelte";
import { toasts } from "../../lib/toasts.svelte";

/** To the clipboard, and says so. */
export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toasts.show({ title: t("settings.copied") });
  } catch {
    toasts.show({ kind: "error", title: t("settings.copy_failed") });
  }
}
