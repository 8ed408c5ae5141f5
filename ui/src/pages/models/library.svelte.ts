// What of the catalogue is offered, and files that could not be copied into the models folder.

import { t } from "../../i18n/index.svelte";
import { catalogue, fileName, isFileOf, isModelOf } from "../../lib/catalogue.svelte";
import { commands } from "../../lib/commands";
import { app } from "../../lib/state.svelte";
import { toasts } from "../../lib/toasts.svelte";
import {
  asCallError,
  type AppState,
  type CallError,
  type CatalogueItem,
} from "../../platform/types";

export { catalogue };

/** Changes when the catalogue must be read again: fit and suggestion hang on the device. */
export function catalogueKey(state: AppState): string {
  const chosen = state.adapters.filter(({ standing }) => standing.standing === "chosen");
  return JSON.stringify([
    chosen.map(({ id, vram_bytes }) => [id, vram_bytes]),
    state.settings.devices,
    state.settings.vram_reserve_bytes,
    state.installed.map(({ path }) => path),
  ]);
}

/** The suggested first, then what fits from large to small, then the rest from small to large. */
export function ordered(items: CatalogueItem[]): CatalogueItem[] {
  const rank = (item: CatalogueItem) =>
    item.suggested ? 0 : item.fit.fit === "fits" ? 1 : item.fit.fit === "too_large" ? 3 : 2;
  return [...items].sort((a, b) => {
    const by = rank(a) - rank(b);
    if (by !== 0) return by;
    const size = a.entry.bytes - b.entry.bytes;
    return rank(a) === 1 ? -size : size;
  });
}

/** What the catalogue has beside what is here already. */
export function offered({ installed }: AppState): CatalogueItem[] {
  return ordered(catalogue.items ?? []).filter(
    ({ entry }) => !installed.some((model) => isModelOf(entry, model)),
  );
}

/** A file that was not copied, and why. */
export interface FailedImport {
  id: number;
  name: string;
  failure: CallError;
}

const NOT_GGUF: CallError = { refusal: { why: "not_gguf" }, message: "", remedy: null };

class Imports {
  failed = $state.raw<FailedImport[]>([]);
  #next = 1;

  /** Of this machine, by path. */
  path(path: string): Promise<void> {
    const name = path.split(/[\\/]/).at(-1) ?? path;
    return this.#copy(name, () => commands.import_model({ path }));
  }

  /** As a browser hands it over. */
  file(file: File): Promise<void> {
    return this.#copy(file.name, () => app.platform.importFile(file));
  }

  dismiss(id: number): void {
    this.failed = this.failed.filter((other) => other.id !== id);
  }

  async #copy(name: string, act: () => Promise<unknown>): Promise<void> {
    try {
      // The program refuses it too, but only once all of it has been copied.
      if (!/\.gguf$/i.test(name)) throw NOT_GGUF;
      await act();
      await this.#endDownloads(fileName(name));
      toasts.show({ title: t("models.import.done", { name }) });
    } catch (error) {
      const failure = asCallError(error);
      this.failed = [...this.failed, { id: this.#next++, name, failure }];
    }
  }

  /** A download of what is here now, and that stands still, has nothing left to do. */
  async #endDownloads(name: string): Promise<void> {
    const entry = catalogue.items?.find(({ entry }) => isFileOf(entry, name))?.entry;
    const same = (app.state?.downloads ?? []).filter(
      ({ id, url, state }) =>
        (id === entry?.id || fileName(url) === name) &&
        ["queued", "stalled", "paused", "metered", "failed"].includes(state.state),
    );
    for (const { id } of same) await commands.cancel_download({ id });
  }
}

export const imports = new Imports();
