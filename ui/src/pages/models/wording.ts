// Models, downloads and addresses in words.

import { t } from "../../i18n/index.svelte";
import {
  bytes,
  bytesPerSecond,
  duration,
  MEMORY_GB,
  memorySize,
  decimals,
  pointsIn,
  percent,
} from "../../lib/format";
import type { AppState, CatalogueEntry, DiskUse, Download, Fit, Price } from "../../platform/types";

const MINUTE = 60;
const HOUR = 60 * MINUTE;

/** Of the largest device that would run a model; null for the processor and where no driver tells. */
export function deviceMemory(state: AppState): number | null {
  const chosen = state.adapters.filter(({ standing }) => standing.standing === "chosen");
  return Math.max(0, ...chosen.map(({ vram_bytes: size }) => size ?? 0)) || null;
}

export function fitWords(fit: Fit, memory: number | null): string {
  switch (fit.fit) {
    case "fits":
      return memory === null
        ? t("models.fit.fits", { spare: memorySize(fit.spare_bytes) })
        : t("models.fit.fits_in", {
            memory: memorySize(memory),
            spare: memorySize(fit.spare_bytes),
          });
    case "too_large":
      return t("models.fit.too_large", { missing: memorySize(roundedUp(fit.missing_bytes)) });
    case "on_cpu":
      return t("models.fit.on_cpu");
    case "unknown":
      return t("models.fit.unknown");
  }
}

/** To the tenth of a GB that is shown: something that is missing is never 0.0. */
function roundedUp(bytes: number): number {
  const tenth = MEMORY_GB / 10;
  return Math.ceil(bytes / tenth) * tenth;
}

/** What keeps a file of this size off the disk; null if there is room. */
export function shortage(size: number, disk: DiskUse): string | null {
  if (disk.free_bytes !== null && size > disk.free_bytes) {
    return t("models.short.disk", { missing: bytes(size - disk.free_bytes) });
  }
  if (disk.quota_bytes === null) return null;
  const over = disk.models_bytes + disk.partial_bytes + size - disk.quota_bytes;
  return over > 0 ? t("models.short.quota", { missing: bytes(over) }) : null;
}

/** `1.2 GB of 4.9 GB`. */
export function amount({
  done_bytes: done,
  total_bytes: total,
}: Pick<Download, "done_bytes" | "total_bytes">): string {
  if (total === null && done === 0) return t("models.size_unknown");
  return total === null
    ? bytes(done)
    : t("models.download.amount", { done: bytes(done), total: bytes(total) });
}

/** What a download does now, and what that means. */
export function downloadWords(download: Download, now: number): string {
  const { state } = download;
  switch (state.state) {
    case "queued":
      return t("models.download.queued");
    case "running": {
      if (download.bytes_per_second === null) {
        return t("models.download.connecting", { host: hostOf(download.url) });
      }
      const speed = bytesPerSecond(download.bytes_per_second);
      return download.seconds_left === null
        ? speed
        : t("models.download.running", { speed, time: timeLeft(download.seconds_left) });
    }
    case "stalled": {
      const seconds = Math.max(0, Math.ceil((state.retry_at_ms - now) / 1000));
      return seconds > 0
        ? t("models.download.stalled", { seconds })
        : t("models.download.stalled_now");
    }
    case "paused":
      return t("models.download.paused");
    case "metered":
      return t("models.download.metered");
    case "verifying":
      return download.total_bytes === null || download.total_bytes === 0
        ? t("models.download.verifying")
        : t("models.download.verifying_at", {
            percent: percent(Math.floor((state.done_bytes / download.total_bytes) * 100)),
          });
    case "failed":
      return t(`models.fault.title.${state.code}`);
  }
}

/** Coarser the longer it takes, so that it does not flicker. */
export function timeLeft(seconds: number): string {
  if (seconds < MINUTE) return duration(Math.max(5, Math.ceil(seconds / 5) * 5) * 1000);
  if (seconds < HOUR) return duration(Math.ceil(seconds / MINUTE) * MINUTE * 1000);
  return duration(Math.ceil(seconds / (10 * MINUTE)) * 10 * MINUTE * 1000);
}

/** Of a catalogue's model. */
export function downloadOf(entry: CatalogueEntry, downloads: Download[]): Download | undefined {
  return downloads.find(({ id, url }) => id === entry.id || entry.sources.includes(url));
}

/** What the network pays. */
export function priceWords(price: Price): string {
  return t("models.price", perThousand(price));
}

/** For 1,000 tokens, both with the same number of decimals, so that they can be compared. */
export function perThousand({ input, output }: Price): Record<keyof Price, string> {
  const prices = { output: output * 1000, input: input * 1000 };
  const digits = decimals(Object.values(prices));
  return { output: pointsIn(digits, prices.output), input: pointsIn(digits, prices.input) };
}

/** What is wrong with an address. */
export type BadAddress = `models.address.${"not_url" | "plain" | "password" | "page"}`;

/** What is wrong with a model's address, or the address as it can be asked for. */
export function modelAddress(text: string): { url: string } | { wrong: BadAddress } {
  let url: URL;
  try {
    url = new URL(text.trim());
  } catch {
    return { wrong: "models.address.not_url" };
  }
  if (url.protocol === "http:") return { wrong: "models.address.plain" };
  if (url.protocol !== "https:" || url.hostname === "") return { wrong: "models.address.not_url" };
  if (url.username !== "" || url.password !== "") return { wrong: "models.address.password" };
  if (url.hostname === "huggingface.co" || url.hostname.endsWith(".huggingface.co")) {
    // The address of the page about a file, as a browser shows it.
    const [owner, name, view, ...rest] = url.pathname.split("/").filter(Boolean);
    if (view === "blob") url.pathname = ["", owner, name, "resolve", ...rest].join("/");
    else if (view !== "resolve") return { wrong: "models.address.page" };
  } else if (url.pathname === "/" || /\.html?$/i.test(url.pathname)) {
    return { wrong: "models.address.page" };
  }
  url.hash = "";
  return { url: url.href };
}

function hostOf(url: string): string {
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}
