// @vitest-environment node

import { describe, expect, it } from "vitest";
import { refused } from "../platform/fake";
import { locale } from "../i18n/index.svelte";
import { smallGpu } from "../platform/fake-data";
import type { State, Summary } from "../platform/types";
import {
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
