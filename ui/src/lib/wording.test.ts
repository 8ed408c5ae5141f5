// @vitest-environment node

import { describe, expect, it } from "vitest";
import { refused } from "../platform/fake";
import { locale } from "../i18n/index.svelte";
import { smallGpu } from "../platform/fake-data";
import type { State, Summary, Why } from "../platform/types";
import {
  historySentence,
  obstacleDetails,
  obstacleMending,
  obstacleRemedy,
  obstacleSentence,
  refusalWords,
  modelFaultSentence,
  stateRemedy,
  stateSentence,
  steadySentence,
} from "./wording";

const now = new Date(2026, 10, 22, 12).getTime();
const six = new Date(2026, 10, 22, 18).getTime();

const state = (summary: Summary): State => ({
  kind: "waiting",
  sentence: "as the program says it",
  remedy: null,
  summary,
});

describe("the state's sentence", () => {
  it.each<[Summary, string, string]>([
    [
      { summary: "working", jobs: 1, audits: 0, tokens_per_second: 42.3 },
      "Working on a job: 42 tokens/s",
      "Arbeitet an einem Auftrag: 42 Token/s",
    ],
    [
      { summary: "working", jobs: 3, audits: 1, tokens_per_second: null },
      "Working on 3 jobs",
      "Arbeitet an 3 Aufträgen",
    ],
    [
      { summary: "working", jobs: 0, audits: 1, tokens_per_second: null },
      "Checking another node’s answer",
      "Prüft die Antwort eines anderen Knotens",
    ],
    [
      { summary: "paused", until_ms: null, finishing: false },
      "Paused by you",
      "Von Ihnen pausiert",
    ],
    [
      { summary: "paused", until_ms: six, finishing: true },
      "Finishing the current job, then paused by you until 18:00",
      "Beendet den laufenden Auftrag, dann von Ihnen pausiert bis 18:00",
    ],
    [
      { summary: "unreachable", balancer: "net.example", retry_at_ms: now + 4200 },
      "Cannot reach net.example; trying again in 5 s",
      "net.example ist nicht erreichbar; neuer Versuch in 5 s",
    ],
    [
      { summary: "storage_fault", message: "database disk image is malformed" },
      "Not getting jobs: the node cannot save its work",
      "Keine Aufträge: Der Knoten kann seine Arbeit nicht speichern",
    ],
    [
      {
        summary: "restarting",
        fault: { cause: "ended", message: "exit status 139" },
        retry_in_ms: 4000,
      },
      "The model stopped by itself; starting it again in 4 s",
      "Das Modell ist stehen geblieben; neuer Start in 4 s",
    ],
    [
      { summary: "turned_away", why: "identity_in_use" },
      "Not getting jobs: another program works under this node’s identity",
      "Keine Aufträge: Ein anderes Programm arbeitet unter der Identität dieses Knotens",
    ],
    [
      { summary: "requirement_failed", requirement: smallGpu, finishing: false },
      "Not getting jobs: your GPU is NVIDIA GeForce GTX 1660 with 6\u00a0GB, this network asks for 8\u00a0GB of its own memory, or any Apple M-series GPU",
      "Keine Aufträge: Ihre GPU ist NVIDIA GeForce GTX 1660 mit 6\u00a0GB, das Netzwerk verlangt 8\u00a0GB VRAM oder eine Apple-GPU der M-Reihe",
    ],
  ])("of %j", (summary, english, german) => {
    locale.choose("en", ["en-GB"]);
    expect(stateSentence(state(summary), now)).toBe(english);
    locale.choose("de", ["de-DE"]);
    expect(stateSentence(state(summary), now)).toBe(german);
  });

  it("is the program's own where this page does not know the state", () => {
    const newer = { summary: "dancing" } as unknown as Summary;
    expect(stateSentence(state(newer), now)).toBe("as the program says it");
  });

  it("holds still where it is spoken", () => {
    locale.choose("en", []);
    const working: Summary = { summary: "working", jobs: 1, audits: 0, tokens_per_second: 42 };
    expect(steadySentence(state(working), now)).toBe("Working on a job");
    const loading: Summary = { summary: "loading", model: "x", percent: 12 };
    expect(steadySentence(state(loading), now)).toBe("Waiting");
    const tuning: Summary = { summary: "tuning", model: "x", done: 2, total: 6 };
    expect(steadySentence(state(tuning), now)).toBe("Waiting");
    expect(stateSentence(state(tuning), now)).toBe("Tuning x for this GPU, once: 2 of 6");
  });
});

