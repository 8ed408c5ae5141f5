import { cleanup, render } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { locale } from "../../i18n/index.svelte";
import { MEMORY_GB } from "../../lib/format";
import { app } from "../../lib/state.svelte";
import { toasts } from "../../lib/toasts.svelte";
import { fakePlatform, refused, type Scenario } from "../../platform/fake";
import type {
  CatalogueItem,
  DiskUse,
  Download,
  DownloadState,
  Fit,
  Platform,
} from "../../platform/types";
import { imports, ordered } from "./library.svelte";
import Models from "./Models.svelte";
import {
  amount,
  downloadWords,
  fitWords,
  modelAddress,
  priceWords,
  shortage,
  timeLeft,
} from "./wording";

const NOW = 1_700_000_000_000;

function download(state: DownloadState, rest: Partial<Download> = {}): Download {
  return {
    id: "m",
    name: "M",
    url: "https://models.example/m.gguf",
    done_bytes: 1.2e9,
    total_bytes: 4.87e9,
    bytes_per_second: null,
    seconds_left: null,
    state,
    ...rest,
  };
}

const plain = (text: string) => text.replaceAll("\u00a0", " ");

describe("a download in words", () => {
  beforeEach(() => locale.choose("en", []));

  it.each<[Download, string]>([
    [download({ state: "queued" }), "Waits for the download before it"],
    [download({ state: "running" }), "Connecting to models.example…"],
    [download({ state: "running" }, { bytes_per_second: 10.4e6 }), "10 MB/s"],
    [
      download({ state: "running" }, { bytes_per_second: 10.4e6, seconds_left: 353 }),
      "10 MB/s, about 6 min left",
    ],
    [
      download({ state: "stalled", message: "reset", retry_at_ms: NOW + 8200 }),
      "Nothing is coming; tries again in 9 s. What has come is kept",
    ],
    [
      download({ state: "stalled", message: "reset", retry_at_ms: NOW - 10 }),
      "Nothing is coming; trying again. What has come is kept",
    ],
    [download({ state: "paused" }), "Paused. What has come is kept, even over a restart"],
    [
      download({ state: "metered", message: "" }),
      "Waits: this connection is metered. It goes on by itself over another",
    ],
    [
      download({ state: "verifying", done_bytes: 2.435e9 }),
      "Checking that the file is whole: 50 %",
    ],
    [download({ state: "failed", code: "disk_full", message: "" }), "The disk is full"],
  ])("%#", (download, words) => expect(plain(downloadWords(download, NOW))).toBe(words));

  it("says how much, also before the whole is known", () => {
    expect(plain(amount(download({ state: "running" })))).toBe("1.2 GB of 4.9 GB");
    expect(plain(amount(download({ state: "running" }, { total_bytes: null })))).toBe("1.2 GB");
    const unknown = download({ state: "queued" }, { total_bytes: null, done_bytes: 0 });
    expect(amount(unknown)).toBe("size not known yet");
  });

  it.each([
    [0, "5.0 s"],
    [41, "45 s"],
    [61, "2 min"],
    [3599, "1 h"],
    [3700, "1 h 10 min"],
  ])("rounds %i s left", (seconds, words) => expect(plain(timeLeft(seconds))).toBe(words));
});

describe("a model in words", () => {
  beforeEach(() => locale.choose("en", []));

  it.each<[Fit, number | null, string]>([
    [
      { fit: "fits", spare_bytes: 3 * MEMORY_GB },
      12 * MEMORY_GB,
      "Fits in your 12.0 GB with 3.0 GB to spare",
    ],
    [{ fit: "fits", spare_bytes: 3 * MEMORY_GB }, null, "Fits, with 3.0 GB to spare"],
    [
      { fit: "too_large", missing_bytes: 2 * MEMORY_GB },
      12 * MEMORY_GB,
      "Needs 2.0 GB more GPU memory than you have",
    ],
    [{ fit: "on_cpu" }, null, "Runs on the processor, slowly"],
    [{ fit: "unknown" }, null, "The driver does not tell whether it fits"],
  ])("%#", (fit, memory, words) => expect(plain(fitWords(fit, memory))).toBe(words));

  it("says what keeps it off the disk", () => {
    const disk: DiskUse = {
      models_bytes: 40e9,
      partial_bytes: 5e9,
      free_bytes: 8e9,
      quota_bytes: 50e9,
    };
    expect(shortage(5e9, disk)).toBeNull();
    expect(plain(shortage(9e9, disk)!)).toBe("Needs 1 GB more free space on the disk");
    expect(plain(shortage(7e9, disk)!)).toBe("2 GB over the limit that you set for models");
    expect(shortage(7e9, { ...disk, quota_bytes: null })).toBeNull();
    expect(shortage(4e9, { ...disk, free_bytes: null })).toBeNull();
  });

  it("says what the network pays", () => {
    expect(priceWords({ input: 60, output: 10_000 })).toBe(
      "The network pays 10.00 points for 1,000 tokens written, 0.06 for 1,000 read",
    );
  });

  it("stands where a person looks first", () => {
    const item = (id: string, bytes: number, fit: Fit, suggested = false) =>
      ({ entry: { id, bytes }, fit, suggested }) as CatalogueItem;
    const fits: Fit = { fit: "fits", spare_bytes: 1 };
    const large: Fit = { fit: "too_large", missing_bytes: 1 };
    const items = [
      item("huge", 90, large),
      item("small", 1, fits),
      item("large", 40, large),
      item("best", 8, fits, true),
      item("big", 9, fits),
    ];
    expect(ordered(items).map(({ entry }) => entry.id)).toEqual([
      "best",
      "big",
      "small",
      "large",
      "huge",
    ]);
  });
});

