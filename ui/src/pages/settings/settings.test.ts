import { cleanup, fireEvent, render, screen } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { locale } from "../../i18n/index.svelte";
import { app } from "../../lib/state.svelte";
import { toasts } from "../../lib/toasts.svelte";
import { fakePlatform, refused, type Scenario } from "../../platform/fake";
import type { Platform, Settings as AllSettings } from "../../platform/types";
import { bundleName, bundleText } from "./bundle";
import { parseNumber, withoutKey, writeNumber } from "./fields";
import Settings from "./Settings.svelte";

let stop = () => {};
let platform: Platform;
let before: AllSettings;

beforeEach(() => {
  vi.spyOn(navigator, "languages", "get").mockReturnValue(["en-US"]);
  // jsdom has no dialogs.
  HTMLDialogElement.prototype.showModal = function () {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function () {
    this.open = false;
    this.dispatchEvent(new Event("close"));
  };
});
afterEach(() => {
  cleanup();
  stop();
  for (const { id } of toasts.shown) toasts.dismiss(id);
});

async function open(scenario: Scenario) {
  platform = fakePlatform(scenario);
  stop = app.start(platform);
  await vi.waitFor(() => expect(app.state).not.toBeNull());
  before = app.state!.settings;
  render(Settings);
}

const text = () => document.body.textContent ?? "";
const field = (label: string) => screen.getByLabelText<HTMLInputElement>(label);
const button = (words: string) =>
  [...document.querySelectorAll("button")].find((button) => button.textContent?.trim() === words)!;
const dialog = () => document.querySelector<HTMLDialogElement>("dialog[open]");

async function type(label: string, words: string) {
  await fireEvent.input(field(label), { target: { value: words } });
  await fireEvent.change(field(label));
}

describe("an address", () => {
  it("is shown without its key", () => {
    expect(withoutKey("http://127.0.0.1:1/#token=abc&x=1")).toBe(
      "http://127.0.0.1:1/#token=••••••••&x=1",
    );
  });
});

describe("a number", () => {
  it.each([
    ["2", 2],
    [" 0,5 ", 0.5],
    ["0.5", 0.5],
    ["", undefined],
    ["-1", undefined],
    ["1e3", undefined],
    ["300", undefined],
    ["1.000,5", undefined],
  ])("%j is %j", (typed, value) => expect(parseNumber(typed, { min: 0, max: 256 })).toBe(value));

  it("may be whole, may be absent, and is written the language's way", () => {
    expect(parseNumber("1.5", { min: 1, max: 9, whole: true })).toBeUndefined();
    expect(parseNumber("", { min: 1, max: 9, optional: true })).toBeNull();
    locale.choose("de", []);
    expect(writeNumber(1234.567)).toBe("1234,57");
    expect(parseNumber(writeNumber(0.54), { min: 0, max: 1 })).toBe(0.54);
    expect(writeNumber(null)).toBe("");
  });
});

describe("the bundle", () => {
  it("is one text with a heading for each file", () => {
    const files = [
      { name: "a.log", text: "one\n" },
      { name: "b.json", text: "{}" },
    ];
    expect(bundleText(files)).toBe("===== a.log =====\none\n\n===== b.json =====\n{}\n");
    expect(bundleName(new Date(2026, 0, 9))).toBe("infera-node-support-2026-01-09.txt");
  });
});

describe("the page", () => {
  it("keeps one change at a time and leaves the rest", async () => {
    await open("waiting");
    await type("VRAM for other programs", "2.5");
    await vi.waitFor(() => expect(app.state!.settings.vram_reserve_bytes).toBe(2.5 * 2 ** 30));
    expect(app.state!.settings).toEqual({ ...before, vram_reserve_bytes: 2.5 * 2 ** 30 });
    await type("Disk space for models", "");
    await type("Download limit", "1,5");
    await vi.waitFor(() => expect(app.state!.settings.download_bytes_per_second).toBe(1.5e6));
    expect(app.state!.settings.models_quota_bytes).toBeNull();
    expect(document.querySelector(".saved.shown")).not.toBeNull();
    expect(toasts.spoken).toBe("Saved");
  });

  it("says at the field what is wrong, and asks nothing of the program", async () => {
    await open("waiting");
    const call = vi.spyOn(platform, "call");
    await type("Jobs at once", "0");
    await vi.waitFor(() => expect(text()).toContain("Write a whole number from 1 to 256."));
    expect(field("Jobs at once").getAttribute("aria-invalid")).toBe("true");
    await type("VRAM for other programs", "99");
    await vi.waitFor(() => expect(text()).toContain("your GPU has no more"));
    expect(call).not.toHaveBeenCalled();
    await fireEvent.keyDown(field("Jobs at once"), { key: "Escape" });
    expect(field("Jobs at once").value).toBe("2");
  });

  it("shows at the field what the program refuses, and what holds", async () => {
    await open("waiting");
    vi.spyOn(platform, "call").mockRejectedValue(
      refused({ why: "settings_not_kept", detail: "The disk is full" }, "The disk is full"),
    );
    const notifications = screen.getByRole("switch", { name: "Notifications" });
    notifications.click();
    await vi.waitFor(() => expect(text()).toContain("Not saved: The settings could not be saved"));
    expect(notifications.getAttribute("aria-checked")).toBe("true");
    await fireEvent.change(field("Theme"), { target: { value: "dark" } });
    await vi.waitFor(() => expect(field("Theme").value).toBe("system"));
  });

  it("joins a network only when told to, changes between two and leaves one", async () => {
    await open("working");
    const user = userEvent.setup();
    button("Join").click();
    await vi.waitFor(() => expect(dialog()).not.toBeNull());
    const inDialog = (words: string) =>
      [...dialog()!.querySelectorAll("button")].find(
        (button) => button.textContent?.trim() === words,
      )!;
    const link = field("Invitation or address");
    expect(inDialog("Join").disabled).toBe(true);
    await user.type(link, "closed.example.org{Tab}");
    await vi.waitFor(() => expect(dialog()!.textContent).toContain("by invitation only"));
    expect(inDialog("Join").disabled).toBe(true);
    await user.clear(link);
    await user.type(link, "other.example.org{Tab}");
    await vi.waitFor(() => expect(dialog()!.textContent).toContain("This is Example network"));
    expect(dialog()!.textContent).toContain("The job in progress goes back to the network.");
    expect(app.state!.settings.balancer).toBe(before.balancer);
    inDialog("Join").click();
    await vi.waitFor(() => expect(dialog()).toBeNull());
    expect(app.state!.settings.balancer).toBe("https://other.example.org");
    // Two of one name are told apart by their addresses.
    expect(text()).toContain("Example network (other.example.org)");
    button("Use").click();
    await vi.waitFor(() => expect(app.state!.settings.balancer).toBe(before.balancer));
    button("Leave").click();
    await vi.waitFor(() => expect(dialog()?.textContent).toContain("Leave Example network"));
    inDialog("Leave").click();
    await vi.waitFor(() => expect(app.state!.settings.networks).toHaveLength(1));
    expect(app.state!.settings.balancer).toBeNull();
    await vi.waitFor(() => expect(text()).toContain("No network is chosen"));
  });

  it("shows the browser's address without its key until asked", async () => {
    await open("waiting");
    screen.getByRole("switch", { name: "Control from a browser" }).click();
    await vi.waitFor(() => expect(document.querySelector("code")).not.toBeNull());
    const shown = () => document.querySelector("code")!.textContent!.trim();
    expect(shown()).toMatch(/#token=•+$/);
    button("Show the key").click();
    await vi.waitFor(() => expect(shown()).toMatch(/#token=[0-9a-f]{20,}$/));
    expect(text()).toContain("The address holds a key");
  });

  it("hides in a browser what belongs to the desktop", async () => {
    await open("browser");
    for (const label of ["Start with the system", "Notifications", "Control from a browser"]) {
      expect(screen.queryByRole("switch", { name: label }), label).toBeNull();
    }
    expect(button("Open folder")).toBeUndefined();
    expect(text()).toContain("Support bundle");
  });

  it("shows a bundle before it saves what is left of it", async () => {
    await open("waiting");
    const save = vi.spyOn(platform, "saveText");
    button("Make a bundle").click();
    await vi.waitFor(() => expect(dialog()?.querySelector("pre")?.textContent).toContain("INFO"));
    expect(save).not.toHaveBeenCalled();
    dialog()!.querySelector<HTMLInputElement>("input[type=checkbox]")!.click();
    button("Save the bundle").click();
    await vi.waitFor(() => expect(dialog()?.textContent).toContain("Saved: /home/"));
    const [name, content] = save.mock.calls[0]!;
    expect(name).toMatch(/^infera-node-support-.*\.txt$/);
    expect(content).not.toContain("INFO");
    expect(content).toContain("===== settings.json =====");
  });

  it("stops sharing after a question", async () => {
    await open("waiting");
    button("Stop sharing").click();
    await vi.waitFor(() => expect(dialog()?.textContent).toContain("Stop sharing your GPU?"));
    expect(app.state!.setup.agreed).toBe(true);
    dialog()!.querySelectorAll<HTMLButtonElement>("footer button")[1]!.click();
    await vi.waitFor(() => expect(app.state!.setup.agreed).toBe(false));
    await vi.waitFor(() => expect(text()).toContain("Nothing is shared: you have not agreed."));
  });

  it("removes everything only for the typed word, and tells of the points", async () => {
    await open("waiting");
    const call = vi.spyOn(platform, "call");
    button("Remove everything…").click();
    await vi.waitFor(() => expect(dialog()?.querySelectorAll("tbody tr").length).toBe(7));
    expect(dialog()!.textContent).toContain("2.6\u00a0GB");
    expect(dialog()!.textContent).toMatch(/You have [1-9][\d,]* points/);
    const form = dialog()!.querySelector("form")!;
    const asked = () => call.mock.calls.filter(([name]) => name === "remove_everything").length;
    await fireEvent.submit(form);
    await vi.waitFor(() => expect(dialog()!.textContent).toContain("Type the word “remove”."));
    expect(asked()).toBe(0);
    await fireEvent.input(form.querySelector("input")!, { target: { value: " Remove " } });
    await fireEvent.submit(form);
    await vi.waitFor(() => expect(dialog()!.textContent).toContain("Everything is removed"));
    expect(asked()).toBe(1);
    expect(dialog()!.textContent).toContain("a new installation begins at zero");
  });
});
