// What breaks outside of the page: the balancer, the engine, the key, the program itself.

import {
  ask,
  call,
  close,
  given,
  goTo,
  heard,
  listen,
  open,
  origin,
  run,
  says,
  step,
  until,
} from "./lib.mjs";

async function engineIsBack(before) {
  await until("another engine is ready", async () => {
    const now = await ask("engines");
    const { models } = await ask("status");
    const isNew = now.length > 0 && now.every((pid) => !before.includes(pid));
    return isNew && models[0].engine.state === "ready";
  });
}

await run(async () => {
  const page = await open();
  await step("the node is ready", () => says(page, /Waiting for jobs/));

  await step("the balancer is lost", async () => {
    await ask("kill the balancer");
    await says(page, /^Cannot reach http:\/\/127\.0\.0\.1:\d+; trying again/);
    await page.getByText("Offline", { exact: true }).waitFor();
    await goTo(page, "Requirements");
    await page.getByText("Nothing answers at the network", { exact: false }).first().waitFor();
  });
  await step("the balancer is back", async () => {
    await ask("start the balancer");
    await says(page, /Waiting for jobs/);
    await page.getByText("Online", { exact: true }).waitFor();
    await page.getByText("Nothing stands in the way").waitFor();
  });

  await step("the engine is killed and back at once", async () => {
    const before = await ask("engines");
    await ask("kill the engine");
    await engineIsBack(before);
    await says(page, /Waiting for jobs/);
  });
  await step("it is killed again, and the page says what happens", async () => {
    // From the second on it is started again after a random wait that grows: a short one is over
    // before the page hears of it.
    await listen(page);
    for (let kills = 1; !(await heard(page, /starting it again/)); kills += 1) {
      if (kills > 20) throw new Error("the page said nothing of 20 killed engines");
      const before = await ask("engines");
      await ask("kill the engine");
      await engineIsBack(before);
    }
    await says(page, /Waiting for jobs/);
  });

  await step("a wrong key is explained on the whole page", async () => {
    const allow = [/status of 401/];
    const stranger = await open(`${origin}/#token=${"0".repeat(64)}`, { allow });
    await stranger.getByRole("heading", { name: "This page needs its key" }).waitFor();
    await stranger.getByText("infera run --web").waitFor();
    if ((await stranger.getByRole("navigation").count()) > 0) {
      throw new Error("it shows pages to a stranger");
    }
    await close(stranger);
    const keyless = await open(`${origin}/`, { allow });
    await keyless.getByRole("heading", { name: "This page needs its key" }).waitFor();
    await close(keyless);
  });
  await step("a second page follows the first", async () => {
    const second = await open(given.address);
    await says(second, /Waiting for jobs/);
    await page.getByRole("button", { name: "Pause", exact: true }).click();
    await says(second, /^Paused by you$/);
    await second.getByRole("button", { name: "Resume", exact: true }).click();
    await says(page, /Waiting for jobs/);
    await until("the node runs", async () => (await call("state")).node.decision.mode === "run");
    await close(second);
  });
});
