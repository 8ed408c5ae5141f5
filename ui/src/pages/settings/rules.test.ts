import { cleanup, fireEvent, render, screen } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { locale } from "../../i18n/index.svelte";
import { app } from "../../lib/state.svelte";
import { fakePlatform, refused, type Scenario } from "../../platform/fake";
import {
  rules as someRules,
  seenGpu,
  surroundings,
  unseen,
  unseenGpu,
} from "../../platform/fake-data";
import type { Platform } from "../../platform/types";
import {
  clockOf,
  hoursNote,
  minutesOf,
  presetWords,
  programName,
  sees,
  seesOnGpus,
  suggested,
  weekdays,
} from "./rules";
import Settings from "./Settings.svelte";

let stop = () => {};
let platform: Platform;

beforeEach(() => vi.spyOn(navigator, "languages", "get").mockReturnValue(["en-US"]));
afterEach(() => {
  cleanup();
  stop();
});

async function open(scenario: Scenario) {
  platform = fakePlatform(scenario);
  stop = app.start(platform);
  await vi.waitFor(() => expect(app.state).not.toBeNull());
  render(Settings);
}

const rules = () => app.state!.settings.rules;
const toggle = (name: string) => screen.getByRole("switch", { name, hidden: true });
const button = (name: string) => screen.getByRole("button", { name, hidden: true });
const row = (name: string) => toggle(name).closest("li")!;
const fine = () => document.querySelector<HTMLDetailsElement>("section details")!;
const radio = (name: string) => screen.getByRole<HTMLInputElement>("radio", { name });

