// Every control of every page, used once; what a page shows and this script never used is an error.

import { readFile } from "node:fs/promises";
import {
  accessible,
  ask,
  call,
  close,
  given,
  goTo,
  noneIsUnused,
  open,
  run,
  says,
  step,
  until,
  watchControls,
} from "./lib.mjs";

const ALL_JOBS = {
  search: "",
  verdict: null,
  kind: null,
  since_ms: null,
  until_ms: null,
  offset: 0,
  limit: 1000,
};

const settingsOf = async () => (await call("state")).settings;

await run(async () => {
  const page = await open(undefined, {
    init: watchControls,
    permissions: ["clipboard-read", "clipboard-write"],
    // A licence's page is opened, in a browser that reaches nothing else; a schedule without hours
    // is refused; at the end the program is gone.
    allow: [
      /a request to https:\/\/huggingface\.co/,
      /status of 409.*change_settings/,
      // A code and words that are none.
      /status of 409.*(link_machine|restore_account)/,
      /net::ERR_/,
    ],
  });
  await page.context().route("https://**", (route) => route.abort());
  const main = page.locator("main");
  const dialog = page.getByRole("dialog");
  const button = (name, where = main) => where.getByRole("button", { name, exact: true }).first();
  const press = (name, where) => button(name, where).click();
  const noneIsLeft = (where) => noneIsUnused(page, where);
  const copied = async (what) => {
    const text = await page.evaluate(() => navigator.clipboard.readText());
    if (!what.test(text)) throw new Error(`copied was ${text}`);
  };

  await step("every way to pause", async () => {
    const bar = page.locator("header");
    const choose = async (name) => {
      await bar
        .getByRole("button", { name: /^More ways to pause$|^Pause for another time$/ })
        .click();
      await page.getByRole("menuitem", { name }).click();
    };
    await says(page, /Waiting for jobs/);
    for (const [name, hours] of [
      ["Snooze for 15 minutes", 0.25],
      ["Snooze for 1 hour", 1],
      ["Snooze for 4 hours", 4],
      [/^Snooze until tomorrow/, null],
    ]) {
      await choose(name);
      await says(page, /^Paused by you until /);
      await until(`it is paused: ${name}`, async () => {
        const { reason } = (await ask("status")).decision;
        if (reason?.reason !== "paused") return false;
        const left = (reason.until_ms - Date.now()) / 3_600_000;
        return hours === null ? left > 0 && left <= 24 : Math.abs(left - hours) < 0.02;
      });
    }
    await press("Resume", bar);
    await says(page, /Waiting for jobs/);
    await choose(/^Finish this job, then pause/);
    await says(page, /^Paused by you$/);
    await press("Resume", bar);
    await says(page, /Waiting for jobs/);
  });

  await step("Home", async () => {
    await goTo(page, "Home");
    await main.getByRole("link", { name: "See all" }).click();
    await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor({ state: "attached" });
    await goTo(page, "Home");
    const link = main.getByRole("link", { name: "See requirements" });
    if ((await link.count()) > 0) {
      await link.click();
      await goTo(page, "Home");
    }
    const first = main.getByRole("region", { name: /^Your first/ });
    const strip = main.getByRole("slider", { name: /^What the node did/ });
    await strip.hover();
    await strip.focus();
    const said = () => strip.getAttribute("aria-valuetext");
    await until("the strip says what the node did", async () => /\d–\d/.test(await said()));
    await page.keyboard.press("Home");
    await press("The day before");
    await main.getByText("Yesterday", { exact: true }).waitFor();
    await press("The day after");
    await main.getByText("As a table").click();
    await main.getByRole("table", { name: /^What the node did/ }).waitFor();
    await main.getByText("As a table").click();
    for (const links of [main.getByRole("table", { name: "Last jobs" }), first]) {
      await links.getByRole("link").first().click();
      await dialog.waitFor();
      await page.keyboard.press("Escape");
      await goTo(page, "Home");
    }
    await noneIsLeft();
  });

  await step("GPU", async () => {
    await goTo(page, "GPU");
    const devices = async () => (await settingsOf()).devices.map(({ device }) => device).join();
    const tick = (name) => page.getByRole("checkbox", { name });
    await tick(/^Automatic/).check();
    await until("it is automatic", async () => (await devices()) === "");
    await tick(/^Processor \(CPU\)/).check();
    await until("it is the processor", async () => (await devices()) === "cpu");
    await call("change_settings", {
      devices: [{ device: "cpu" }, { device: "named", name: "llvmpipe" }],
    });
    const paused = async () =>
      (await ask("status")).devices.map(({ paused }) => paused).join();
    await button("Pause this one").click();
    await until("the first device is paused", async () => /^true,false/.test(await paused()));
    await button("Resume this one").click();
    await until("it works again", async () => /^false,false/.test(await paused()));
    await tick(/^“llvmpipe”/).uncheck();
    await until("it is the processor again", async () => (await devices()) === "cpu");
    const software = page.getByRole("switch", { name: /^Never use/ });
    for (let index = 0; index < (await software.count()); index += 1) {
      await software.nth(index).click();
      await until("it is excluded", async () => {
        return (await settingsOf()).excluded_adapters.length === index + 1;
      });
    }
    await call("change_settings", { excluded_adapters: [] });
    const link = main.getByRole("link", { name: /See what the network asks for/ });
    if ((await link.count()) > 0) {
      await link.click();
      await page.goBack();
      await page.getByRole("heading", { level: 1, name: "GPU" }).waitFor({ state: "attached" });
    }
    await noneIsLeft();
    await says(page, /Waiting for jobs/);
  });

  await step("Requirements", async () => {
    await goTo(page, "Requirements");
    await press("Check again");
    await page.getByText("Checked again").waitFor();
    for (const name of ["See GPUs", "Open models"]) {
      await main.getByRole("link", { name }).click();
      await page.goBack();
      await main.getByRole("link", { name }).waitFor();
    }
    await noneIsLeft();
  });

  await step("Earnings", async () => {
    await goTo(page, "Earnings");
    for (const period of ["Week", "Month", "Day"]) {
      await main.getByText(period, { exact: true }).first().click();
      await main.getByRole("columnheader", { name: period }).waitFor();
    }
    const coming = page.waitForEvent("download");
    await press("Export CSV");
    const text = await readFile(await (await coming).path(), "utf8");
    if (text.trim().split("\n").length < 2) throw new Error(`the file has no rows: ${text}`);
    // It works on the processor: what that draws nobody tells, and nothing is asked.
    const cost = main.getByRole("region", { name: "What the work costs" });
    await cost.getByText(/Your processor computes/).waitFor();
    if ((await cost.locator("input, select").count()) > 0) throw new Error("a price is asked for");
    await noneIsLeft();
  });

  const rows = main.getByRole("row").filter({ has: page.locator("td.model") });
  await step("Jobs: filters and order", async () => {
    await goTo(page, "Jobs");
    await rows.first().waitFor();
    for (const [name, value] of [
      ["Time", "today"],
      ["Check", "failed"],
      ["Kind", "audit"],
    ]) {
      await main.getByLabel(name, { exact: true }).selectOption(value);
    }
    await page.getByText("Nothing matches").waitFor();
    await press("Clear filters");
    await rows.first().waitFor();
    await main.getByRole("searchbox").fill("no such model");
    await page.getByText("Nothing matches").waitFor();
    await press("Clear filters");
    await rows.first().waitFor();
    for (const head of await main.getByRole("columnheader").getByRole("button").all()) {
      const sorted = head.locator("xpath=..");
      const before = await sorted.getAttribute("aria-sort");
      await head.click();
      await until("it is sorted", async () => (await sorted.getAttribute("aria-sort")) !== before);
    }
  });
  await step("Jobs: the file holds what the history holds", async () => {
    const { jobs } = await call("jobs", { ...ALL_JOBS, sort: "started", ascending: false });
    const coming = page.waitForEvent("download");
    await press("Export CSV");
    const download = await coming;
    if (!/\.csv$/.test(download.suggestedFilename())) throw new Error(download.suggestedFilename());
    const [head, ...lines] = (await readFile(await download.path(), "utf8"))
      .replace(/^\uFEFF/, "")
      .trim()
      .split(/\r?\n/)
      .map((line) => line.split(","));
    const column = (name) => head.indexOf(name);
    const written = lines
      .map((line) => `${line[column("id")]} ${line[column("output_tokens")]}`)
      .sort();
    const wanted = jobs.map(({ id, output_tokens }) => `${id} ${output_tokens}`).sort();
    if (JSON.stringify(written) !== JSON.stringify(wanted)) {
      throw new Error(`${head}\n${written}\nis not\n${wanted}`);
    }
  });
  await step("Jobs: one job", async () => {
    await rows.first().click();
    await dialog.waitFor();
    await press("Copy Job id", dialog);
    await copied(/^\S{8,}$/);
    await press("Copy Model id", dialog);
    await copied(/^[0-9a-f]{64}$/);
    const address = page.url();
    await press("Next", dialog);
    await until("another job is shown", () => page.url() !== address);
    await press("Previous", dialog);
    await until("it is shown again", () => page.url() === address);
    await press("Close", dialog);
    await dialog.waitFor({ state: "detached" });
    await noneIsLeft();
  });

  await step("Models", async () => {
    await goTo(page, "Models");
    const use = main.getByRole("switch", { name: /^Answer jobs with / });
    // A file of elsewhere is listed while it is used; a copy stays.
    await use.click();
    await until("it is off", async () => (await settingsOf()).models.length === 0);
    await says(page, /no model is chosen/);
    const choosing = page.waitForEvent("filechooser");
    await press("Choose a file");
    await (await choosing).setFiles(given.file);
    await use.click();
    await says(page, /Waiting for jobs/);
    await press(/^More for /);
    await page.getByRole("menuitem", { name: "Delete" }).click();
    await press("Keep it", dialog);
    await dialog.waitFor({ state: "detached" });
    await main.getByRole("link", { name: "Limits in the settings" }).click();
    await page.goBack();
    for (const licence of await main.getByRole("link", { name: /opens in the browser$/ }).all()) {
      const opening = page.context().waitForEvent("page");
      await licence.click();
      await (await opening).close();
    }
    await press("From an address");
    await press("Cancel", dialog);
    await dialog.waitFor({ state: "detached" });
    // There is no network: each waits, and is cancelled.
    const wanted = main.getByRole("button", { name: /^Download/ });
    while ((await wanted.count()) > 0) {
      const count = await wanted.count();
      await wanted.first().click();
      await until("it is asked for", async () => (await wanted.count()) < count);
    }
    const acts = main.getByRole("button", { name: /^(Pause|Cancel|Resume|Try now): / });
    await main
      .getByRole("button", { name: /^Pause: / })
      .first()
      .click();
    await main
      .getByRole("button", { name: /^Resume: / })
      .first()
      .click();
    while ((await call("state")).downloads.length > 0) {
      const { length } = (await call("state")).downloads;
      await acts.filter({ hasText: "Cancel" }).first().click();
      await until("one is gone", async () => (await call("state")).downloads.length < length);
    }
    await press(/^More for /);
    await page.getByRole("menuitem", { name: "Try it" }).click();
    await page.getByRole("heading", { level: 1, name: "Try it" }).waitFor({ state: "attached" });
    await goTo(page, "Models");
    await noneIsLeft();
  });

  await step("Try it", async () => {
    await goTo(page, "Try it");
    const model = main.getByLabel("Model", { exact: true });
    await model.selectOption({ index: 0 });
    await press("Explain in two sentences what a graphics card does");
    await page.getByText(/first word after/).waitFor();
    await press("Copy");
    await copied(/./);
    await press("Let jobs go on");
    await says(page, /Waiting for jobs/);
    // The answer may have ended before the button was reached.
    const stop = button("Stop");
    for (let stopped = false; !stopped;) {
      await press("New conversation");
      const message = main.getByRole("textbox", { name: "Message" });
      await message.fill("Tell me a long story about a whale.");
      await press("Send");
      stopped = await stop.click({ timeout: 500 }).then(
        () => true,
        () => false,
      );
      await button("Send").waitFor({ state: "attached" });
    }
    await press("New conversation");
    for (const example of [
      "Suggest a name for a quiet computer, with a reason",
      /^Write a short/,
    ]) {
      await press(example);
      await page.getByText(/first word after/).waitFor();
      await press("New conversation");
    }
    await noneIsLeft();
  });

  await step("Settings: what is kept", async () => {
    await goTo(page, "Settings");
    for (const [label, text, name, value] of [
      ["Jobs at once", "3", "jobs_at_once", 3],
      ["VRAM for other programs", "1.5", "vram_reserve_bytes", 1.5 * 2 ** 30],
      ["Download limit", "2", "download_bytes_per_second", 2e6],
      ["Disk space for models", "50", "models_quota_bytes", 50e9],
    ]) {
      const field = main.getByLabel(label);
      await field.fill("-1");
      await field.press("Tab");
      await main.getByRole("alert").filter({ hasText: "Write a" }).first().waitFor();
      await field.fill(text);
      await field.press("Tab");
      await until(`${label} is kept`, async () => (await settingsOf())[name] === value);
    }
    await main.getByLabel("Theme", { exact: true }).selectOption("dark");
    await page.locator('html[data-theme="dark"]').waitFor();
    await main.getByLabel("Theme", { exact: true }).selectOption("system");
    await main.getByLabel("Language", { exact: true }).selectOption("de");
    await page.getByRole("heading", { level: 1, name: "Einstellungen" }).waitFor();
    await main.getByLabel("Sprache", { exact: true }).selectOption("system");
    await page.getByRole("heading", { level: 1, name: "Settings" }).waitFor();
  });
  const rulesOf = async () => (await settingsOf()).rules;
  await step("Settings: when to work", async () => {
    for (const [name, preset] of [
      ["When I’m away", "away"],
      ["At night", "nights"],
      ["Whenever I’m not playing", "not_playing"],
      ["Always", "always"],
    ]) {
      await main.getByRole("radio", { name }).check();
      await until(`it is ${name}`, async () => (await call("state")).preset === preset);
    }
    await main.getByText("Fine tuning").click();
    for (const [name, is] of [
      ["Not while a game runs", (rules) => rules.games],
      ["Not while a program fills the screen", (rules) => rules.full_screen],
      ["Not while other programs use the GPU", (rules) => rules.gpu.load.on],
      ["Not while other programs need the GPU’s memory", (rules) => rules.gpu.memory.on],
      ["Not while the GPU is hot", (rules) => rules.gpu.heat.on],
      ["Not on battery", (rules) => rules.battery],
      ["Not while memory is short", (rules) => rules.memory.on],
      ["Only while I’m away", (rules) => rules.away.on],
      ["Only in these hours", (rules) => rules.schedule.on],
      ["Keep the machine awake for a job", (rules) => rules.keep_awake],
      ["No downloads over a metered connection", (rules) => rules.metered_downloads],
    ]) {
      const before = is(await rulesOf());
      for (const wanted of [!before, before]) {
        await main.getByRole("switch", { name, exact: true }).click();
        await until(`${name}: ${wanted}`, async () => is(await rulesOf()) === wanted);
      }
    }
    for (const [label, wrong, text, is] of [
      ["Left to other programs", "-1", "0.5", (rules) => rules.memory.bytes === 2 ** 29],
      ["Away after", "0", "25", (rules) => rules.away.minutes === 25],
      ["From this load on", "101", "45", (rules) => rules.gpu.load.percent === 45],
      ["For", "0", "20", (rules) => rules.gpu.load.seconds === 20],
      ["Too hot above", "39", "75", (rules) => rules.gpu.heat.celsius === 75],
      ["Compute at most", "9", "60", (rules) => rules.gpu.duty_percent === 60],
      ["Compute at most", "0", "100", (rules) => rules.gpu.duty_percent === 100],
      ["Nor with less in it than", "91", "20", (rules) => rules.battery_percent === 20],
    ]) {
      const field = main.getByLabel(label, { exact: true });
      await field.fill(wrong);
      await field.press("Tab");
      await main.getByRole("alert").filter({ hasText: "Write a" }).first().waitFor();
      await field.fill(text);
      await field.press("Tab");
      await until(`${label} is kept`, async () => is(await rulesOf()));
    }
    for (const [label, is] of [
      ["Too hot above", (rules) => rules.gpu.heat.celsius === null],
      ["Nor with less in it than", (rules) => rules.battery_percent === null],
    ]) {
      const field = main.getByLabel(label, { exact: true });
      await field.fill("");
      await field.press("Tab");
      await until(`${label} is empty`, async () => is(await rulesOf()));
    }
    await main.getByLabel("Name of a program").fill("/opt/no-such-game");
    await press("Add");
    await until("it is named", async () => (await rulesOf()).programs.includes("no-such-game"));
    await press("Remove no-such-game");
    await until("none is named", async () => (await rulesOf()).programs.length === 0);
    // This browser, if nothing else; none where the system calls all that runs its own.
    if ((await call("running_programs"))?.length > 0) {
      const running = main.getByRole("list", { name: "Running now" });
      await running.getByRole("button").first().click();
      await until("one that runs is named", async () => (await rulesOf()).programs.length === 1);
      await press(`Remove ${(await rulesOf()).programs[0]}`);
      await until("none is named again", async () => (await rulesOf()).programs.length === 0);
    }
  });
  await step("Settings: the hours", async () => {
    const hours = async () => (await rulesOf()).schedule.hours;
    const days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    for (const [day, name] of days.entries()) {
      await press(name);
      await until(`${name} is off`, async () => !(await hours())[0].days[day]);
    }
    // None is left: that cannot be.
    await main.getByRole("switch", { name: "Only in these hours" }).click();
    await main.getByText(/the node would never work/).waitFor();
    await press("Monday");
    await until("Monday is on", async () => (await hours())[0].days[0]);
    await main.getByText(/the node would never work/).waitFor({ state: "detached" });
    for (const [label, text, name, minutes] of [
      ["From", "20:30", "from", 1230],
      ["To", "06:15", "to", 375],
    ]) {
      const field = main.getByLabel(label, { exact: true });
      await field.fill(text);
      // Tab goes on to its minutes.
      await field.blur();
      await until(`${label} is kept`, async () => (await hours())[0][name] === minutes);
    }
    await main.getByText("Ends on the day after.").waitFor();
    await press("Add hours");
    await until("there are two rows", async () => (await hours()).length === 2);
    await press("Remove hours 2");
    await until("there is one row", async () => (await hours()).length === 1);
  });
  await step("a rule holds, and is overruled", async () => {
    const bar = page.locator("header");
    const hour = new Date().getHours();
    const later = {
      days: Array(7).fill(true),
      from: ((hour + 3) % 24) * 60,
      to: ((hour + 4) % 24) * 60,
    };
    await call("change_settings", { "rules.schedule.hours": [later] });
    await main.getByRole("radio", { name: "At night" }).check();
    await says(page, /^Paused by your schedule until /);
    await main
      .getByText(/keeps the node from working/)
      .first()
      .waitFor();
    await press("Work anyway for an hour", bar);
    await says(page, /^Your rules are set aside until /);
    await says(page, /Waiting for jobs/);
    await press("Follow my rules again", bar);
    await says(page, /^Paused by your schedule until /);
    for (const [menu, sentence] of [
      ["Work anyway for an hour", /Waiting for jobs/],
      ["Follow my rules again", /^Paused by your schedule until /],
    ]) {
      await press("More ways to pause", bar);
      await page.getByRole("menuitem", { name: menu }).click();
      await says(page, sentence);
    }
    await main.getByRole("radio", { name: "Always" }).check();
    await says(page, /Waiting for jobs/);
  });
  await step("Settings: networks", async () => {
    const { balancer: before } = (await call("state")).settings;
    const join = main.getByRole("button", { name: "Join", exact: true });
    await join.click();
    const link = dialog.getByLabel("Invitation or address");
    await link.fill("http://net.example");
    await link.press("Tab");
    await dialog.getByText(/plain HTTP/i).first().waitFor();
    await link.fill("infera://join?to=net.example&pin=cut");
    await link.press("Tab");
    await dialog.getByText(/The invitation is cut off/).first().waitFor();
    await press("Cancel", dialog);
    await main.getByRole("button", { name: "Leave", exact: true }).click();
    await press("Stay", dialog);
    await main.getByRole("button", { name: "Leave", exact: true }).click();
    await press("Leave", dialog);
    await says(page, /no network is chosen/);
    await join.click();
    await link.fill(before);
    await link.press("Tab");
    await dialog.getByText(/This is /).waitFor();
    await accessible(page, "joining a network");
    await press("Join", dialog);
    await says(page, /Waiting for jobs/);
  });
  await step("Settings: copies and links", async () => {
    const copies = main.getByRole("button", { name: "Copy", exact: true });
    for (const copy of await copies.all()) {
      await copy.click();
      await copied(/[\\/]/);
    }
    await main.getByRole("link", { name: "Open GPU" }).click();
    await page.goBack();
    await press("Make a bundle");
    await dialog.getByRole("checkbox").first().waitFor();
    for (const box of await dialog.getByRole("checkbox").all()) await box.uncheck();
    await dialog.getByText("Choose at least one file.").waitFor();
    for (const box of await dialog.getByRole("checkbox").all()) await box.check();
    const coming = page.waitForEvent("download");
    await press("Save the bundle", dialog);
    const text = await readFile(await (await coming).path(), "utf8");
    if (!text.includes("jobs_at_once")) throw new Error(text.slice(0, 2000));
    if ((await dialog.count()) > 0) await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  });
  await step("Settings: the first start, skipped through", async () => {
    await press("Open the first start");
    for (const heading of [/has$/, /may work$/, /answers$/, /can do$/]) {
      await page.getByRole("button", { name: "Skip", exact: true }).click();
      await page.getByRole("heading", { level: 1, name: heading }).waitFor();
    }
    await page.getByRole("button", { name: "Back", exact: true }).click();
    await page.getByRole("button", { name: "Skip", exact: true }).click();
    await page.getByRole("button", { name: "Finish", exact: true }).click();
    await says(page, /Waiting for jobs/);
  });
  await step("Use it: from no account to a key, and its end", async () => {
    await goTo(page, "Use it");
    await press("I have one already");
    await dialog.getByLabel("Linking code", { exact: true }).fill("hello");
    await press("Link this machine", dialog);
    await dialog.getByText(/^This is not a linking code/).waitFor();
    await dialog.getByLabel("Or its 24 words").fill("abandon abandn");
    await press("Restore the account", dialog);
    await dialog.getByText(/^An account has 24 words, and these are 2/).waitFor();
    await press("Close", dialog);
    await press("Create an account");
    await until("this machine is the account's", async () => {
      const { account } = await call("state");
      return account?.linked === true;
    });
    await press("Make a key");
    const name = dialog.getByLabel("What is it for?");
    const limit = dialog.getByLabel("At most on one day");
    await press("Cancel", dialog);
    await press("Make a key");
    await name.fill("my laptop");
    await limit.fill("much");
    await press("Make a key", dialog);
    await dialog.getByText(/without spaces/).waitFor();
    await dialog.getByText(/^A number of points/).waitFor();
    await name.fill("laptop");
    await limit.fill("50");
    for (const way of ["Trusted machines", "My machines", "All machines"]) {
      await dialog.getByRole("radio", { name: way }).check();
    }
    await press("Make a key", dialog);
    await press("Copy", dialog);
    await copied(/^\S{16,}$/);
    const key = await page.evaluate(() => navigator.clipboard.readText());
    await press("Done", dialog);
    await press("Copy");
    await copied(/\/v1$/);
    for (const example of ["Python", "JavaScript", "Editor", "curl"]) {
      await main.getByRole("tab", { name: example }).click();
      await main.getByRole("tabpanel").getByRole("button").click();
      const text = await page.evaluate(() => navigator.clipboard.readText());
      if (!text.includes(key)) throw new Error(`${example} has no key: ${text}`);
    }
    await press("Revoke laptop");
    await press("Keep", dialog);
    await press("Revoke laptop");
    await press("Revoke", dialog);
    await press("Show 1 revoked key");
    await main.getByText("Revoked", { exact: true }).waitFor();
    await noneIsLeft();
  });
  await step("Fleet: this machine, another one, and the account's end", async () => {
    await goTo(page, "Fleet");
    const choose = async (name) => {
      await main.getByRole("button", { name: /^What to do with / }).click();
      await page.getByRole("menuitem", { name }).click();
    };
    await choose("Pause");
    await says(page, /^Paused by you$/);
    await choose("Snooze for 1 hour");
    await says(page, /^Paused by you until /);
    await choose("Snooze for 4 hours");
    await choose("Resume");
    await says(page, /Waiting for jobs/);
    await press("Link a machine");
    await press("Cancel", dialog);
    await press("Link a machine");
    await dialog.getByLabel("For", { exact: true }).selectOption("few");
    await press("Make a code", dialog);
    for (const copy of await dialog.getByRole("button", { name: "Copy" }).all()) {
      await copy.click();
      await copied(/[0-9A-Z]{4}(-[0-9A-Z]{4}){3}$/);
    }
    await dialog.locator("footer").getByRole("button", { name: "Close" }).click();
    const name = main.getByLabel("Name of this machine");
    await name.fill("attic");
    await name.blur();
    await main.getByRole("heading", { name: /^attic/ }).waitFor();
    // Under its new name it is a control of its own.
    await choose("Resume");
    await main.getByRole("switch", { name: "Take commands from afar" }).click();
    await until("it is kept", async () => (await settingsOf()).takes_commands === true);
    await press("Show the words");
    const words = dialog.getByRole("list", { name: /^24 words/ }).getByRole("listitem");
    if ((await words.count()) !== 24) throw new Error(`there are ${await words.count()} words`);
    const coming = page.waitForEvent("download");
    await press("Save as a file", dialog);
    const text = await readFile(await (await coming).path(), "utf8");
    if (!text.includes(await words.first().innerText())) throw new Error(text);
    await dialog.locator("footer").getByRole("button", { name: "Close" }).click();
    await press("Remove");
    await press("Keep it", dialog);
    await noneIsLeft();
    await press("Remove");
    await press("Remove", dialog);
    await main.getByRole("button", { name: "Create an account" }).waitFor();
  });
  await step("Settings: stop sharing, and remove everything", async () => {
    await goTo(page, "Settings");
    await press("Stop sharing");
    await press("Keep sharing", dialog);
    await dialog.waitFor({ state: "detached" });
    await press("Remove everything…");
    await press("Keep everything", dialog);
    await dialog.waitFor({ state: "detached" });
    await noneIsLeft();
    await noneIsLeft("nav, header");
    await press("Stop sharing");
    await press("Stop sharing", dialog);
    await says(page, /you have not agreed/);
    await press("Remove everything…");
    await dialog.getByRole("textbox").fill("delete");
    await press("Remove everything", dialog);
    await dialog.getByText(/Type the word/).waitFor();
    await dialog.getByRole("textbox").fill("remove");
    await press("Remove everything", dialog);
    await dialog.getByText("Everything is removed").waitFor();
    await until("nothing is left", async () => !(await ask("is it there")));
  });
  await close(page);
});
