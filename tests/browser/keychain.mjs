// A keychain that is locked, and then unlocked.

import { accessible, ask, goTo, open, run, says, step } from "./lib.mjs";

await run(async () => {
  const page = await open();
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
  await step("in German too", async () => {
    const german = await open(undefined, { locale: "de-DE" });
    await says(german, /^Der Schlüsselbund mit dem Schlüssel dieses Knotens ist gesperrt$/);
    await german
      .getByText(/--key-file DATEI/)
      .first()
      .waitFor();
    await german.close();
  });
  await step("the node starts once it is unlocked", async () => {
    await ask("unlock");
    await goTo(page, "Requirements");
    await main.getByRole("button", { name: "Check again" }).first().click();
    await says(page, /no model is chosen/);
    const { node } = await ask("status");
    if (!/^[0-9a-f]{64}$/.test(node)) throw new Error(`the node is ${node}`);
  });
});
