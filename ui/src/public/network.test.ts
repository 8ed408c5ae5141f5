import { afterEach, describe, expect, it, vi } from "vitest";
import { baseOf, linkOf, readInvitation } from "./network";

const CREDENTIALS =
  "pin=BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc&token=CQkJCQkJCQkJCQkJCQkJCf7oeMKz";

describe("where the page is", () => {
  it.each([
    ["https://net.example/", "https://net.example"],
    ["https://net.example/join", "https://net.example"],
    ["https://192.168.1.5:8431/join#token=1", "https://192.168.1.5:8431"],
    ["https://net.example/infera/join", "https://net.example/infera"],
    ["https://net.example/joinery", "https://net.example/joinery"],
  ])("%s", (address, base) => expect(baseOf(new URL(address))).toBe(base));
});

describe("the link for the program", () => {
  it.each([
    [
      `https://192.168.1.5:8431/join#${CREDENTIALS}`,
      `infera://join?to=192.168.1.5:8431&${CREDENTIALS}`,
    ],
    [
      `https://net.example/infera/join#${CREDENTIALS}`,
      `infera://join?to=net.example/infera&${CREDENTIALS}`,
    ],
    // On this machine, without encryption.
    [
      `http://127.0.0.1:8431/join#${CREDENTIALS}`,
      `infera://join?to=http://127.0.0.1:8431&${CREDENTIALS}`,
    ],
    ["https://net.example/join", null],
    ["https://net.example/#models", null],
  ])("%s", (address, link) => expect(linkOf(new URL(address))).toBe(link));
});

describe("an invitation", () => {
  afterEach(() => vi.unstubAllGlobals());
  const address = new URL(`https://net.example/join#${CREDENTIALS}`);

  it("that is cut off is not asked for", async () => {
    const ask = vi.fn();
    vi.stubGlobal("fetch", ask);
    const cut = new URL(address.href.slice(0, -2));
    expect(await readInvitation("https://net.example", cut)).toBe("cut_off");
    expect(ask).not.toHaveBeenCalled();
  });

  it.each([
    ["invitation_used_up", "used_up"],
    ["invitation_revoked", "revoked"],
    ["unavailable", null],
  ])("that is refused as %s", async (code, fault) => {
    const refuse = () => Promise.resolve(Response.json({ code, message: "" }, { status: 410 }));
    vi.stubGlobal("fetch", refuse);
    expect(await readInvitation("https://net.example", address)).toBe(fault);
  });
});
