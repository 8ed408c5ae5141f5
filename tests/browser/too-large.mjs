// A GPU whose memory is too small for every model, until the person keeps less of it free.

import { accessible, call, given, goTo, open, run, step, until } from "./lib.mjs";

await run(async () => {
  // Chromium itself tells the console of each answer that is a refusal.
  const page = await open(undefined, { allow: [/status of 409/] });
  const main = page.locator("main");
  const use = page.getByRole("switch", { name: /^Answer jobs with / });
  await step("the GPU's memory is shown", async () => {
    await goTo(page, "GPU");
    await main.getByText("0.1 GB", { exact: true }).first().waitFor();
  });
  await step("a model that does not fit says what is missing", async () => {
    await goTo(page, "Models");
    await main.locator("input[type=file]").setInputFiles(given.file);
    const row = main.getByRole("listitem").filter({ has: use });
    await row.getByText(/^Needs 0\.\d\sGB more GPU memory than you have$/).waitFor();
    await row.getByText(/smaller model/).waitFor();
    if (await use.isEnabled()) throw new Error("it can be switched on");
    await accessible(page, "a model that is too large");
  });
  await step("no model of the catalogue is suggested", async () => {
    const cards = main.getByRole("article");
    const count = await cards.count();
    const short = await cards.getByText(/^Needs .* more GPU memory than you have$/).count();
    if (count === 0 || short !== count) throw new Error(`${short} of ${count} are too large`);
    if ((await main.getByText("Suggested for this machine").count()) > 0)
      throw new Error("one is suggested");
  });
  await step("the program refuses it too", async () => {
    const [{ path }] = (await call("state")).installed;
    const refusal = await call("use_model", { path, in_use: true }).catch((error) => error.message);
    if (!/more GPU memory than there is/.test(refusal)) throw new Error(JSON.stringify(refusal));
  });
  await step("it cannot be chosen to be tried", async () => {
    await goTo(page, "Try it");
    await page.getByText("No model to talk to yet").waitFor();
  });
  await step("it fits once less is kept for other programs", async () => {
    await goTo(page, "Settings");
    const reserve = main.getByLabel("VRAM for other programs");
    await reserve.fill("0");
    await reserve.press("Tab");
    await until("it is kept", async () => (await call("state")).settings.vram_reserve_bytes === 0);
    await goTo(page, "Models");
    await main.getByText(/^Fits in your 0\.1\sGB/).waitFor();
    if (!(await use.isEnabled())) throw new Error("it still cannot be switched on");
  });
});