describe("words and times", () => {
  it("are as a time field has them", () => {
    expect([clockOf(0), clockOf(425), clockOf(1439)]).toEqual(["00:00", "07:05", "23:59"]);
    expect([minutesOf("07:05"), minutesOf(""), minutesOf("7")]).toEqual([425, null, null]);
  });

  it("explain hours that are not plain", () => {
    locale.choose("en", []);
    const days = someRules.schedule.hours[0]!.days;
    expect(hoursNote({ days, from: 60, to: 120 })).toBeNull();
    expect(hoursNote({ days, from: 1320, to: 420 })).toBe("Ends on the day after.");
    expect(hoursNote({ days, from: 420, to: 420 })).toMatch(/^The whole day/);
  });

  it("begin a week on Monday in every language", () => {
    locale.choose("de", ["de-DE"]);
    expect(weekdays()[0]!.long).toBe("Montag");
    expect(weekdays()[6]!.short).toBe("So");
  });

  it("take a program's name without its folder", () => {
    expect(programName("C:\\Games\\doom.exe")).toBe("doom.exe");
    expect(programName(" /usr/bin/blender ")).toBe("blender");
    expect(programName("/usr/bin/")).toBeNull();
  });

  it("suggest what runs and is not named", () => {
    const program = (name: string) => ({ name, uses_gpu: null, memory_bytes: null });
    const running = ["Blender", "photoshop.EXE", "obs"].map(program);
    const names = (named: string[]) => suggested(running, named).map(({ name }) => name);
    expect(names([])).toEqual(["Blender", "photoshop.EXE", "obs"]);
    expect(names(["blender.exe", " Photoshop "])).toEqual(["obs"]);
    const many = Array.from({ length: 20 }, (_, at) => program(`p${at}`));
    expect(suggested(many, []).length).toBe(8);
  });

  it("of the night's preset follow the hours", () => {
    locale.choose("en", []);
    expect(presetWords("nights", someRules)).toContain("22:00 to 07:00");
    const own = structuredClone(someRules);
    own.schedule.hours[0]!.days[3] = false;
    expect(presetWords("nights", own)).toContain("the hours of your schedule");
  });

  it("say what is seen, and where nothing is reported", () => {
    locale.choose("en", []);
    const now = new Date(2026, 10, 30, 12).getTime();
    const seen = surroundings(now);
    expect(sees("games", seen, now)).toBe("Sees: no game");
    expect(sees("games", { ...seen, games: { names: ["Hades", "Doom"] } }, now)).toBe(
      "Sees: Hades, Doom",
    );
    expect(
      sees("battery", { ...seen, power: { on_battery: true, battery_percent: 63 } }, now),
    ).toBe("Sees: on battery, 63\u00a0% left");
    expect(sees("away", seen, now)).toBe("Sees: nobody since 11:56");
    expect(sees("away", { ...seen, session: "locked", input: null }, now)).toBe(
      "Sees: a locked screen",
    );
    expect(sees("network", seen, now)).toBe("Sees: a connection that is not metered");
    expect(sees("network", { ...seen, network: "metered" }, now)).toBe(
      "Sees: a metered connection",
    );
    expect(sees("network", { ...seen, network: "offline" }, now)).toBe("Sees: no network");
    expect(sees("memory", seen, now)).toBe("Sees: 13\u00a0GB free");
    const all = ["games", "full_screen", "programs", "memory", "battery", "away"] as const;
    for (const rule of [...all, "network"] as const) {
      expect(sees(rule, unseen, now)).toBe("Not reported here");
    }
    const plugged = { ...seen, power: { on_battery: false, battery_percent: null } };
    expect(sees("battery", seen, now)).toBe("Sees: mains power, 87\u00a0% in the battery");
    expect(sees("battery", plugged, now)).toBe("Sees: mains power");
  });

  it("say of each GPU what is seen of it", () => {
    locale.choose("en", []);
    const one = { id: "a", name: "RTX 4070", seen: seenGpu };
    const other = { id: "b", name: "UHD 770", seen: { ...unseenGpu, temperature_celsius: 45 } };
    const cpu = { id: "cpu", name: "Processor", seen: null };
    expect(seesOnGpus("gpu_load", [one])).toBe("Sees: 5\u00a0% by other programs");
    expect(seesOnGpus("gpu_memory", [one])).toBe(
      "Sees: 7.8\u00a0GB free, other programs hold 0.8\u00a0GB",
    );
    expect(seesOnGpus("gpu_heat", [one])).toBe("Sees: 61\u00a0°C, limit 90\u00a0°C");
    expect(seesOnGpus("gpu_heat", [other])).toBe("Sees: 45\u00a0°C");
    expect(seesOnGpus("gpu_load", [one, other])).toBe(
      "Sees: RTX 4070: 5\u00a0% by other programs; UHD 770: not reported here",
    );
    for (const rule of ["gpu_load", "gpu_memory", "gpu_heat"] as const) {
      expect(seesOnGpus(rule, [])).toBe("Not reported here");
      expect(seesOnGpus(rule, [cpu])).toBe("Not reported here");
      expect(seesOnGpus(rule, [{ ...one, seen: unseenGpu }])).toBe("Not reported here");
    }
  });
});

describe("the presets", () => {
  it("set their rules and leave the others", async () => {
    await open("waiting");
    expect(radio("Whenever I’m not playing").checked).toBe(true);
    expect(fine().open).toBe(false);
    const before = rules();
    radio("At night").click();
    await vi.waitFor(() => expect(app.state!.preset).toBe("nights"));
    expect(rules()).toEqual({ ...before, schedule: { ...before.schedule, on: true } });
    expect(radio("At night").checked).toBe(true);
  });

  it("say so where the rules are the person's own", async () => {
    await open("waiting");
    toggle("Not while a game runs").click();
    await vi.waitFor(() => expect(app.state!.preset).toBeNull());
    expect(document.body.textContent).toContain("Your own rules, as they are set below");
    expect(document.querySelectorAll('input[type="radio"]:checked').length).toBe(0);
    cleanup();
    render(Settings);
    expect(fine().open).toBe(true);
  });

  it("go back to what holds when they are refused", async () => {
    await open("waiting");
    vi.spyOn(platform, "call").mockRejectedValue(
      refused({ why: "settings_not_kept", detail: "The disk is full" }, "The disk is full"),
    );
    radio("Always").click();
    await vi.waitFor(() => expect(document.body.textContent).toContain("Not saved:"));
    expect(radio("Whenever I’m not playing").checked).toBe(true);
  });
});

