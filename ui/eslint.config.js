import svelte from "eslint-plugin-svelte";
import globals from "globals";
import ts from "typescript-eslint";
import svelteConfig from "./svelte.config.js";

const tauriOnlyAtTheBorder = {
  patterns: [
    { group: ["@tauri-apps/*"], message: "Only src/platform/tauri.ts may know of Tauri." },
  ],
  paths: [{ name: "bits-ui", message: "Import one primitive by its alias (vite.config.ts)." }],
};

export default ts.config(
  { ignores: ["dist", "dist-balancer", "node_modules", "src/platform/bindings.ts"] },
  ...ts.configs.recommended,
  ...svelte.configs.recommended,
  {
    languageOptions: { globals: globals.browser },
    rules: {
      "no-restricted-imports": ["error", tauriOnlyAtTheBorder],
      "no-console": "error",
      eqeqeq: ["error", "smart"],
      // tsc does, and knows more.
      "no-undef": "off",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      // The router is a hash; there is no resolve() without SvelteKit.
      "svelte/no-navigation-without-resolve": "off",
      // What is reactive is marked with $state; the rest is meant to be plain.
      "svelte/prefer-svelte-reactivity": "off",
    },
  },
  {
    files: ["**/*.svelte", "**/*.svelte.ts"],
    languageOptions: { parserOptions: { parser: ts.parser, svelteConfig } },
  },
  { files: ["src/platform/tauri.ts"], rules: { "no-restricted-imports": "off" } },
);
