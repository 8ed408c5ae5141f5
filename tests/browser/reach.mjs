// For everyone: without a mouse, at 200 % zoom, and in German.

import { readFileSync } from "node:fs";
import { accessible, call, close, given, goTo, open, run, says, step, until } from "./lib.mjs";

const PLACES = ["home", "gpu", "requirements", "earnings", "jobs", "models", "try-it", "settings"];
/** A window of 800 x 600 at 200 %: half as many CSS pixels, each twice as large. */
const ZOOMED = { viewport: { width: 400, height: 300 }, deviceScaleFactor: 2 };

/** What is cut off at the side, or cannot be scrolled to. */
async function cutOff(page) {
  return page.evaluate(() => {
    const found = [];
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth) found.push(`the page is ${root.scrollWidth} px wide`);
    for (const element of document.body.querySelectorAll("*")) {
      if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
      const style = getComputedStyle(element);
      const box = element.getBoundingClientRect();
      if (box.width <= 1 || box.height <= 1) continue;
      // What scrolls within a box of its own can be reached there.
      let scrolls = element.parentElement;
      while (scrolls !== null && !/auto|scroll/.test(getComputedStyle(scrolls).overflowX)) {
        scrolls = scrolls.parentElement;
      }
      const isMain = scrolls === null || scrolls === root || scrolls.matches("main, body");
      if (isMain && style.position !== "fixed" && (box.left < -1 || box.right > innerWidth + 1)) {
        found.push(`${element.tagName} ${element.className}: ${element.textContent.trim()}`);
      }
      const hides = /hidden|clip/.test(style.overflowX) && element.scrollWidth > box.width + 1;
      const words = [...element.childNodes].some(({ nodeType }) => nodeType === Node.TEXT_NODE);
      if (hides && words) found.push(`cut: ${element.textContent.trim()}`);
    }
    return found.slice(0, 10);
  });
}

async function fits(page, where) {
  await page.locator("[aria-busy=true]").waitFor({ state: "detached" });
  const found = await cutOff(page);
  if (found.length > 0) throw new Error(`${where} at 200 %:\n  ${found.join("\n  ")}`);
}

/** Tab until something of that name has the focus. */
async function tabTo(page, name) {
  const seen = [];
  for (let presses = 0; presses < 60; presses += 1) {
    const found = await page.evaluate(() => {
      const focused = document.activeElement;
      return (
        focused?.getAttribute("aria-label") ??
        focused?.labels?.[0]?.textContent ??
        focused?.textContent ??
        ""
      ).trim();
    });
    if (name.test(found)) return;
    seen.push(found.slice(0, 40));
    await page.keyboard.press("Tab");
  }
  throw new Error(`the focus never reached ${name}: ${seen.join(" | ")}`);
}

async function visit(page, place) {
  await page.evaluate((place) => (location.hash = `#/${place}`), place);
  await page.locator(`nav a[aria-current=page][href="#/${place}"]`).waitFor();
}

const heading = (page, name) => page.getByRole("heading", { level: 1, name }).waitFor();