describe("each rule", () => {
  it("is kept by its path", async () => {
    await open("waiting");
    const call = vi.spyOn(platform, "call");
    toggle("Not on battery").click();
    await vi.waitFor(() => expect(rules().battery).toBe(false));
    expect(call).toHaveBeenCalledWith("change_settings", { "rules.battery": false });
    toggle("Only while I’m away").click();
    await vi.waitFor(() => expect(rules().away).toEqual({ on: true, minutes: 10 }));
    const minutes = screen.getByLabelText<HTMLInputElement>("Away after");
    await fireEvent.input(minutes, { target: { value: "0" } });
    await fireEvent.change(minutes);
    await vi.waitFor(() =>
      expect(row("Only while I’m away").textContent).toContain("a whole number from 1 to 1,440"),
    );
    await fireEvent.input(minutes, { target: { value: "25" } });
    await fireEvent.change(minutes);
    await vi.waitFor(() => expect(rules().away.minutes).toBe(25));
    const memory = screen.getByLabelText<HTMLInputElement>("Left to other programs");
    await fireEvent.input(memory, { target: { value: "2.5" } });
    await fireEvent.change(memory);
    await vi.waitFor(() => expect(rules().memory.bytes).toBe(2.5 * 2 ** 30));
    toggle("Keep the machine awake for a job").click();
    await vi.waitFor(() => expect(rules().keep_awake).toBe(true));
    toggle("No downloads over a metered connection").click();
    await vi.waitFor(() => expect(rules().metered_downloads).toBe(false));
  });

  it("about a GPU is kept by its path", async () => {
    await open("waiting");
    toggle("Not while other programs use the GPU").click();
    await vi.waitFor(() => expect(rules().gpu.load.on).toBe(false));
    toggle("Not while other programs need the GPU’s memory").click();
    await vi.waitFor(() => expect(rules().gpu.memory.on).toBe(false));
    toggle("Not while the GPU is hot").click();
    await vi.waitFor(() => expect(rules().gpu.heat.on).toBe(false));
  });

  it("about a GPU has numbers within bounds", async () => {
    await open("waiting");
    const heat = screen.getByLabelText<HTMLInputElement>("Too hot above");
    expect([heat.value, heat.placeholder]).toEqual(["", "80"]);
    const type = async (name: string, value: string) => {
      const field = screen.getByLabelText<HTMLInputElement>(name);
      await fireEvent.input(field, { target: { value } });
      await fireEvent.change(field);
    };
    await type("Too hot above", "39");
    await vi.waitFor(() =>
      expect(document.body.textContent).toContain("a whole number from 40 to 110, or leave it"),
    );
    await type("Too hot above", "75");
    await vi.waitFor(() => expect(rules().gpu.heat.celsius).toBe(75));
    await type("Too hot above", "");
    await vi.waitFor(() => expect(rules().gpu.heat.celsius).toBeNull());
    await type("From this load on", "50");
    await type("For", "20");
    await vi.waitFor(() =>
      expect(rules().gpu.load).toEqual({ on: true, percent: 50, seconds: 20 }),
    );
    await type("Compute at most", "9");
    await vi.waitFor(() =>
      expect(document.body.textContent).toContain("Write a whole number from 10 to 100."),
    );
    await type("Compute at most", "60");
    await vi.waitFor(() => expect(rules().gpu.duty_percent).toBe(60));
    await type("Nor with less in it than", "20");
    await vi.waitFor(() => expect(rules().battery_percent).toBe(20));
  });

  it("about a GPU says what it sees there, and when it holds", async () => {
    const words = (name: string) => row(name).textContent?.replace(/\s+/g, " ");
    await open("gpu-busy");
    expect(words("Not while other programs use the GPU")).toContain(
      "Sees: 85 % by other programs · keeps the node from working",
    );
    expect(words("Not while the GPU is hot")).not.toContain("keeps the node");
    cleanup();
    stop();
    await open("two-gpus");
    expect(words("Not while the GPU is hot")).toContain(
      "NVIDIA GeForce RTX 4070: 61 °C, limit 90 °C; Intel UHD Graphics 770: not reported here",
    );
    cleanup();
    stop();
    await open("unseen");
    expect(words("Not while other programs need the GPU’s memory")).toContain("Not reported here");
    expect(screen.getByLabelText<HTMLInputElement>("Too hot above").placeholder).toBe("limit − 10");
  });

  it("says what it sees, and when it holds", async () => {
    await open("game");
    expect(row("Not while a game runs").textContent?.replace(/\s+/g, " ")).toContain(
      "Sees: Hades · keeps the node from working",
    );
    expect(row("Not on battery").textContent).not.toContain("keeps the node");
    cleanup();
    stop();
    await open("unseen");
    expect(row("Not while a game runs").textContent).toContain("Not reported here");
    expect(toggle("Not while a game runs").getAttribute("aria-checked")).toBe("true");
  });

  it("takes and gives up programs by name", async () => {
    await open("waiting");
    const user = userEvent.setup();
    await user.type(screen.getByLabelText("Name of a program"), "/opt/doom{Enter}");
    await vi.waitFor(() => expect(rules().programs).toEqual(["blender", "obs", "doom"]));
    expect(screen.getByLabelText<HTMLInputElement>("Name of a program").value).toBe("");
    button("Remove blender").click();
    button("Remove obs").click();
    await vi.waitFor(() => expect(rules().programs).toEqual(["doom"]));
  });

  it("suggests what runs once it is looked at, and takes it with one click", async () => {
    await open("waiting");
    const call = vi.spyOn(platform, "call");
    const asked = () => call.mock.calls.filter(([name]) => name === "running_programs").length;
    expect(screen.queryByText("Running now")).toBeNull();
    fine().open = true;
    await fireEvent(fine(), new Event("toggle"));
    await screen.findByText("Running now");
    expect(asked()).toBe(1);
    // Blender is named already.
    const named = () =>
      screen.getAllByRole("button", { name: /^Add ./, hidden: true }).map((one) => one.ariaLabel);
    expect(screen.queryByRole("button", { name: "Add blender", hidden: true })).toBeNull();
    expect(named().length).toBeGreaterThan(2);
    button("Add firefox").click();
    await vi.waitFor(() => expect(rules().programs).toEqual(["blender", "obs", "firefox"]));
    await vi.waitFor(() =>
      expect(screen.queryByRole("button", { name: "Add firefox", hidden: true })).toBeNull(),
    );
    await fireEvent.focus(window);
    await vi.waitFor(() => expect(asked()).toBe(2));
  });

  it("says so where the system does not tell what runs", async () => {
    await open("unseen");
    fine().open = true;
    await fireEvent(fine(), new Event("toggle"));
    await screen.findByText("What runs now is not reported here.");
  });
});

