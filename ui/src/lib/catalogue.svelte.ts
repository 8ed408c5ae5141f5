// The catalogue as last read, and the one name that each model has.

import {
  asCallError,
  type CallError,
  type CatalogueEntry,
  type CatalogueItem,
  type InstalledModel,
} from "../platform/types";
import { commands } from "./commands";
import { app } from "./state.svelte";

class Catalogue {
  /** Null until it has been read. */
  items = $state.raw<CatalogueItem[] | null>(null);
  failure = $state.raw<CallError | null>(null);

  async read(): Promise<void> {
    try {
      this.items = await commands.catalogue();
      this.failure = null;
    } catch (error) {
      this.failure = asCallError(error);
    }
  }
}

export const catalogue = new Catalogue();

/** The last part of a path or an address, without what is no name. */
export function fileName(place: string): string {
  const name = place.split(/[?#]/)[0]!.split(/[\\/]/).at(-1) ?? "";
  return name.replace(/\.gguf$/i, "").toLowerCase();
}

/** What an entry's file is called, wherever it comes from. */
export function isFileOf({ id, sources }: CatalogueEntry, name: string): boolean {
  return id.toLowerCase() === name || sources.some((source) => fileName(source) === name);
}

/** The catalogue's entry of a file, also of one that was copied here. */
export function isModelOf(entry: CatalogueEntry, model: InstalledModel): boolean {
  return (
    model.catalogue_id === entry.id ||
    isFileOf(entry, fileName(model.path)) ||
    (model.bytes === entry.bytes && model.quantisation === entry.quantisation)
  );
}

/** Of a file: the catalogue's name for it, if it has one. */
export function nameOf(model: InstalledModel): string {
  return catalogue.items?.find(({ entry }) => isModelOf(entry, model))?.entry.name ?? model.name;
}

/**
 * Of what the program or the network calls a model: the file, the catalogue and the network each
 * have a name for it, and people are shown one.
 */
export function modelName(said: string, id: string | null = null): string {
  const { installed = [], node } = app.state ?? {};
  const named = (one: { name: string }) => one.name === said;
  const known = id ?? node?.models.find(named)?.id ?? node?.offers?.find(named)?.model ?? null;
  const model =
    installed.find((model) => known !== null && model.id === known) ??
    installed.find((model) => named(model) || fileName(model.path) === said.toLowerCase());
  if (model !== undefined) return nameOf(model);
  const entries = (catalogue.items ?? []).map(({ entry }) => entry);
  const file = entries.find((entry) => isFileOf(entry, fileName(said)));
  // A network's name leaves the rest away: `llama-3.2-3b` for `llama-3.2-3b-instruct-q4_1`.
  const begun = entries.filter(({ id }) => id.startsWith(`${said.toLowerCase()}-`));
  return (file ?? (begun.length === 1 ? begun[0] : undefined))?.name ?? said;
}
