// Downloads from a web that breaks: this script is the proxy and the servers behind it.

import { createServer as createProxy } from "node:http";
import { createServer } from "node:https";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { createHash } from "node:crypto";
import { accessible, call, given, goTo, open, run, says, step, until } from "./lib.mjs";

const model = readFileSync(given.file);
const BREAK_AT = Math.ceil(model.length * 0.37);
/** What each path does; `mended` ends a fault. */
const asked = [];
let mended = false;

const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");

function range(request, length) {
  const found = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  if (found === null) return null;
  return [Number(found[1]), found[2] === "" ? length : Number(found[2]) + 1];
}

/** All of it, or the part that was asked for, up to `most` bytes of the file. */
function send(request, response, content, { headers = {}, most = content.length } = {}) {
  const part = range(request, content.length);
  const [start, end] = part ?? [0, content.length];
  response.writeHead(part === null ? 200 : 206, {
    "content-type": "application/octet-stream",
    etag: `"${hash(content).slice(0, 16)}"`,
    "content-length": end - start,
    ...(part === null ? {} : { "content-range": `bytes ${start}-${end - 1}/${content.length}` }),
    ...headers,
  });
  if (end <= most) return response.end(content.subarray(start, end));
  if (start >= most) return response.destroy();
  response.write(content.subarray(start, most), () => response.destroy());
}

const answers = {
  "/breaks.gguf": (request, response) =>
    send(request, response, model, { most: mended ? model.length : BREAK_AT }),
  "/page.gguf": (_request, response) => {
    response.writeHead(200, { "content-type": "text/html" });
    response.end("<!doctype html><title>Sign in</title>");
  },
  "/noise.gguf": (request, response) => send(request, response, Buffer.alloc(100_000, "noise")),
  "/infera/tests/resolve/main/wrong.gguf": (request, response) => {
    const promised = mended ? model : Buffer.from("another file");
    const headers = {
      "x-linked-etag": `"${hash(promised)}"`,
      "x-linked-size": String(model.length),
    };
    send(request, response, model, { headers });
  },
  // More than any disk of a test's machine has.
  "/endless.gguf": (_request, response) => {
    response.writeHead(200, {
      "content-type": "application/octet-stream",
      "content-length": String(2 ** 50),
    });
    response.write(model);
  },
  "/large.gguf": (request, response) => send(request, response, model),
};

function serve() {
  const tls = { cert: readFileSync(given.chain), key: readFileSync(given.key) };
  const server = createServer(tls, (request, response) => {
    asked.push(`${request.url} ${request.headers.range ?? ""}`);
    const answer = answers[request.url];
    if (answer === undefined) response.writeHead(404).end();
    else answer(request, response);
  });
  const proxy = createProxy();
  proxy.on("connect", (request, client, head) => {
    asked.push(`CONNECT ${request.url}`);
    const through = connect(server.address().port, "127.0.0.1", () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      through.write(head);
      through.pipe(client).pipe(through);
    });
    for (const socket of [client, through]) socket.on("error", () => {});
    through.on("close", () => client.destroy());
    client.on("close", () => through.destroy());
  });
  return new Promise((done, fail) => {
    proxy.on("error", fail);
    server.listen(0, "127.0.0.1", () => proxy.listen(given.port, "127.0.0.1", done));
  });
}