await run(async () => {
  const zoomed = await open(undefined, ZOOMED);
  await step("at 200 % the first start is all there", async () => {
    await heading(zoomed, "Welcome to Infera Node");
    await fits(zoomed, "the first step");
    for (const name of ["What your machine has", "Which GPU may work", "Which model answers"]) {
      await zoomed.getByRole("button", { name: "Skip", exact: true }).click();
      await heading(zoomed, name);
      await fits(zoomed, name);
    }
    await accessible(zoomed, "the first start at 200 %");
  });

  const page = await open();
  await step("the first start by keyboard alone", async () => {
    const press = async (name, key = "Enter") => {
      await tabTo(page, name);
      await page.keyboard.press(key);
    };
    await heading(page, "Welcome to Infera Node");
    await press(/^I have read this/, "Space");
    await press(/^Continue$/);
    await heading(page, "What your machine has");
    await page.getByRole("row").filter({ hasText: "Memory (RAM)" }).waitFor();
    await press(/^Continue$/);
    await heading(page, "Which GPU may work");
    const cpu = page.getByRole("checkbox", { name: "Processor, no GPU" });
    await until("the processor has the focus", async () => {
      await page.keyboard.press("Tab");
      return cpu.evaluate((box) => box === document.activeElement);
    });
    await page.keyboard.press("Space");
    await until("the processor is chosen", async () => {
      return (await call("state")).settings.devices[0]?.device === "cpu";
    });
    await press(/^Continue$/);
    await heading(page, "Which model answers");
    const choosing = page.waitForEvent("filechooser");
    await press(/^Choose a file$/);
    await (await choosing).setFiles(given.file);
    await page.getByRole("group", { name: "On this machine" }).getByRole("radio").waitFor();
    await press(/^Continue$/);
    await heading(page, "See what your GPU can do");
    await press(/^Start sharing$/);
    await says(page, /^Waiting for jobs/);
  });
  await step("pause, and a page's last control, by keyboard alone", async () => {
    await tabTo(page, /^Pause\s*(Resume)?$/);
    await page.keyboard.press("Enter");
    await says(page, /^Paused by you$/);
    await page.keyboard.press("Enter");
    await says(page, /^Waiting for jobs/);
    await goTo(page, "Settings");
    await tabTo(page, /^Remove everything…$/);
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await tabTo(page, /^Remove everything…$/);
  });

  await step("a file that is dropped is imported", async () => {
    await goTo(page, "Models");
    const before = (await call("state")).installed.length;
    const dropped = await page.evaluateHandle(async (encoded) => {
      const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "dropped.gguf"));
      return transfer;
    }, readFileSync(given.file).toString("base64"));
    const body = page.locator("body");
    await body.dispatchEvent("dragenter", { dataTransfer: dropped });
    await page.getByText("Let go to copy it into the models folder").waitFor();
    await body.dispatchEvent("dragover", { dataTransfer: dropped });
    await body.dispatchEvent("drop", { dataTransfer: dropped });
    await page.getByText("dropped.gguf is copied and can be used").first().waitFor();
    const { installed } = await call("state");
    if (installed.length !== before + 1) throw new Error(`${installed.length} are installed`);
    const copy = installed.find(({ path }) => path.endsWith("dropped.gguf"));
    if (copy.fault !== null) throw new Error(copy.fault);
  });

  await step("at 200 % every page is all there", async () => {
    await zoomed.reload();
    await says(zoomed, /^Waiting for jobs/);
    for (const place of PLACES) {
      await visit(zoomed, place);
      await fits(zoomed, place);
    }
    await accessible(zoomed, "the settings at 200 %");
  });
  await close(zoomed);

  await step("the language is switched at once, and stays", async () => {
    await goTo(page, "Settings");
    await page.getByLabel("Language", { exact: true }).selectOption("de");
    await heading(page, "Einstellungen");
    await says(page, /^Wartet auf Aufträge/);
    await page.reload();
    await heading(page, "Einstellungen");
    const language = await page.evaluate(() => document.documentElement.lang);
    if (!language.startsWith("de")) throw new Error(`the page says it is in ${language}`);
  });
  await step("no page has English left", async () => {
    const english = /\b(the|your|with|and|not|no|is|are|of|for|this|unknown|none)\b/i;
    for (const place of PLACES) {
      await visit(page, place);
      await page.locator("main [aria-busy=true]").waitFor({ state: "detached" });
      const left = await page.evaluate((pattern) => {
        const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        const found = [];
        while (words.nextNode()) {
          const { parentElement, data } = words.currentNode;
          const isOurs = parentElement.closest("[lang=en], code, script, option, .name") === null;
          if (isOurs && new RegExp(pattern, "i").test(data)) found.push(data.trim());
        }
        return found;
      }, english.source);
      if (left.length > 0) throw new Error(`${place} says: ${left.join(" | ")}`);
    }
    await accessible(page, "the German page");
  });
});