describe("an owner's rule", () => {
  const rule = (why: Why, goes_on_ms: number | null = null): Summary => ({
    summary: "rule",
    why,
    goes_on_ms,
  });
  const GB = 2 ** 30;

  it.each<[Why, string, string, string]>([
    [
      { why: "sleep" },
      "Paused: the machine is going to sleep",
      "Pausiert: Der Rechner geht in den Ruhezustand",
      "Paused: the machine went to sleep",
    ],
    [
      { why: "game", name: "Hades" },
      "Paused: Hades is running. Goes on when it closes",
      "Pausiert: Hades läuft. Geht weiter, sobald es beendet ist",
      "Paused: Hades was running",
    ],
    [
      { why: "program", name: "blender" },
      "Paused: blender is running. Goes on when it closes",
      "Pausiert: blender läuft. Geht weiter, sobald es beendet ist",
      "Paused: blender was running",
    ],
    [
      { why: "full_screen", name: "mpv" },
      "Paused: mpv fills the screen. Goes on when it no longer does",
      "Pausiert: mpv füllt den Bildschirm. Geht weiter, sobald das vorbei ist",
      "Paused: mpv filled the screen",
    ],
    [
      { why: "low_memory", available_bytes: 0.6 * GB, resume_above_bytes: 1.5 * GB },
      "Paused: other programs need the memory, 0.6\u00a0GB are left. Goes on when 1.5\u00a0GB are free",
      "Pausiert: Andere Programme brauchen den Arbeitsspeicher, 0,6\u00a0GB sind übrig. Geht weiter, sobald 1,5\u00a0GB frei sind",
      "Paused: other programs needed the memory",
    ],
    [
      { why: "battery", percent: 63 },
      "Paused: on battery (63\u00a0% left). Goes on with mains power",
      "Pausiert: Akkubetrieb (noch 63\u00a0%). Geht mit Netzstrom weiter",
      "Paused: on battery",
    ],
    [
      { why: "battery", percent: null },
      "Paused: on battery. Goes on with mains power",
      "Pausiert: Akkubetrieb. Geht mit Netzstrom weiter",
      "Paused: on battery",
    ],
    [
      { why: "low_battery", resume_percent: 25 },
      "Paused: the battery is low. Goes on at 25\u00a0%",
      "Pausiert: Der Akku ist fast leer. Geht bei 25\u00a0% weiter",
      "Paused: the battery was low",
    ],
    [
      { why: "gpu_busy" },
      "Paused: other programs use the GPU. Goes on when they no longer do",
      "Pausiert: Andere Programme nutzen die GPU. Geht weiter, sobald sie es nicht mehr tun",
      "Paused: other programs used the GPU",
    ],
    [
      { why: "gpu_memory", resume_above_bytes: 4.5 * GB },
      "Paused: other programs need the GPU’s memory. Goes on when 4.5\u00a0GB are free",
      "Pausiert: Andere Programme brauchen den Speicher der GPU. Geht weiter, sobald 4,5\u00a0GB frei sind",
      "Paused: other programs needed the GPU’s memory",
    ],
    [
      { why: "gpu_hot", resume_celsius: 75 },
      "Paused: the GPU is hot. Goes on at 75\u00a0°C",
      "Pausiert: Die GPU ist heiß. Geht bei 75\u00a0°C weiter",
      "Paused: the GPU was hot",
    ],
    [
      { why: "in_use", minutes: 10, remote: false },
      "Paused while you use this machine. Goes on after 10\u00a0min without keyboard, mouse or gamepad",
      "Pausiert, solange Sie diesen Rechner benutzen. Geht nach 10\u00a0min ohne Tastatur, Maus oder Gamepad weiter",
      "Paused while you used this machine",
    ],
    [
      { why: "in_use", minutes: 10, remote: true },
      "Paused: somebody uses this machine from afar. Goes on when they have left",
      "Pausiert: Jemand benutzt diesen Rechner aus der Ferne. Geht weiter, sobald die Verbindung getrennt ist",
      "Paused: somebody used this machine from afar",
    ],
    [
      { why: "hours", opens_ms: six },
      "Paused by your schedule until 18:00",
      "Nach Ihrem Zeitplan pausiert bis 18:00",
      "Paused by your schedule",
    ],
    [
      { why: "hours", opens_ms: null },
      "Paused: your schedule excludes all hours",
      "Pausiert: Ihr Zeitplan schließt alle Stunden aus",
      "Paused: your schedule excluded all hours",
    ],
  ])("says of %j why, until when, and what it was", (why, english, german, past) => {
    locale.choose("de", ["de-DE"]);
    expect(stateSentence(state(rule(why)), now)).toBe(german);
    locale.choose("en", ["en-GB"]);
    expect(stateSentence(state(rule(why)), now)).toBe(english);
    expect(historySentence(rule(why), now)).toBe(past);
    // No text is left with braces in it.
    for (const language of ["en", "de"]) {
      locale.choose(language, []);
      for (const goes_on_ms of [null, now + 9000]) {
        const obstacle = { obstacle: "rule", why, goes_on_ms } as const;
        const said = [
          obstacleSentence(obstacle, now),
          obstacleRemedy(obstacle),
          stateSentence(state(rule(why, goes_on_ms)), now),
          historySentence(rule(why, goes_on_ms), now),
        ].join();
        expect(said).not.toMatch(/[{}]|null|undefined/);
      }
    }
  });

  it("counts down once its reason is gone, but not where it is spoken or past", () => {
    const over = rule({ why: "game", name: "Hades" }, now + 11_200);
    locale.choose("en", []);
    expect(stateSentence(state(over), now)).toBe("Going on in 12\u00a0s: Hades has closed");
    expect(stateSentence(state(over), now + 20_000)).toBe("Going on in a moment: Hades has closed");
    expect(steadySentence(state(over), now)).toBe("Going on in a moment: Hades has closed");
    locale.choose("de", []);
    expect(stateSentence(state(over), now)).toBe("Geht in 12\u00a0s weiter: Hades ist beendet");
    const power = rule({ why: "battery", percent: null }, now + 3000);
    expect(stateSentence(state(power), now)).toBe(
      "Geht in 3\u00a0s weiter: Der Netzstrom ist wieder da",
    );
  });

  it("may be overruled, but for sleep; an empty schedule is mended in the settings", () => {
    const mending = (why: Why) => obstacleMending({ obstacle: "rule", why, goes_on_ms: null });
    expect(mending({ why: "game", name: "Hades" })).toMatchObject({ act: "anyway" });
    expect(mending({ why: "sleep" })).toBeNull();
    expect(mending({ why: "hours", opens_ms: null })).toMatchObject({ page: "settings" });
    locale.choose("en", []);
    expect(stateRemedy(state(rule({ why: "hours", opens_ms: null })))).toBe(
      "Choose hours in the settings, or another rule",
    );
    expect(stateRemedy(state(rule({ why: "game", name: "Hades" })))).toBeNull();
  });

  it("is refused in words where it would let nothing through", () => {
    locale.choose("en", []);
    expect(refusalWords(refused({ why: "no_hours" }))).toMatchObject({
      title: "With no day chosen the node would never work",
      text: "Choose a day, or switch the schedule off",
    });
    expect(refusalWords(refused({ why: "away_minutes", asked: 0, most: 1440 }))).toMatchObject({
      title: "0 minutes are not possible",
      text: "Choose between 1 and 1,440",
    });
  });
});

