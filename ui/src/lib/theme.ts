// Light or dark: what the settings say, else what the system says.

import type { Theme } from "../platform/types";

const dark = "(prefers-color-scheme: dark)";

/** Keeps the page's theme until what it returns is called. */
export function applyTheme(theme: Theme): () => void {
  const system = matchMedia(dark);
  const apply = () => {
    const shown = theme === "system" ? (system.matches ? "dark" : "light") : theme;
    document.documentElement.dataset["theme"] = shown;
    document.dispatchEvent(new CustomEvent("themechange"));
  };
  apply();
  system.addEventListener("change", apply);
  return () => system.removeEventListener("change", apply);
}
