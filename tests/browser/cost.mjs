// What the work costs: nothing before there was work, then energy, then money once a price is told.

import { readFile } from "node:fs/promises";
import {
  accessible,
  ask,
  call,
  close,
  goTo,
  noneIsUnused,
  open,
  run,
  says,
  step,
  until,
  watchControls,
} from "./lib.mjs";

const consumption = async () => (await call("earnings", { period: "day" })).consumption;
const tariff = async () => (await call("state")).settings.electricity;

await run(async () => {
  const page = await open(undefined, { init: watchControls });
  const card = page.getByRole("region", { name: "What the work costs" });
  const price = card.getByLabel("A kilowatt-hour costs");
  const currency = card.getByLabel("Currency");
  const figure = (label) =>
    card
      .locator(".figure")
      .filter({ has: page.locator(".label", { hasText: label }) })
      .locator(".value");
  const shows = (label, what) =>
    until(`${label} is ${what}`, async () =>
      what.test(((await figure(label).count()) > 0 && (await figure(label).innerText())) || ""),
    );

  await step("before there is work, it says what will stand here", async () => {
    await says(page, /Waiting for jobs/);
    await goTo(page, "Earnings");
    await card.getByText("No work measured yet").waitFor();
    await price.waitFor();
  });

  await step("a job is measured", async () => {
    await ask("a job");
    await until("it was measured", async () => (await consumption()).month !== null);
    await shows("Electricity", /^[\d.]+\sk?Wh$/);
    await card.getByText("Tell what a kilowatt-hour costs").waitFor();
    await card.getByText(/of work at \d+\sW/).waitFor();
    if ((await figure("Cost per day").count()) > 0) throw new Error("money without a price");
  });

  await step("what is no price is not kept", async () => {
    await price.fill("cheap");
    await price.press("Tab");
    await card.getByRole("alert").filter({ hasText: "Write a price such as 0.32" }).waitFor();
    if ((await tariff()).price_per_kwh !== null) throw new Error("it was kept");
    await price.press("Escape");
    await until("it is taken back", async () => (await price.inputValue()) === "");
  });

  await step("a price is told, and the cost is there", async () => {
    await price.fill("0,30");
    await price.press("Tab");
    await until("it is kept as it was written", async () => {
      const { price_per_kwh, currency } = await tariff();
      return price_per_kwh === "0.30" && currency === "USD";
    });
    for (const label of ["Cost per day", "Per 1,000 tokens", "Per 100 points"]) {
      await shows(label, /^\$(?=.*[1-9])[\d,.]+$/);
    }
    const { week } = await consumption();
    const expected = week.kilowatt_hours * 0.3 * 1e9;
    if (Math.abs(week.cost_nano - expected) > 1) throw new Error(JSON.stringify(week));
    if ((await price.inputValue()) !== "0.30") throw new Error(await price.inputValue());
  });

  await step("another currency, and every span", async () => {
    await currency.selectOption("EUR");
    await shows("Cost per day", /^€(?=.*[1-9])[\d,.]+$/);
    for (const [span, label] of [
      ["Today", "Cost today"],
      ["30 days", "Cost per day"],
      ["7 days", "Cost per day"],
    ]) {
      await card.getByText(span, { exact: true }).click();
      await shows(label, /^€(?=.*[1-9])[\d,.]+$/);
    }
  });

  await step("what the GPU draws at rest does not count", async () => {
    const before = (await consumption()).week;
    const { week } = await until("it was seen at rest", async () => {
      const found = await consumption();
      return found.week.rest_watts !== null && found;
    });
    if (Math.abs(week.rest_watts - 18) > 0.5) throw new Error(JSON.stringify(week));
    if (before.rest_watts === null && week.kilowatt_hours >= before.kilowatt_hours) {
      throw new Error(`${JSON.stringify(week)} is not less than ${JSON.stringify(before)}`);
    }
    await price.fill("0.5");
    await price.press("Tab");
    await card.getByText(/At rest your GPU draws 18\sW, which does not count/).waitFor();
  });

  await step("the file has it", async () => {
    for (const period of ["Week", "Month", "Day"]) {
      await page.getByText(period, { exact: true }).first().click();
      await page.getByRole("columnheader", { name: period }).waitFor();
    }
    const coming = page.waitForEvent("download");
    await page.getByRole("button", { name: "Export CSV" }).click();
    const [head, today] = (await readFile(await (await coming).path(), "utf8"))
      .replace(/^\uFEFF/, "")
      .trim()
      .split(/\r?\n/)
      .map((line) => line.split(","));
    const column = (name) => today[head.indexOf(name)];
    if (!(Number(column("electricity_kwh")) > 0) || column("currency") !== "EUR") {
      throw new Error(`${head}\n${today}`);
    }
  });

  await step("everyone can read it, and every control was used", async () => {
    await accessible(page, "the cost in light");
    await page.emulateMedia({ colorScheme: "dark" });
    await page.locator('html[data-theme="dark"]').waitFor();
    await accessible(page, "the cost in dark");
    await noneIsUnused(page);
  });
  await close(page);
});
