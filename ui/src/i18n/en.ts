// English: the first language. Every other has exactly these keys.

import { en as earnings } from "../pages/earnings/words";
import { en as firstStart } from "../pages/first-start/words";
import { en as gpu } from "../pages/gpu/words";
import { en as home } from "../pages/home/words";
import { en as jobs } from "../pages/jobs/words";
import { en as models } from "../pages/models/words";
import { en as requirements } from "../pages/requirements/words";
import { en as settings } from "../pages/settings/words";
import { en as tryIt } from "../pages/try-it/words";

const shared = {
  "app.name": "Infera Node",
  "app.skip": "Skip to the content",
  "app.starting": "Starting…",

  "nav.label": "Pages",
  "nav.home": "Home",
  "nav.gpu": "GPU",
  "nav.requirements": "Requirements",
  "nav.earnings": "Earnings",
  "nav.jobs": "Jobs",
  "nav.models": "Models",
  "nav.try-it": "Try it",
  "nav.settings": "Settings",

  "connection.connected": "Online",
  "connection.reference": "Online, checking others",
  "connection.connecting": "Connecting…",
  "connection.disconnected": "Offline",
  "connection.refused": "Refused",
  "connection.none": "Not connected",
  "connection.lost": "Program does not answer",

  "lost.text": "This page has lost the program. What you see may be old; it is trying again.",
  "unauthorised.title": "This page needs its key",
  "unauthorised.text":
    "The program on this machine answers only to whoever holds the key that it printed at its start. This page has none, or an old one.",
  "unauthorised.remedy": "Open the address that this command prints:",
  "failure.title": "The program does not answer",
  "failure.meaning": "Nothing can be shown until it does. Your points and models are not affected.",
  "failure.remedy": "Check that Infera Node is running on this machine, then try again.",

  "state.working": "Working",
  "state.waiting": "Waiting",
  "state.paused": "Paused",
  "state.needs_you": "Needs you",
  "state.region": "State of the node",

  "summary.reading_hardware": "Reading your hardware",
  "summary.not_agreed": "Nothing is shared yet: you have not agreed",
  "summary.no_balancer": "Not getting jobs: no network is chosen",
  "summary.closing": "Closing",
  "summary.paused": "Paused by you",
  "summary.paused_until": "Paused by you until {time}",
  "summary.finishing": "Finishing the current job, then paused by you",
  "summary.finishing_until": "Finishing the current job, then paused by you until {time}",
  "summary.own_use": "Paused while you use the model yourself",
  "summary.outdated": "Not getting jobs: the network asks for another version of Infera Node",
  "summary.storage_fault": "Not getting jobs: the node cannot save its work",
  "summary.models_broken": "Not getting jobs: your model does not run",
  "summary.low_disk": "Not getting jobs: only {free} are free on the disk with the data folder",
  "summary.ram":
    "Not getting jobs: this machine has {found} of memory, this network asks for {need}",
  "summary.free_disk": "Not getting jobs: the disk has {found} free, this network asks for {need}",
  "summary.network":
    "Not getting jobs: your network’s speed is {found}, this network asks for {need}",
  "summary.no_gpu": "Not getting jobs: no GPU was found, this network asks for {need}",
  "summary.gpu": "Not getting jobs: your GPU is {found}, this network asks for {need}",
  "summary.after_job": "{sentence} (the current job is finished first)",
  "summary.no_model": "Not getting jobs: no model is chosen",
  "summary.unreachable": "Cannot reach {balancer}; trying again in {seconds} s",
  "summary.unreachable_now": "Cannot reach {balancer}; trying again",
  "summary.turned_away.identity_in_use":
    "Not getting jobs: another program works under this node’s identity",
  "summary.turned_away.too_much":
    "Not getting jobs: the network takes no more from your internet address now",
  "summary.loading": "Loading {model}: {percent}\u00a0%",
  "summary.tuning": "Tuning {model} for this GPU, once: {done} of {total}",
  "summary.restarting": "The model stopped by itself; starting it again in {seconds} s",
  "summary.not_served": "Not getting jobs: this network does not serve {models}",
  "summary.connecting": "Connecting to the network",
  "summary.waiting_for_jobs": "Waiting for jobs",
  "summary.waiting_for_audits": "Waiting for answers to check",
  "summary.jobs": { one: "Working on a job", other: "Working on {count} jobs" },
  "summary.audits": {
    one: "Checking another node’s answer",
    other: "Checking {count} answers of other nodes",
  },
  "summary.at_rate": "{what}: {rate}",

  "remedy.outdated": "Install the current version of Infera Node",
  "remedy.not_agreed": "Go through the first start",
  "remedy.no_balancer": "Enter a network’s address in the settings",
  "remedy.storage_fault":
    "Free some space or make the data folder writable; the node goes on by itself",
  "remedy.low_disk": "Free some space; the node goes on when {size} are free",
  "remedy.ram": "Add memory, or join a network that asks for less",
  "remedy.free_disk": "Free some space, or move the data folder to another disk",
  "remedy.network": "Use a wired connection, or close programs that download",
  "remedy.not_measured": "It could not be measured; jobs are not refused for it",
  "remedy.no_gpu":
    "Install the GPU’s driver if the machine has one; without a GPU this network sends no jobs",
  "remedy.gpu_memory_unknown":
    "The driver does not tell the GPU’s memory; jobs that do not fit will fail to load",
  "remedy.gpu_too_small":
    "This GPU is too small for this network; one that asks for less may take it",
  "remedy.no_model": "Choose a model",
  "remedy.models_broken": "Choose another model or device",
  "remedy.not_served": "Choose a model that the network serves",
  "remedy.cannot_start": "Mend what the details name, then start Infera Node again",
  "remedy.keychain_locked":
    "Unlock it and check again, or keep the key in a file: start Infera Node with --key-file FILE",
  "remedy.keychain_missing":
    "The key can be kept in a file instead: whoever can read your files could then work under this node’s name",
  "remedy.keychain_silent":
    "Unlock it and check again, or keep the key in a file: start Infera Node with --key-file FILE",
  "remedy.paused": "Resume whenever you like",
  "remedy.own_use": "End the chat or the measurement; jobs come again at once",
  "remedy.offline": "Check this machine’s internet connection; the node tries again by itself",
  "remedy.offline.address":
    "Check the address in the settings and this machine’s internet connection; the node tries again by itself",
  "remedy.offline.plain_http":
    "Write http:// for a network on this machine; of another, ask whoever runs it for TLS",
  "remedy.offline.certificate":
    "Ask whoever runs the network for its certificate, and start Infera Node with --ca-file FILE",
  "remedy.offline.failing": "Nothing to do: the node tries again by itself",
  "remedy.turned_away.identity_in_use":
    "End the other one, or give one of them a data folder and a key of its own. After a crash there is nothing to do: it tries again by itself",
  "remedy.turned_away.too_much":
    "Nothing to do: it tries again by itself. If you run many nodes here, end some",
  "remedy.model_loading": "Nothing to do: jobs come once it is loaded",
  "remedy.no_demand": "Nothing to do: your node stands ready and takes the next one",

  "requirement.ram": "Memory (RAM)",
  "requirement.free_disk": "Free disk space",
  "requirement.network": "Network speed",
  "requirement.gpu": "GPU",

  "amount.unknown": "unknown",
  "amount.none": "none",
  "amount.vram": "{size} of its own memory",
  "amount.vram_or_apple": "{size} of its own memory, or any Apple M-series GPU",
  "amount.gpu.vram": "{name} with {size}",
  "amount.gpu.unknown": "{name} with unknown memory",
  "amount.gpu.software": "{name} (software, not a GPU)",
  "amount.gpu.integrated": "{name} (shares the machine’s memory)",

  "start.other": "The node cannot start",
  "start.keychain_locked": "The keychain with this node’s key is locked",
  "start.keychain_missing": "This machine has no keychain for this node’s key",
  "start.keychain_silent": "The keychain with this node’s key does not answer",

  "unreachable.host_not_found": "No machine has the network’s name",
  "unreachable.nobody_listens": "Nothing answers at the network’s address",
  "unreachable.no_way": "This machine is not connected to the network’s address",
  "unreachable.too_slow": "The network does not answer",
  "unreachable.broken": "The connection to the network broke off",
  "unreachable.plain_http": "The network’s address speaks plain HTTP, and https:// is asked of it",
  "unreachable.certificate": "The network’s certificate is not trusted",
  "unreachable.failing": "The network has a fault of its own (status {status})",
  "unreachable.not_a_network": "Something else than a network answers there (status {status})",
  "unreachable.other": "The network cannot be reached",

  "obstacle.not_agreed": "You have not agreed to share yet",
  "obstacle.no_balancer": "No network is chosen",
  "obstacle.paused": "You have paused the node",
  "obstacle.paused_until": "You have paused the node until {time}",
  "obstacle.own_use": "You are using the GPU for a model of your own",
  "obstacle.turned_away.identity_in_use": "Another program works under this node’s identity",
  "obstacle.turned_away.too_much": "The network takes no more from your internet address now",
  "obstacle.outdated": "The network asks for another version of Infera Node",
  "obstacle.requirement": "{title}: found {found}, this network asks for {need}",
  "obstacle.storage_fault": "The node cannot save its work",
  "obstacle.low_disk": "Only {free} are free on the disk with the data folder",
  "obstacle.no_model": "No model is chosen",
  "obstacle.model_broken": "{model} does not run on this device",
  "obstacle.model_loading": "{model} is still being loaded",
  "obstacle.model_not_served": "The network does not serve {model}",
  "obstacle.no_demand": "The network has no work for this node right now",

  "obstacle.act.first_start": "Open the first start",
  "obstacle.act.settings": "Open settings",
  "obstacle.act.requirements": "See requirements",
  "obstacle.act.models": "Open models",
  "obstacle.act.try_it": "Open the chat",
  "obstacle.act.check": "Check again",
  "obstacle.act.key_file": "Keep the key in a file on this machine",
  "obstacle.act.resume": "Resume",

  "pause.pause": "Pause",
  "pause.resume": "Resume",
  "pause.menu": "More ways to pause",
  "pause.menu_paused": "Pause for another time",
  "pause.15min": "Snooze for 15 minutes",
  "pause.1h": "Snooze for 1 hour",
  "pause.4h": "Snooze for 4 hours",
  "pause.tomorrow": "Snooze until tomorrow",
  "pause.tomorrow_hint": "8 in the morning",
  "pause.finish": "Finish this job, then pause",
  "pause.now": "Pause now",
  "pause.untimed": "Pause until I resume",

  "points.today": "Today, confirmed and being checked",

  "unit.points": { one: "{points} point", other: "{points} points" },
  "unit.tokens": { one: "{count} token", other: "{count} tokens" },
  "unit.jobs": { one: "{count} job", other: "{count} jobs" },
  "unit.tokens_per_second": "{rate} tokens/s",
  "unit.tokens_per_second_short": "tokens/s",
  "unit.per_second": "{size}/s",
  "unit.percent": "{value}\u00a0%",

  "verdict.verified": "Verified",
  "verdict.sampled_out": "Not drawn for a check",
  "verdict.pending": "Being checked",
  "verdict.failed": "Failed the check",
  "kind.audit": "Check",

  "explain.vram": "The GPU’s own memory. A model must fit into it to answer fast.",
  "explain.token": "A piece of a word: what a model reads and writes. About four letters.",
  "explain.verified": "Reference nodes computed the same answer again and found no difference.",
  "explain.sampled_out":
    "Not every job is checked again: a lottery draws some. Those not drawn are paid in full.",
  "explain.points": "What a job earns. They count as confirmed once the job has been checked.",

  "error.details": "Details",
  "error.copy": "Copy",
  "error.copied": "Copied",
  "error.failed": "That did not work",
  "error.malformed": "The program did not understand that",
  "error.not_found": "That is not there any more",
  "error.precondition": "That cannot be done now",
  "error.storage": "Something went wrong on the disk",
  "error.ended": "The program is ending",
  "error.unauthorised": "This page may not ask for that",
  "error.unreachable": "The program does not answer",
  "error.try_again": "Try again",
  "dialog.close": "Close",
  "toast.dismiss": "Dismiss",
  "toast.label": "Messages",

  "chart.summary": "Now {now}, mean {mean}, highest {highest}",
  "chart.empty": "No readings yet",
  "chart.ago": "{minutes} min",
  "chart.now": "now",
  "chart.none": "no reading",
  "table.sort": "Sort by {column}",
} as const;

export const en = {
  ...shared,
  ...home,
  ...firstStart,
  ...gpu,
  ...requirements,
  ...earnings,
  ...jobs,
  ...models,
  ...tryIt,
  ...settings,
} as const;

export type SharedWords = typeof shared;
export type Words = typeof en;
export type Key = keyof Words;
