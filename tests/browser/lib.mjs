// One Chromium for a script: pages that are watched, steps that are named, and pictures of what
// went wrong. The Rust test that starts the script is asked for what lies outside of the browser.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";

const test = JSON.parse(process.env.INFERA_BROWSER_TEST);
const require = createRequire(join(test.modules, "package.json"));
const { chromium } = require("playwright-core");
const axeSource = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const WAIT_MS = 30_000;
const WHOLE_MS = 150_000;

export const given = test.given;
export const origin = new URL(given.address).origin;

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** What the Rust test knows or can do. */
export async function ask(question) {
  process.stdout.write(`ask ${question}\n`);
  const { value, done } = await answers.next();
  if (done) throw new Error(`the test did not answer "${question}"`);
  return JSON.parse(value);
}

const pages = [];
const faults = [];
let current = "start";
let browser;

/**
 * A page of its own, with its own storage. `allow` takes console errors that belong to the step;
 * `init` runs in the page before its own scripts.
 */
export async function open(
  address = given.address,
  { theme = "light", allow = [], init = () => {}, ...rest } = {},
) {
  const context = await browser.newContext({
    colorScheme: theme,
    locale: "en-US",
    reducedMotion: "reduce",
    viewport: { width: 1200, height: 800 },
    ...rest,
  });
  context.setDefaultTimeout(WAIT_MS);
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
      console.error(`refused by the content security policy: ${violatedDirective} ${blockedURI}`);
    });
  });
  await context.addInitScript(init);
  const fault = (what) => {
    if (!allow.some((pattern) => pattern.test(what))) faults.push(`${current}: ${what}`);
  };
  context.on("request", (request) => {
    const url = request.url();
    const inside =
      url.startsWith(`${origin}/`) || url.startsWith("data:") || url.startsWith("blob:");
    if (!inside) fault(`a request to ${url}`);
  });
  context.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") {
      fault(`the console says: ${message.text()} (${message.location().url})`);
    }
  });
  context.on("weberror", (error) => fault(`an error in the page: ${error.error().stack}`));
  const page = await context.newPage();
  pages.push(page);
  await page.goto(address);
  return page;
}

export async function close(page) {
  pages.splice(pages.indexOf(page), 1);
  await page.context().close();
}

/** A part of the script, named where it fails. */
export async function step(title, act) {
  current = title;
  const begin = Date.now();
  await act();
  if (faults.length > 0) throw new Error(faults.join("\n"));
  console.log(`${title}: ${((Date.now() - begin) / 1000).toFixed(1)} s`);
}

/** Until `look` gives something true; it is asked again each 50 ms. */
export async function until(what, look) {
  const end = Date.now() + WAIT_MS;
  let last;
  do {
    last = await look();
    if (last) return last;
    await new Promise((done) => setTimeout(done, 50));
  } while (Date.now() < end);
  throw new Error(`waited ${WAIT_MS / 1000} s in vain until ${what}`);
}

export const barOf = (page) => page.getByRole("banner");

/** Waits for the sentence that is on every page. */
export async function says(page, sentence) {
  await page.locator("header").getByText(sentence).first().waitFor();
}

/** Keeps each sentence that the bar says from now on; some are there for a moment only. */
export async function listen(page) {
  await page.evaluate(() => {
    window.heard = [];
    new MutationObserver(() => {
      const said = document.querySelector("header")?.innerText ?? "";
      if (window.heard.at(-1) !== said) window.heard.push(said);
    }).observe(document.body, { childList: true, characterData: true, subtree: true });
  });
}

/** Whether the bar has said something since `listen`. */
export async function heard(page, sentence) {
  const said = await page.evaluate(() => window.heard);
  return said.some((words) => sentence.test(words));
}

/** Waits until it has. */
export async function hears(page, sentence) {
  await until(`the bar says ${sentence}`, () => heard(page, sentence));
}

export async function goTo(page, name) {
  await page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
  await page.getByRole("heading", { level: 1, name, exact: true }).waitFor({ state: "attached" });
}

