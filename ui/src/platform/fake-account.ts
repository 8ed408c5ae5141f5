// An account with machines and keys, for the backend in memory.

import type {
  AccountBackup,
  AccountKeyRow,
  AccountState,
  Machine,
  NodeSnapshot,
  Spending,
} from "./types";

const DAY_MS = 86_400_000;
const ACCOUNT = "a7c31e0f5b9d42688f1c07d3e6b25a9041fd8c7236ab90e5174dc2f86b03e951";

export function fakeAccount(holds_key: boolean): AccountState {
  return { id: ACCOUNT, holds_key, linked: true };
}

const words =
  "orbit velvet canyon harvest spoon drift amber lawn ticket ocean rural swing pepper island quote marble festival gentle wagon copper mirror anchor lunar bridge";

export const fakeBackup: AccountBackup = {
  words: words.split(" "),
  file_name: "infera-account-a7c31e0f.txt",
  text: `# Infera Node: backup of the account ${ACCOUNT}\n\n${words}\n`,
};

export function fakeKeys(now: number): AccountKeyRow[] {
  return [
    {
      name: "notes",
      daily_limit: 50_000_000,
      route: "trusted",
      spent: 1_284_300_000,
      spent_today: 12_400_000,
      created_ms: now - 40 * DAY_MS,
      revoked_ms: null,
    },
    {
      name: "editor",
      daily_limit: null,
      route: "any",
      spent: 412_750_000,
      spent_today: 31_050_000,
      created_ms: now - 12 * DAY_MS,
      revoked_ms: null,
    },
    {
      name: "old-laptop",
      daily_limit: 10_000_000,
      route: "any",
      spent: 88_000_000,
      spent_today: 0,
      created_ms: now - 70 * DAY_MS,
      revoked_ms: now - 30 * DAY_MS,
    },
  ];
}

export function fakeSpending(now: number, days: number): Spending[] {
  const today = Math.floor(now / DAY_MS) * DAY_MS;
  const rows = Array.from({ length: Math.min(days, 6) }, (_, day) => [
    { key: "editor", requests: 31 - day * 3, micro: 31_050_000 - day * 4_200_000 },
    { key: "notes", requests: 9 + day, micro: 12_400_000 + day * 850_000 },
  ]);
  return rows.flatMap((keys, day) =>
    keys.map((row) => ({ ...row, day_ms: today - day * DAY_MS, model: "llama-3.2-3b" })),
  );
}

export function thisMachine(node: NodeSnapshot, name: string): Machine {
  return {
    node: node.node,
    report: {
      name,
      software: "infera 0.1.0",
      takes_commands: false,
      devices: [
        {
          name: "NVIDIA GeForce RTX 4070",
          tokens_per_second: node.work.length > 0 ? 42 : 0,
        },
      ],
    },
    here: true,
    paused: node.decision.reason === null ? null : node.state.sentence,
    running: node.work.length,
    verified: 3904,
    points: node.points ?? { confirmed: 0, pending: 0, forfeited: 0 },
    last_seen_ms: null,
  };
}

export function otherMachines(now: number): Machine[] {
  return [
    {
      node: "41b07c9e".padEnd(64, "5"),
      report: {
        name: "rack-1",
        software: "infera 0.1.0",
        takes_commands: true,
        devices: [
          { name: "NVIDIA RTX 4090", tokens_per_second: 96 },
          { name: "NVIDIA RTX 4090", tokens_per_second: 91 },
          { name: "NVIDIA RTX 4090", tokens_per_second: 0 },
          {
            name: "NVIDIA RTX 4090",
            paused: "Waiting: the GPU is hot",
            tokens_per_second: 0,
          },
        ],
      },
      here: true,
      paused: null,
      running: 5,
      verified: 21_330,
      points: { confirmed: 2_841_200_000, pending: 12_000_000, forfeited: 0 },
      last_seen_ms: null,
    },
    {
      node: "c82d4410".padEnd(64, "7"),
      report: {
        name: "attic",
        software: "infera 0.1.0",
        takes_commands: false,
        devices: [{ name: "AMD Radeon RX 7800 XT", tokens_per_second: 0 }],
      },
      here: false,
      paused: null,
      running: 0,
      verified: 870,
      points: { confirmed: 206_900_000, pending: 0, forfeited: 3_000_000 },
      last_seen_ms: now - 9 * 3_600_000,
    },
  ];
}
