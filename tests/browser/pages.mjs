// Every page, by keyboard and by link, in light and in dark, with nothing that shuts people out.

import { accessible, close, goTo, open, origin, run, says, step } from "./lib.mjs";

const PAGES = [
  ["Home", "home"],
  ["GPU", "gpu"],
  ["Requirements", "requirements"],
  ["Earnings", "earnings"],
  ["Jobs", "jobs"],
  ["Models", "models"],
  ["Try it", "try-it"],
  ["Use it", "use-it"],
  ["Fleet", "fleet"],
  ["Settings", "settings"],
];

await run(async () => {
  for (const theme of ["light", "dark"]) {
    const page = await open(undefined, { theme });
    await step(`${theme}: the token leaves the address`, async () => {
      await says(page, /Waiting for jobs/);
      if (page.url().includes("token")) throw new Error(`the address is ${page.url()}`);
      const shown = await page.evaluate(() => document.documentElement.dataset.theme);
      if (shown !== theme) throw new Error(`the theme is ${shown}`);
    });
    for (const [name] of PAGES) {
      await step(`${theme}: ${name}`, async () => {
        await goTo(page, name);
        await page.locator("main [aria-busy=true]").waitFor({ state: "detached" });
        await accessible(page, `${name} in ${theme}`);
      });
    }
    if (theme === "dark") await close(page);
  }

  const page = await open();
  await step("what shuts people out is found", async () => {
    await says(page, /Waiting for jobs/);
    await page.evaluate(() => {
      const grey = document.body.appendChild(document.createElement("p"));
      grey.textContent = "Hardly to be read";
      grey.setAttribute("style", "color: #ccc; background: #fff");
    });
    const found = await accessible(page, "a page with grey words").catch((error) => error.message);
    if (!found?.includes("color-contrast")) throw new Error(`axe is blind: ${found}`);
    await page.reload();
  });
  await step("the keyboard's shortcuts open the pages", async () => {
    await says(page, /Waiting for jobs/);
    for (const [index, [name, place]] of [...PAGES.entries()].reverse()) {
      await page.keyboard.press(`Alt+Digit${(index + 1) % 10}`);
      await page
        .getByRole("heading", { level: 1, name, exact: true })
        .waitFor({ state: "attached" });
      if (!page.url().endsWith(`#/${place}`)) throw new Error(`${name} is at ${page.url()}`);
    }
  });
  await step("the tabulator reaches every page's link", async () => {
    await page.goto(`${origin}/#/home`);
    const wanted = new Set(PAGES.map(([name]) => name));
    await page.locator("body").press("Tab");
    for (let presses = 0; wanted.size > 0 && presses < 40; presses += 1) {
      const name = await page.evaluate(() => document.activeElement?.textContent?.trim() ?? "");
      if (wanted.delete(name)) {
        await page.keyboard.press("Enter");
        await page
          .getByRole("heading", { level: 1, name, exact: true })
          .waitFor({ state: "attached" });
        await page.getByRole("navigation").getByRole("link", { name, exact: true }).focus();
      }
      await page.keyboard.press("Tab");
    }
    if (wanted.size > 0) throw new Error(`the focus never reached ${[...wanted].join(", ")}`);
  });
  await step("a link opens a page, and going back leaves it", async () => {
    await page.goto(`${origin}/#/models`);
    await page.getByRole("heading", { level: 1, name: "Models" }).waitFor();
    await goTo(page, "GPU");
    await page.goBack();
    await page.getByRole("heading", { level: 1, name: "Models" }).waitFor();
  });
  await step("a small window still has every page", async () => {
    await page.setViewportSize({ width: 800, height: 600 });
    for (const [name] of PAGES) {
      await goTo(page, name);
      await page.locator("main [aria-busy=true]").waitFor({ state: "detached" });
      const below = await page.evaluate(
        () => document.documentElement.scrollHeight - document.documentElement.clientHeight,
      );
      if (below > 0) throw new Error(`${name} scrolls the document by ${below} px`);
    }
    await accessible(page, "the small window");
  });
});
