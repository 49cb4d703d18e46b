/// Builds the page into dist/, which the coordinator's binary embeds: relative addresses, and nothing inlined, so that
/// it works below any path and under `default-src 'self'`.

import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: false,
    // The MQTT library is the bulk of the page; it changes seldom, so it is a file of its own that browsers keep.
    rollupOptions: { output: { manualChunks: (id) => (id.includes("node_modules/mqtt") ? "mqtt" : undefined) } },
  },
});
