// A keychain that is locked: what the person reads, and where.

import { accessible, close, goTo, open, run, says, step } from "./lib.mjs";

await run(async () => {
  // Chromium itself tells the console of each answer that is a refusal.
  const page = await open(undefined, { allow: [/status of 409/] });
  const main = page.locator("main");
  await step("the bar says what is locked, and the page what to do", async () => {
    await says(page, /^The keychain with this node’s key is locked$/);
    await main.getByText(/Unlock it and check again/).waitFor();
    await main.getByText(/--key-file FILE/).waitFor();
    await accessible(page, "a locked keychain");
  });
  await step("checking again is no use while it is locked", async () => {
    await main.getByRole("button", { name: "Check again" }).click();
    await says(page, /^The keychain with this node’s key is locked$/);
  });
  await step("the requirements say it too", async () => {
    await goTo(page, "Requirements");
    await main.getByText(/Unlock it and check again/).waitFor();
  });
  await step("in German too", async () => {
    const german = await open(undefined, { locale: "de-DE" });
    await says(german, /^Der Schlüsselbund mit dem Schlüssel dieses Knotens ist gesperrt$/);
    await german
      .getByText(/--key-file DATEI/)
      .first()
      .waitFor();
    await close(german);
  });
});