describe("what was", () => {
  it.each<[Summary, string]>([
    [
      { summary: "working", jobs: 0, audits: 1, tokens_per_second: null },
      "Checking other nodes’ answers",
    ],
    [{ summary: "paused", until_ms: six, finishing: true }, "Paused by you"],
    [{ summary: "loading", model: "x", percent: 0 }, "Loading x"],
    [{ summary: "tuning", model: "x", done: 0, total: 0 }, "Tuning x for this GPU"],
    [
      { summary: "unreachable", balancer: "net.example", retry_at_ms: 0 },
      "net.example could not be reached",
    ],
    [
      { summary: "requirement_failed", requirement: smallGpu, finishing: true },
      "Not getting jobs: your GPU is NVIDIA GeForce GTX 1660 with 6\u00a0GB, this network asks for 8\u00a0GB of its own memory, or any Apple M-series GPU",
    ],
    [{ summary: "connecting" }, "Connecting to the network"],
  ])("of %j", (summary, words) => {
    locale.choose("en", ["en-GB"]);
    expect(historySentence(summary, now)).toBe(words);
  });
});

describe("what to do", () => {
  it("comes with the state and with each obstacle", () => {
    locale.choose("en", []);
    const failed: Summary = {
      summary: "requirement_failed",
      requirement: smallGpu,
      finishing: false,
    };
    expect(stateRemedy(state(failed))).toBe(
      "This GPU is too small for this network; one that asks for less may take it",
    );
    expect(stateRemedy(state({ summary: "waiting_for_jobs" }))).toBeNull();
    expect(obstacleSentence({ obstacle: "paused", until_ms: null }, now)).toBe(
      "You have paused the node",
    );
  });
});

