import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { EventStreamParser } from "./sse";
import type { AppEvent } from "./types";
import { webPlatform } from "./web";

const event: AppEvent = { event: "gpu", sample: { at_ms: 1, readings: [] } };
const asked = vi.fn<typeof fetch>();

beforeEach(() => {
  vi.stubGlobal("fetch", asked);
  asked.mockReset();
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe("the parser of server-sent events", () => {
  it.each([
    ["whole", ["data: a\n\ndata: b\n\n"], ["a", "b"]],
    ["cut anywhere", ["da", "ta: a", "\n", "\nda", "ta: b\n\n"], ["a", "b"]],
    ["with CRLF, cut within", ["data: a\r", "\n\r", "\ndata: b\r\n\r\n"], ["a", "b"]],
    ["of many lines", ["data: a\ndata: b\n\n"], ["a\nb"]],
    ["with signs of life and other fields", [":\n\nid: 1\nevent: x\ndata:a\n\n:\n\n"], ["a"]],
    ["unfinished", ["data: a\n"], []],
  ])("reads a stream %s", (_, pieces, events) => {
    const parser = new EventStreamParser();
    expect(pieces.flatMap((piece) => parser.push(piece))).toEqual(events);
  });
});

describe("the token", () => {
  it("is taken out of the address and kept for this tab", async () => {
    history.replaceState(null, "", "/#token=s3cret");
    asked.mockImplementation(async () => Response.json(null));
    await webPlatform().call("resume", null);
    expect(location.hash).toBe("");
    await webPlatform().call("resume", null);
    for (const [, request] of asked.mock.calls) {
      expect(new Headers(request?.headers).get("Authorization")).toBe("Bearer s3cret");
    }
  });
});

describe("a command", () => {
  it("is posted by its name", async () => {
    asked.mockResolvedValue(Response.json({ samples: [] }));
    await expect(webPlatform().call("gpu_history", null)).resolves.toEqual({ samples: [] });
    expect(asked.mock.calls[0]![0]).toBe("control/v1/gpu_history");
    expect(asked.mock.calls[0]![1]).toMatchObject({ method: "POST", body: "null" });
  });

  it.each([
    [
      Response.json(
        { refusal: { why: "no_such_model" }, message: "No such", remedy: null },
        { status: 404 },
      ),
      { refusal: { why: "no_such_model" }, message: "No such", remedy: null },
    ],
    [new Response("", { status: 401 }), { refusal: { why: "unauthorised" } }],
    [new Response("upset", { status: 502 }), { refusal: { why: "unreachable" } }],
  ])("rejects with what went wrong", async (response, error) => {
    asked.mockResolvedValue(response);
    await expect(webPlatform().call("state", null)).rejects.toMatchObject(error);
  });

  it("says when nobody answers", async () => {
    asked.mockRejectedValue(new TypeError("Failed to fetch"));
    await expect(webPlatform().call("state", null)).rejects.toMatchObject({
      refusal: { why: "unreachable" },
      message: "Failed to fetch",
    });
  });

  it("sends a file as it is", async () => {
    asked.mockResolvedValue(Response.json({}));
    const file = new File(["GGUF"], "my model.gguf");
    await webPlatform().importFile(file);
    expect(asked.mock.calls[0]![0]).toBe("control/v1/models/my%20model.gguf");
    expect(asked.mock.calls[0]![1]).toMatchObject({ method: "PUT", body: file });
  });
});

describe("the stream of events", () => {
  it("is read across pieces, and followed again when it breaks", async () => {
    vi.useFakeTimers();
    const text = `data: ${JSON.stringify(event)}\n\n`;
    asked.mockImplementation(async () => new Response(inPieces(text, 7)));
    const events: AppEvent[] = [];
    const lost: boolean[] = [];
    const stop = webPlatform().events(
      (event) => events.push(event),
      (isLost) => lost.push(isLost),
    );
    await vi.advanceTimersByTimeAsync(100);
    expect(events).toEqual([event]);
    expect(lost).toEqual([false, true]);
    await vi.advanceTimersByTimeAsync(1000);
    expect(events.length).toBeGreaterThan(1);
    stop();
    const count = asked.mock.calls.length;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked.mock.calls.length).toBe(count);
  });
});

function inPieces(text: string, size: number): ReadableStream<Uint8Array> {
  const bytes = new TextEncoder().encode(text);
  return new ReadableStream({
    start(controller) {
      for (let at = 0; at < bytes.length; at += size) {
        controller.enqueue(bytes.slice(at, at + size));
      }
      controller.close();
    },
  });
}
