// The page of those who run a network: signing in, every control of every page, without a mouse,
// in both themes, and on a phone.

import { accessible, given, noneIsUnused, open, run, step, until, watchControls } from "./lib.mjs";

const PAGES = ["overview", "nodes", "jobs", "ledger", "models", "keys", "invitations", "log"];
// The certificate is the network's own; a key is asked for, so the first answer says no.
const OPTIONS = {
  ignoreHTTPSErrors: true,
  allow: [/status of 401/],
  permissions: ["clipboard-read", "clipboard-write"],
};
const short = given.node.slice(0, 8);

const heading = (page, name) => page.getByRole("heading", { level: 1, name }).waitFor();
const goTo = async (page, name) => {
  await page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
  await heading(page, name);
};
const button = (where, name) => where.getByRole("button", { name, exact: true });

async function signIn(page, key = given.key) {
  await page.getByLabel("Operator’s key").fill(key);
  await page.keyboard.press("Enter");
}

/** Closes a dialog by the keyboard. */
async function leave(page) {
  await page.keyboard.press("Escape");
  await page.locator("dialog[open]").waitFor({ state: "detached" });
}

async function tabTo(page, name) {
  for (let presses = 0; presses < 40; presses += 1) {
    const found = await page.evaluate(() => document.activeElement?.textContent?.trim() ?? "");
    if (found === name) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`the focus never reached ${name}`);
}