describe("what the program refuses", () => {
  const broken = refused(
    { why: "history", cause: "damaged", detail: "file is not a database (code: 26)" },
    "node.sqlite is damaged: file is not a database (code: 26)",
  );
  const tooLarge = refused({ why: "model_too_large", model: "m", missing_bytes: 2 ** 30 }, "m: …");

  it("is said in the chosen language, with what to do", () => {
    expect(refusalWords(tooLarge)).toEqual({
      title: "m needs 1\u00a0GB more GPU memory than there is",
      text: "Choose a smaller model, another device, or a smaller reserve in the settings",
      details: null,
    });
    locale.choose("de", []);
    expect(refusalWords(tooLarge).title).toBe("m braucht 1\u00a0GB mehr GPU-Speicher, als da ist");
    locale.choose("en", []);
  });

  it("keeps a library's words for a report", () => {
    expect(refusalWords(broken)).toEqual({
      title: "The job history is damaged; your points are safe at the network",
      text: null,
      details: broken.message,
    });
  });

  it("says why a model does not run", () => {
    const fault = { cause: "unsupported", message: "x.gguf has the architecture mamba" } as const;
    expect(refusalWords(refused({ why: "model_broken", model: "x", fault }, "…"))).toEqual({
      title: "x does not run: this program cannot run this kind of model yet",
      text: "Choose another model or device",
      details: "…",
    });
    expect(modelFaultSentence(fault)).toBe("This program cannot run this kind of model yet");
  });
});

describe("an obstacle", () => {
  it("has its own words for each cause, and the library's for a report", () => {
    const offline = { obstacle: "offline", reason: { why: "not_a_network", status: 404 } } as const;
    expect(obstacleSentence(offline, 0)).toContain("status 404");
    expect(obstacleRemedy(offline)).toContain("address");
    expect(obstacleDetails(offline)).toBeNull();
    const reason = { why: "certificate", detail: "UnknownIssuer" } as const;
    const untrusted = { obstacle: "offline", reason } as const;
    expect(obstacleSentence(untrusted, 0)).not.toContain("UnknownIssuer");
    expect(obstacleRemedy(untrusted)).toContain("--ca-file");
    expect(obstacleDetails(untrusted)).toBe("UnknownIssuer");
  });

  it("offers a file for the key only where there is no keychain", () => {
    const mending = (fault: "keychain_missing" | "keychain_locked") =>
      obstacleMending({ obstacle: "cannot_start", fault: { fault } });
    expect(mending("keychain_missing")).toMatchObject({ act: "key_file" });
    expect(mending("keychain_locked")).toMatchObject({ act: "check" });
  });
});