describe("the address of a model", () => {
  it.each([
    ["https://a.example/x.gguf", "https://a.example/x.gguf"],
    ["  https://a.example/get?id=7#top ", "https://a.example/get?id=7"],
    [
      "https://huggingface.co/o/n/blob/main/x.gguf",
      "https://huggingface.co/o/n/resolve/main/x.gguf",
    ],
    [
      "https://huggingface.co/o/n/resolve/main/x.gguf",
      "https://huggingface.co/o/n/resolve/main/x.gguf",
    ],
  ])("%s is taken", (text, url) => expect(modelAddress(text)).toEqual({ url }));

  it.each([
    ["", "models.address.not_url"],
    ["x.gguf", "models.address.not_url"],
    ["ftp://a.example/x.gguf", "models.address.not_url"],
    ["http://a.example/x.gguf", "models.address.plain"],
    ["https://me:secret@a.example/x.gguf", "models.address.password"],
    ["https://huggingface.co/o/n", "models.address.page"],
    ["https://a.example/", "models.address.page"],
    ["https://a.example/about.html", "models.address.page"],
  ])("%s is not", (text, wrong) => expect(modelAddress(text)).toEqual({ wrong }));
});

describe("the page", () => {
  let stop = () => {};
  let platform: Platform;

  beforeEach(() => vi.spyOn(navigator, "languages", "get").mockReturnValue(["en-US"]));
  afterEach(() => {
    cleanup();
    stop();
    imports.failed = [];
    toasts.shown = [];
  });

  async function open(scenario: Scenario) {
    platform = fakePlatform(scenario);
    stop = app.start(platform);
    await vi.waitFor(() => expect(app.state).not.toBeNull());
    render(Models);
    await vi.waitFor(() => expect(document.querySelector("article")).not.toBeNull());
  }

  const button = (name: string) =>
    [...document.querySelectorAll<HTMLButtonElement>("button")].find(
      (button) => (button.getAttribute("aria-label") ?? button.textContent).trim() === name,
    );
  const row = (name: string) =>
    [...document.querySelectorAll("li")].find(
      (li) => li.querySelector(".name")?.textContent === name,
    );

  it("downloads, pauses and goes on", async () => {
    await open("waiting");
    button("Download: Qwen2.5 7B Instruct")!.click();
    await vi.waitFor(() => expect(button("Pause: Qwen2.5 7B Instruct")).toBeDefined());
    button("Pause: Qwen2.5 7B Instruct")!.click();
    await vi.waitFor(() => expect(button("Resume: Qwen2.5 7B Instruct")).toBeDefined());
    // Next to nothing has come: it is not asked about.
    button("Cancel: Qwen2.5 7B Instruct")!.click();
    await vi.waitFor(() => expect(app.state!.downloads).toEqual([]));
  });

  it("goes on over a metered connection for the one that is wanted anyway", async () => {
    await open("metered");
    const state = (id: string) => app.state!.downloads.find((one) => one.id === id)!.state.state;
    button("Download anyway: Llama 3.2 1B Instruct")!.click();
    await vi.waitFor(() => expect(state("llama-3.2-1b-instruct-q4_1")).toBe("running"));
    expect(state("qwen2.5-7b-instruct-q4_1")).toBe("metered");
    expect(button("Pause: Qwen2.5 7B Instruct")).toBeDefined();
  });

  it("keeps the switch where the program has it", async () => {
    await open("waiting");
    const use = row("SmolLM2 135M Instruct")!.querySelector<HTMLButtonElement>("[role=switch]")!;
    const call = vi.spyOn(platform, "call");
    call.mockRejectedValueOnce(refused({ why: "no_such_model" }));
    use.click();
    await vi.waitFor(() => expect(toasts.shown.length).toBe(1));
    expect(use.getAttribute("aria-checked")).toBe("false");
    use.click();
    await vi.waitFor(() => expect(use.getAttribute("aria-checked")).toBe("true"));
    const broken = row("half-a-file")!.querySelector<HTMLButtonElement>("[role=switch]")!;
    expect(broken.disabled).toBe(true);
  });

  it("knows a copied file for the catalogue's model, and ends its download", async () => {
    await open("downloads");
    const file = "mistral-nemo-12b-instruct-q4_1";
    expect(app.state!.downloads.some(({ id }) => id === file)).toBe(true);
    await imports.path(`/home/mia/Downloads/${file}.gguf`);
    await vi.waitFor(() => expect(row("Mistral Nemo 12B Instruct")).toBeDefined());
    expect(app.state!.downloads.some(({ id }) => id === file)).toBe(false);
    expect(row(file)).toBeUndefined();
    const cards = [...document.querySelectorAll("article")];
    expect(cards.map((card) => card.getAttribute("aria-label"))).not.toContain(
      "Mistral Nemo 12B Instruct",
    );
  });

  it("copies dropped files one by one, and says why one was not", async () => {
    await open("waiting");
    const copied = imports.file(new File(["GGUF"], "mine.gguf"));
    await vi.waitFor(() =>
      expect(document.querySelector("[role=progressbar]")?.getAttribute("aria-valuenow")).toBe(
        "50",
      ),
    );
    await copied;
    expect(document.querySelector("[role=progressbar]")).toBeNull();
    expect(app.state!.installed.some(({ name }) => name === "mine")).toBe(true);
    await imports.path("/home/mia/Bilder/cat.png");
    await vi.waitFor(() =>
      expect(document.querySelector("[role=alert] .title")?.textContent).toBe(
        "cat.png was not copied",
      ),
    );
    button("Dismiss")!.click();
    await vi.waitFor(() => expect(imports.failed).toEqual([]));
  });
});