await run(async () => {
  const page = await open(undefined, { ...OPTIONS, init: watchControls });
  await step("a key opens the page, and a wrong one does not", async () => {
    await heading(page, "Run this network");
    await page.getByText("No key, or lost it?").click();
    await page.getByText("infera-balancer operator create NAME").waitFor();
    await button(page, "Copy").click();
    await accessible(page, "signing in");
    await signIn(page, "op-infera-wrong");
    await page.getByText("That is no operator’s key in use here").waitFor();
    await page.getByLabel("Operator’s key").fill(given.key);
    await button(page, "Sign in").click();
    await page.getByText("Tokens a second").first().waitFor();
    await page.reload();
    await page.getByText("Tokens a second").first().waitFor();
  });

  await step("the overview says what needs somebody, and shows hour and day", async () => {
    await page.getByText("0 of 2 checking nodes").waitFor();
    await page.getByLabel("Time shown").selectOption("day");
    await page.getByText("Jobs a minute").first().waitFor();
    await accessible(page, "the overview");
    const link = page.getByRole("main").getByRole("link", { name: "Look at Nodes" });
    await link.first().click();
    await heading(page, "Nodes");
    await page.getByRole("navigation").getByRole("link", { name: "Overview" }).click();
    await page.getByRole("heading", { level: 1, name: "Running Lab" }).waitFor();
    await noneIsUnused(page);
  });

  await step("a node is found, appointed, dismissed, trusted and kept out", async () => {
    await goTo(page, "Nodes");
    await page.getByLabel("Which nodes").selectOption("all");
    await page.getByLabel("Beginning of its id").fill(short);
    await page.getByRole("link", { name: short }).click();
    const panel = page.getByRole("dialog", { name: `Node ${short}` });
    for (const [act, then] of [
      ["Appoint as reference", "Dismiss as reference"],
      ["Dismiss as reference", "Appoint as reference"],
      ["Trust", "Trust no longer"],
      ["Trust no longer", "Trust"],
    ]) {
      await button(panel, act).click();
      await button(panel, then).waitFor();
    }
    await accessible(page, "a node");
    await button(panel, "Keep out…").click();
    const ban = page.getByRole("dialog", { name: `Keep the node ${short} out` });
    await button(ban, "Cancel").click();
    await button(panel, "Keep out…").click();
    await button(ban, "Keep out").click();
    await ban.getByText("Give a reason").waitFor();
    await ban.getByLabel("Reason").fill("moves house");
    await ban.getByLabel("For how long").selectOption("day");
    await accessible(page, "keeping a node out");
    await button(ban, "Keep out").click();
    await panel.getByText(/^Kept out until .*moves house$/).waitFor();
    await button(panel, "Let in again").click();
    await button(panel, "Keep out…").waitFor();
    await noneIsUnusedBut(page, "dialog[open]", ["close"]);
    await panel.getByRole("link", { name: "Its jobs" }).click();
    await heading(page, "Jobs");
  });

  await step("jobs are filtered and open to their receipts, without texts", async () => {
    await page.getByLabel("State").selectOption("");
    await page.getByLabel("Model").selectOption(given.model);
    await page.getByLabel("Key’s name").fill("nobody");
    await page.getByText("No job is like that").waitFor();
    await page.getByLabel("Key’s name").fill("me");
    await page.getByLabel("Node’s whole id").fill("");
    await page.getByRole("main").getByRole("link").first().click();
    const panel = page.getByRole("dialog", { name: /^Job / });
    await panel.getByText("Who worked on it").first().waitFor();
    await panel.getByText("Details").click();
    await button(panel, "Copy").click();
    await accessible(page, "a job");
    await leave(page);
  });

  await step("the ledger sums to zero, and goes out as a file", async () => {
    await goTo(page, "Ledger");
    await page.getByText("zero, as it must be").waitFor();
    await page.getByLabel("Accounts that begin with").fill("client:");
    await page.getByRole("link", { name: "client:me" }).click();
    await page.getByRole("dialog").getByText(/^job:/).first().waitFor();
    await accessible(page, "an account");
    await leave(page);
    const saved = page.waitForEvent("download");
    await page.getByRole("link", { name: "Export all as CSV" }).click();
    const file = await saved;
    if (file.suggestedFilename() !== "ledger.csv") throw new Error(file.suggestedFilename());
  });

  await step("a key is made, shown once, and revoked", async () => {
    await goTo(page, "Keys");
    await button(page, "New key…").click();
    const made = page.getByRole("dialog", { name: "New API key" });
    await button(made, "Make the key").click();
    await made.getByText("A name has 1 to 64").waitFor();
    await made.getByLabel("Name").fill("bob");
    await made.getByRole("switch", { name: "Without a limit" }).click();
    await made.getByRole("switch", { name: "Without a limit" }).click();
    await made.getByLabel("It may spend").fill("5");
    await accessible(page, "a new key");
    await button(made, "Make the key").click();
    const shown = page.getByRole("dialog", { name: "The key “bob”" });
    await shown.getByText(/^sk-infera-[0-9a-f]{64}$/).waitFor();
    await button(shown, "Copy").click();
    await button(shown, "Done").click();
    const row = page.getByRole("row").filter({ hasText: "bob" });
    await button(row, "Revoke…").click();
    const sure = page.getByRole("dialog", { name: "Revoke the key bob" });
    await button(sure, "Revoke").click();
    await row.getByText("Revoked").waitFor();
  });

  await step("an invitation is made with its code, and taken back", async () => {
    await goTo(page, "Invitations");
    await button(page, "Invite…").click();
    const made = page.getByRole("dialog", { name: "New invitation" });
    await made.getByLabel("For", { exact: true }).fill("upstairs");
    await made.getByLabel("Those who join").selectOption("reference");
    await made.getByLabel("How many may join").selectOption("ten");
    await made.getByLabel("It can be used for").selectOption("month");
    await accessible(page, "a new invitation");
    await button(made, "Make the invitation").click();
    const shown = page.getByRole("dialog", { name: "The invitation" });
    await shown.getByRole("img", { name: /^QR code/ }).waitFor();
    await shown.getByText(/^infera:\/\/join/).waitFor();
    await accessible(page, "an invitation");
    await button(shown, "Done").click();
    const row = page.getByRole("row").filter({ hasText: "upstairs" });
    await button(row, "Take back…").click();
    await button(page.getByRole("dialog"), "Take back").click();
    await row.getByText("Taken back").waitFor();
  });

  await step("a price is changed, and a model removed, by keyboard alone", async () => {
    await goTo(page, "Models");
    await tabTo(page, "Change price…");
    await page.keyboard.press("Enter");
    const price = page.getByRole("dialog", { name: `Price of ${given.model}` });
    await price.getByLabel("For 1,000 tokens read").fill("a lot");
    await tabTo(page, "Save");
    await page.keyboard.press("Enter");
    await price.getByText("A number from 0 to 1,000").waitFor();
    await price.getByLabel("For 1,000 tokens read").fill("0.25");
    await price.getByLabel("For 1,000 tokens written").fill("0,5");
    await tabTo(page, "Save");
    await page.keyboard.press("Enter");
    await page.getByText("0.25 read, 0.5 written").waitFor();
    await tabTo(page, "Remove…");
    await page.keyboard.press("Enter");
    const sure = page.getByRole("dialog", { name: `Remove ${given.model}` });
    await accessible(page, "removing a model");
    await button(sure, "Remove").press("Enter");
    await page.getByText("No model is served yet").waitFor();
  });

  await step("the log has it all", async () => {
    await goTo(page, "Log");
    for (const act of ["Removed the model", "Changed the price", "Took the invitation back"]) {
      await page.getByText(act).first().waitFor();
    }
    await page.getByText("moves house").waitFor();
    await accessible(page, "the log");
  });

  await step("on a phone, in the dark, everything is all there", async () => {
    const phone = await open(undefined, {
      ...OPTIONS,
      theme: "dark",
      viewport: { width: 390, height: 844 },
    });
    await heading(phone, "Run this network");
    await signIn(phone);
    await phone.getByText("Tokens a second").first().waitFor();
    for (const name of PAGES) {
      await phone.evaluate((name) => (location.hash = `#/${name}`), name);
      await phone.locator(`nav a[aria-current=page][href="#/${name}"]`).waitFor();
      await until(`${name} is read`, async () => {
        const told = await phone.getByRole("main").innerText();
        return !told.includes("Asking the balancer…");
      });
      const wide = await phone.evaluate(() => {
        const main = document.querySelector("main");
        return main.scrollWidth > main.clientWidth;
      });
      if (wide) throw new Error(`${name} is wider than a phone`);
      await accessible(phone, `${name} on a phone`);
    }
  });

  await step("who signs out is out", async () => {
    await button(page, "Sign out").click();
    await heading(page, "Run this network");
    await page.reload();
    await heading(page, "Run this network");
  });
});

/** As `noneIsUnused`, without controls of these names: they have their own steps. */
async function noneIsUnusedBut(page, where, names) {
  const left = await page.evaluate((where) => window.unused(where), where);
  const found = left.filter((name) => !names.some((but) => name.toLowerCase().includes(but)));
  const open = found.filter((name) => !name.startsWith("A "));
  if (open.length > 0) throw new Error(`never used:\n  ${open.join("\n  ")}`);
}
