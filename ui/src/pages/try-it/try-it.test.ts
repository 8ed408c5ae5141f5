import { cleanup, render } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { app } from "../../lib/state.svelte";
import { toasts } from "../../lib/toasts.svelte";
import { fakePlatform, refused, type Scenario } from "../../platform/fake";
import type { ChatRequest, Platform } from "../../platform/types";
import { chat } from "./chat.svelte";
import { inline, parts } from "./text";
import TryIt from "./TryIt.svelte";

let stop = () => {};
let platform: Platform;

beforeEach(() => vi.spyOn(navigator, "languages", "get").mockReturnValue(["en-US"]));
afterEach(async () => {
  cleanup();
  await chat.renew();
  chat.model = null;
  chat.draft = "";
  stop();
});

async function open(scenario: Scenario) {
  platform = fakePlatform(scenario);
  stop = app.start(platform);
  await vi.waitFor(() => expect(app.state).not.toBeNull());
  return render(TryIt);
}

const box = () => document.querySelector<HTMLTextAreaElement>("textarea")!;
const answer = () => document.querySelector("article:last-of-type .answer")?.textContent ?? "";
const last = () => chat.turns.at(-1)!;
const finished = () => vi.waitFor(() => expect(chat.running).toBeNull(), { timeout: 8000 });

describe("the chat", () => {
  it("streams an answer, then says how fast it was, once", async () => {
    await open("waiting");
    const user = userEvent.setup();
    await user.type(box(), "A{Shift>}{Enter}{/Shift}B");
    expect(chat.turns).toEqual([]);
    await user.keyboard("{Enter}");
    expect(box().value).toBe("");
    await vi.waitFor(() => expect(answer()).toContain("Loading Llama 3.2 3B Instruct"));
    await vi.waitFor(() => expect(answer()).toContain("A graphics card"));
    expect(answer()).not.toContain("tokens/s");
    await finished();
    await vi.waitFor(() => expect(answer()).toContain("42 tokens/s"));
    expect(answer()).toContain("first word after");
    expect(last().question).toBe("A\nB");
    expect(toasts.spoken).toContain("The answer: A graphics card");
  }, 20_000);

  it("reminds the model of what was said, and of nothing that failed", async () => {
    await open("waiting");
    await vi.waitFor(() => expect(chat.model).not.toBeNull());
    const call = vi.spyOn(platform, "call");
    const asked = () => call.mock.calls.filter(([name]) => name === "chat");
    call.mockRejectedValueOnce(refused({ why: "starting" }));
    await chat.ask("one", "M");
    expect(last()).toMatchObject({
      phase: "failed",
      failure: { reason: "The node is still starting", refused: true },
    });
    await chat.again();
    await finished();
    expect(chat.turns.length).toBe(1);
    await chat.ask("two", "M");
    const request = asked().at(-1)![1] as ChatRequest;
    expect(request.messages.map(({ role }) => role)).toEqual(["user", "assistant", "user"]);
    expect(request.messages.map(({ content }) => content)).toEqual([
      "one",
      chat.turns[0]!.answer,
      "two",
    ]);
  });

  it("stops with what has come", async () => {
    await open("waiting");
    await vi.waitFor(() => expect(chat.model).not.toBeNull());
    await chat.ask("one", "M");
    await vi.waitFor(() => expect(last().answer).not.toBe(""));
    await chat.stop();
    await finished();
    expect(last().figures?.cutOff).toBe(true);
    expect(last().answer).not.toBe("");
  });

  it("shows what went wrong in the middle, and keeps what came", async () => {
    await open("chat-fails");
    await vi.waitFor(() => expect(chat.model).not.toBeNull());
    await chat.ask("one", "M");
    await finished();
    expect(last().answer).not.toBe("");
    await vi.waitFor(() => expect(answer()).toContain("The answer broke off"));
    expect(answer()).toContain("The device has too little memory for this model");
  });

  it("ends an answer whose stream broke", async () => {
    await open("waiting");
    await vi.waitFor(() => expect(chat.model).not.toBeNull());
    await chat.ask("one", "M");
    app.lost = true;
    await vi.waitFor(() => expect(last().phase).toBe("failed"));
    app.lost = false;
  });

  it("gives the GPU back when the page is left, if it took it", async () => {
    const idle = await open("waiting");
    let call = vi.spyOn(platform, "call");
    idle.unmount();
    expect(call).not.toHaveBeenCalledWith("end_chat", null);
    stop();
    const page = await open("waiting");
    call = vi.spyOn(platform, "call");
    await vi.waitFor(() => expect(chat.model).not.toBeNull());
    await chat.ask("one", "M");
    page.unmount();
    await vi.waitFor(() => expect(call).toHaveBeenCalledWith("end_chat", null));
    expect(chat.turns.length).toBe(1);
  });

  it("without a model leads to one", async () => {
    await open("no-model");
    expect(document.querySelector("a[href='#/models']")).not.toBeNull();
    expect(box()).toBeNull();
  });
});

describe("an answer's text", () => {
  it("knows code between fences, also while it is written", () => {
    expect(parts("Look:\n\n```py\na = 1\n\nb = 2\n```\nDone.")).toEqual([
      { kind: "text", text: "Look:" },
      { kind: "code", text: "a = 1\n\nb = 2" },
      { kind: "text", text: "Done." },
    ]);
    expect(parts("```\nhalf").at(-1)).toEqual({ kind: "code", text: "half" });
    expect(parts("one\ntwo")).toEqual([{ kind: "text", text: "one\ntwo" }]);
  });

  it("knows code within a line", () => {
    expect(inline("use `x` or ``").map(({ kind }) => kind)).toEqual(["text", "code", "text"]);
  });

  it("is never read as HTML", async () => {
    await open("waiting");
    chat.turns = [
      {
        id: "1",
        name: "M",
        question: "<b>q</b>",
        answer: "<img src=x onerror=alert(1)>\nand",
        warm: true,
        phase: "done",
        progress: null,
        figures: null,
        failure: null,
      },
    ];
    await vi.waitFor(() => expect(answer()).toContain("<img src=x"));
    expect(document.querySelector("article img, article b")).toBeNull();
  });
});
