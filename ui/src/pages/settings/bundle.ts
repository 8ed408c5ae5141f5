// The one file that a support bundle is saved as.

import type { BundleFile } from "../../platform/types";

export function bundleText(files: readonly BundleFile[]): string {
  return files.map(({ name, text }) => `===== ${name} =====\n${text.trimEnd()}\n`).join("\n");
}

export function bundleName(now: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  return `infera-node-support-${day}.txt`;
}