/** What axe finds against WCAG 2.2, levels A and AA. */
export async function accessible(page, where) {
  await page.evaluate(axeSource);
  const violations = await page.evaluate(async () => {
    const levels = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"];
    const found = await window.axe.run(document, {
      runOnly: { type: "tag", values: levels },
      resultTypes: ["violations"],
    });
    return found.violations.map(({ id, help, nodes }) => {
      const places = nodes.map(({ target, failureSummary }) => `${target}: ${failureSummary}`);
      return `${id} (${help})\n    ${places.join("\n    ")}`;
    });
  });
  if (violations.length > 0) {
    throw new Error(`${where} has what shuts people out:\n  ${violations.join("\n  ")}`);
  }
}

/** For `init`: remembers by kind and name which controls a person has used. */
export const watchControls = () => {
  const CONTROLS =
    "a[href], button, input, select, textarea, tr[tabindex], [role=switch], [role=menuitem]";
  const nameOf = (control) =>
    control.getAttribute("aria-label") ??
    control.labels?.[0]?.textContent ??
    (control.matches("tr") ? "a row" : control.textContent);
  // What runs on this machine comes and goes.
  const key = (control) =>
    control.closest("li.suggestion") !== null
      ? "a suggestion"
      : `${control.tagName} ${nameOf(control)
          .trim()
          .replaceAll(/[↑↓]|\s+/g, " ")
          .trim()
          .replaceAll(/\d+/g, "#")}`;
  const used = new Set();
  const note = ({ target }) => {
    const control = target instanceof Element ? target.closest(CONTROLS) : null;
    if (control !== null) used.add(key(control));
  };
  for (const kind of ["pointerdown", "click", "change"]) addEventListener(kind, note, true);
  // An explanation is read by going there.
  const reads = (event) => event.target.matches?.("button.term") && note(event);
  addEventListener("focusin", reads, true);
  window.unused = (where) =>
    [...document.querySelectorAll(where)]
      .flatMap((part) => [...part.querySelectorAll(CONTROLS)])
      .filter((control) => control.checkVisibility() && !control.disabled)
      .map(key)
      .filter((name, index, all) => !used.has(name) && all.indexOf(name) === index);
};

/** What is shown there and was never used is an error. */
export async function noneIsUnused(page, where = "main") {
  for (const hint of await page.locator(where).locator("button.term:visible").all()) {
    await hint.focus();
  }
  const left = await page.evaluate((where) => window.unused(where), where);
  if (left.length > 0) throw new Error(`never used:\n  ${left.join("\n  ")}`);
}

/** Calls the program's API as the page does. */
export async function call(command, request = null) {
  const token = new URL(given.address).hash.replace("#token=", "");
  const response = await fetch(`${origin}/control/v1/${command}`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify(request),
  });
  if (!response.ok) throw new Error(`${command}: ${response.status} ${await response.text()}`);
  return response.json();
}

/** Runs a script to its end and ends the process. */
export async function run(act) {
  const script = basename(process.argv[1], ".mjs");
  const timer = setTimeout(
    () => void end(new Error(`not done after ${WHOLE_MS / 1000} s`)),
    WHOLE_MS,
  );

  async function end(error) {
    clearTimeout(timer);
    if (error !== null) {
      for (const fault of faults) if (!error.message.includes(fault)) console.error(fault);
      for (const [index, page] of pages.entries()) {
        const name = `${script}-${current.replaceAll(/[^a-z0-9]+/gi, "-")}-${index + 1}.png`;
        const path = join(test.pictures, name);
        const taken = await page.screenshot({ path, timeout: 5000 }).then(
          () => path,
          (fault) => `no picture: ${fault.message}`,
        );
        const words = await page
          .locator("body")
          .innerText({ timeout: 2000 })
          .catch(() => "");
        console.error(`Page ${index + 1} (${taken}):\n${words.replaceAll(/\n+/g, "\n")}`);
      }
      // Last, because of a long output the end is shown.
      console.error(`${script}, step "${current}": ${error.message}`);
    }
    await browser?.close().catch(() => {});
    process.exit(error === null ? 0 : 1);
  }

  try {
    browser = await chromium.launch({ executablePath: test.chromium });
    await act();
    await end(null);
  } catch (error) {
    await end(error);
  }
}
