// From the first start to the first verified job, its points, and a pause.

import {
  accessible,
  ask,
  call,
  given,
  goTo,
  heard,
  listen,
  open,
  run,
  says,
  step,
  until,
} from "./lib.mjs";

async function next(page, heading) {
  await page.getByRole("button", { name: "Continue", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: heading }).waitFor();
}

async function decision() {
  return (await ask("status")).decision;
}

await run(async () => {
  const page = await open();

  await step("nothing is shared before the person agrees", async () => {
    await page.getByRole("heading", { level: 1, name: "Welcome to Infera Node" }).waitFor();
    await page.getByText("Nothing is shared yet").waitFor();
    await accessible(page, "the first step");
    await page.getByRole("button", { name: "Continue", exact: true }).click();
    await page.getByText(/^Tick the box to go on/).waitFor();
    const { setup, state } = await call("state");
    if (setup.agreed || state.summary.summary !== "not_agreed") throw new Error(state.sentence);
  });
  await step("agree", async () => {
    // That of the command line.
    await page.getByText(/This machine is in 127\.0\.0\.1:/).waitFor();
    await page.getByRole("checkbox", { name: /^I have read this/ }).check();
    await next(page, "What your machine has");
  });
  await step("check", async () => {
    await page.getByRole("row").filter({ hasText: "Memory (RAM)" }).waitFor();
    await accessible(page, "the check");
    await next(page, "Which GPU may work");
  });
  await step("choose the processor", async () => {
    await page.getByRole("checkbox", { name: "Processor, no GPU" }).check();
    await until("the processor is chosen", async () => {
      return (await call("state")).settings.devices[0]?.device === "cpu";
    });
    await accessible(page, "the choice of a GPU");
    await next(page, "Which model answers");
  });
  await step("import a model", async () => {
    await page.locator("input[type=file]").setInputFiles(given.file);
    await page.getByRole("group", { name: "On this machine" }).getByRole("radio").waitFor();
    await accessible(page, "the choice of a model");
    await next(page, "See what your GPU can do");
  });
  await step("measure it", async () => {
    await page.getByRole("button", { name: "Measure for 30 seconds" }).click();
    await page.getByText("Its first answer").waitFor({ timeout: 60_000 });
    await accessible(page, "the measurement");
    const { setup } = await call("state");
    if (setup.agreed) throw new Error("it shares before the last word");
  });
  await step("say when it may work", async () => {
    if (!(await page.getByRole("radio", { name: "Whenever I’m not playing" }).isChecked())) {
      throw new Error("there is no answer to begin with");
    }
    await page.getByRole("radio", { name: "Always" }).check();
    await until("it may always", async () => (await call("state")).preset === "always");
  });
  await step("start sharing", async () => {
    await page.getByRole("button", { name: "Start sharing" }).click();
    await says(page, /^Waiting for jobs/);
    await page.getByRole("heading", { level: 1, name: "Home" }).waitFor({ state: "attached" });
  });

  await step("a client's request is worked on", async () => {
    await listen(page);
    // On a busy machine a few jobs can be over between two looks at the node.
    await until("the bar says that it works", async () => {
      const { verdict } = await ask("jobs");
      if (verdict !== "verified") throw new Error(`the receipt says ${verdict}`);
      return heard(page, /Working on (a|\d+) jobs?/);
    });
    await page.getByText("Verified", { exact: true }).first().waitFor();
  });
  await step("the job stands in the history, verified", async () => {
    await goTo(page, "Jobs");
    const row = page.getByRole("row").filter({ hasText: "Verified" }).first();
    await row.waitFor();
    await accessible(page, "the jobs");
    await row.click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("Verified", { exact: true }).first().waitFor();
    await dialog.getByText("Agrees", { exact: true }).first().waitFor();
    await accessible(page, "a job");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  });
  await step("its points stand in the earnings", async () => {
    await goTo(page, "Earnings");
    await until("points are confirmed", async () => {
      const { points } = await ask("status");
      return points !== null && points.confirmed > 0;
    });
    await page.getByText("Points in numbers").first().waitFor({ state: "attached" });
    await page.getByText("No points yet").waitFor({ state: "detached" });
    await accessible(page, "the earnings");
  });

  const bar = page.locator("header");
  await step("pause", async () => {
    await bar.getByRole("button", { name: "Pause", exact: true }).click();
    await says(page, /^Paused by you$/);
    const { mode, reason } = await decision();
    if (mode === "run" || reason.reason !== "paused") throw new Error(JSON.stringify(reason));
  });
  await step("snooze", async () => {
    await bar.getByRole("button", { name: "Pause for another time" }).click();
    await page.getByRole("menuitem", { name: "Snooze for 15 minutes" }).click();
    await says(page, /^Paused by you until /);
    const { reason } = await decision();
    const minutes = (reason.until_ms - Date.now()) / 60_000;
    if (!(minutes > 14 && minutes <= 15)) throw new Error(`it is for ${minutes} minutes`);
  });
  await step("resume", async () => {
    await bar.getByRole("button", { name: "Resume", exact: true }).click();
    await says(page, /^Waiting for jobs/);
    await until("the node runs", async () => (await decision()).mode === "run");
  });
  await step("pause and resume by keyboard", async () => {
    await page.keyboard.press("Alt+KeyP");
    await says(page, /^Paused by you$/);
    await page.keyboard.press("Alt+KeyP");
    await says(page, /^Waiting for jobs/);
  });

  await step("try it: jobs wait while the person chats", async () => {
    await goTo(page, "Try it");
    await page.getByRole("textbox", { name: "Message" }).fill("Tell me a story about a whale.");
    await page.keyboard.press("Enter");
    await says(page, /^Paused while you use the model yourself/);
    await page.getByText(/first word after/).waitFor();
    await accessible(page, "a chat");
    await goTo(page, "Home");
    await says(page, /^Waiting for jobs/);
  });
  await step("the page can be loaded again", async () => {
    await page.reload();
    await says(page, /^Waiting for jobs/);
  });
});