describe("the schedule", () => {
  it("has days, times and rows", async () => {
    await open("waiting");
    const hours = () => rules().schedule.hours;
    // Two at once: the second is worked out on what the first has left.
    button("Saturday").click();
    button("Sunday").click();
    await vi.waitFor(() =>
      expect(hours()[0]!.days).toEqual([true, true, true, true, true, false, false]),
    );
    expect(button("Sunday").getAttribute("aria-pressed")).toBe("false");
    const from = screen.getByLabelText<HTMLInputElement>("From");
    await fireEvent.input(from, { target: { value: "20:30" } });
    await fireEvent.blur(from);
    await vi.waitFor(() => expect(hours()[0]).toMatchObject({ from: 1230, to: 420 }));
    button("Add hours").click();
    await vi.waitFor(() => expect(hours().length).toBe(2));
    await vi.waitFor(() => button("Remove hours 2").click());
    await vi.waitFor(() => expect(hours().length).toBe(1));
  });

  it("cannot exclude all hours, and says why", { timeout: 20_000 }, async () => {
    await open("waiting");
    toggle("Only in these hours").click();
    await vi.waitFor(() => expect(rules().schedule.on).toBe(true));
    const days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    for (const day of days) button(day).click();
    // Seven changes, one after the other.
    await vi.waitFor(
      () =>
        expect(row("Only in these hours").textContent).toContain(
          "Not saved: With no day chosen the node would never work. Choose a day",
        ),
      { timeout: 10_000 },
    );
    expect(rules().schedule.hours[0]!.days).toEqual([
      false,
      false,
      false,
      false,
      false,
      false,
      true,
    ]);
    expect(button("Sunday").getAttribute("aria-pressed")).toBe("true");
  });
});
