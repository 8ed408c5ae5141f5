// A network that asks for a GPU, and a machine that has none.

import { accessible, ask, goTo, open, run, says, step } from "./lib.mjs";

await run(async () => {
  const page = await open();
  await step("the bar says what is missing", async () => {
    await says(page, /^Not getting jobs: no GPU was found, this network asks for /);
    const { decision } = await ask("status");
    if (decision.mode === "run") throw new Error(`the node works all the same: ${decision}`);
  });
  await step("the requirements say it row by row", async () => {
    await goTo(page, "Requirements");
    const row = page
      .getByRole("row")
      .filter({ has: page.getByRole("rowheader", { name: /^GPU/ }) });
    await row.getByText("Not met").waitFor();
    await page.getByText(/^GPU: found .*, this network asks for /).waitFor();
    await page.getByText("No model is chosen").waitFor();
    await accessible(page, "the unmet requirements");
  });
  await step("checking again says the same", async () => {
    await page.getByRole("button", { name: "Check again" }).first().click();
    await page.getByText(/missing that this network asks for/).waitFor();
  });
  await step("the GPU page says it too", async () => {
    await goTo(page, "GPU");
    await page.getByText("No GPU was found").first().waitFor();
  });
});
