import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { svelteTesting } from "@testing-library/svelte/vite";
import tailwindcss from "@tailwindcss/vite";
import { defineConfig } from "vitest/config";

export default defineConfig(({ mode }) => ({
  // Relative paths hold under tauri://localhost and under the program's own port.
  base: "./",
  plugins: [svelte(), mode === "test" ? svelteTesting({ autoCleanup: false }) : tailwindcss()],
  define: {
    __FAKE__: JSON.stringify(
      !["production", "balancer"].includes(mode) || process.env["VITE_FAKE"] === "1",
    ),
  },
  resolve: {
    alias: {
      // The package's one entry loads all of its sixty primitives.
      "bits-ui/menu": fileURLToPath(
        new URL("node_modules/bits-ui/dist/bits/dropdown-menu/exports.js", import.meta.url),
      ),
    },
  },
  server: { port: 1420, strictPort: true },
  build: {
    // The balancer's own pages are programs from the same workshop.
    ...(mode === "balancer" && {
      outDir: "dist-balancer",
      rolldownOptions: { input: ["balancer.html", "operator.html"] },
    }),
    target: "safari16",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  test: {
    environment: "jsdom",
    include: ["src/**/*.test.ts"],
    setupFiles: ["src/test/setup.ts"],
  },
}));