async function download(page, url) {
  await page.getByRole("button", { name: "From an address" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Address of a GGUF file").fill(url);
  await dialog.getByRole("button", { name: "Download", exact: true }).click();
  await dialog.waitFor({ state: "detached" });
}

async function cancel(page) {
  await page.getByRole("button", { name: /^Cancel: / }).click();
  await page.getByRole("heading", { name: "Downloads" }).waitFor({ state: "detached" });
}

/** A fault's three sentences, and its way out. */
async function fails(page, title, remedy) {
  const note = page.getByRole("alert").filter({ hasText: title });
  await note.waitFor();
  await note.getByText(remedy).first().waitFor();
  await note.getByRole("button", { name: /^Try again/ }).waitFor();
}

await run(async () => {
  await serve();
  // Chromium itself tells the console of each answer that is a refusal.
  const page = await open(undefined, { allow: [/status of 409/] });
  await step("the first start is skipped", async () => {
    await call("finish_setup", true);
    await goTo(page, "Models");
    await page.getByText("No model yet").waitFor();
  });

  await step("an address that is none is refused in words", async () => {
    await page.getByRole("button", { name: "From an address" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Address of a GGUF file").fill("http://models.example/a.gguf");
    await dialog.getByRole("button", { name: "Download", exact: true }).click();
    await dialog.getByText(/Plain HTTP could be changed/).waitFor();
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  });

  await step("a download breaks at 37 % and keeps what came", async () => {
    await download(page, "https://models.example/breaks.gguf");
    await page.getByText(/Nothing is coming; tries again in \d+ s/).waitFor();
    const bar = page.getByRole("progressbar", { name: /^Download of / });
    const now = Number(await bar.getAttribute("aria-valuenow"));
    const most = Number(await bar.getAttribute("aria-valuemax"));
    const percent = Math.round((now / most) * 100);
    if (percent !== 37) throw new Error(`the bar shows ${percent} % (${now} of ${most})`);
    await accessible(page, "a broken download");
  });
  await step("it is paused, survives that, and goes on where it stopped", async () => {
    await page.getByRole("button", { name: /^Pause: / }).click();
    await page.getByText(/^Paused. What has come is kept/).waitFor();
    mended = true;
    asked.length = 0;
    await page.getByRole("button", { name: /^Resume: / }).click();
    await page.getByRole("switch", { name: /^Answer jobs with / }).waitFor();
    await page.getByRole("heading", { name: "Downloads" }).waitFor({ state: "detached" });
    const first = asked.find((line) => line.startsWith("/breaks.gguf"));
    const start = Number(/bytes=(\d+)-/.exec(first ?? "")?.[1] ?? 0);
    if (start < BREAK_AT * 0.9) throw new Error(`it began anew: ${asked.join(", ")}`);
  });
  await step("a model is deleted", async () => {
    await page.getByRole("button", { name: /^More for / }).click();
    await page.getByRole("menuitem", { name: "Delete" }).click();
    await page
      .getByRole("dialog")
      .getByRole("button", { name: /^Delete / })
      .click();
    await page.getByText("No model yet").waitFor();
  });

  await step("a file with another hash is not installed", async () => {
    mended = false;
    await download(page, "https://huggingface.co/infera/tests/blob/main/wrong.gguf");
    await fails(page, "The file is not what it should be", /Try again\. If it comes back/);
    await page.getByText("No model yet").waitFor();
    await accessible(page, "a failed download");
  });
  await step("it is tried again once the source is mended", async () => {
    mended = true;
    await page.getByRole("button", { name: /^Try again/ }).click();
    await page.getByRole("switch", { name: /^Answer jobs with / }).waitFor();
    await call("delete_model", { path: (await call("state")).installed[0].path });
  });

  for (const [what, path] of [
    ["a web page", "page"],
    ["noise", "noise"],
  ]) {
    await step(`${what} is no model`, async () => {
      await download(page, `https://models.example/${path}.gguf`);
      await fails(page, "This is not a model file", /leads to the file itself/);
      await cancel(page);
    });
  }
  await step("a file that is none is refused before it is copied", async () => {
    await page.locator("input[type=file]").setInputFiles({
      name: "notes.gguf",
      mimeType: "application/octet-stream",
      buffer: Buffer.from("These are notes, not a model."),
    });
    await page.getByText("notes.gguf was not copied").waitFor();
    await page.getByRole("button", { name: "Dismiss" }).first().click();
  });

  await step("a full disk is said before a byte is written", async () => {
    await download(page, "https://models.example/endless.gguf");
    await fails(page, "The disk is full", /Free some space/);
    await cancel(page);
  });
  await step("the limit for models is said", async () => {
    const { settings } = await call("state");
    await call("change_settings", { models_quota_bytes: 1_000_000 });
    await download(page, "https://models.example/large.gguf");
    await fails(page, "The limit for models is reached", /raise the limit in the settings/);
    await call("change_settings", { models_quota_bytes: settings.models_quota_bytes });
    await page.getByRole("button", { name: /^Try again/ }).click();
    await page.getByRole("switch", { name: /^Answer jobs with / }).waitFor();
  });

  await step("nothing was asked of any other host", async () => {
    const hosts = asked.filter((line) => line.startsWith("CONNECT "));
    const foreign = hosts.filter((line) => !/(models\.example|huggingface\.co):443$/.test(line));
    if (foreign.length > 0) throw new Error(foreign.join(", "));
    await until("nothing is left", async () => (await call("state")).disk.partial_bytes === 0);
  });
});
