// Builds the playground into ../static, from where `graph/routes/playground.py` serves it.
import path from 'node:path'

import { defineConfig } from 'vite'

import { licenses } from './licenses.mjs'

const here = (name) => path.join(import.meta.dirname, name)
const bundled = new Set() // package folders, filled by the page's build and by those of the workers

export default defineConfig({
  base: '/playground/',
  plugins: [licenses(bundled, { write: true })],
  worker: { format: 'es', plugins: () => [licenses(bundled)] },
  resolve: {
    alias: [
      { find: 'monaco-editor/esm/vs/editor/edcore.main.js', replacement: here('editor_core.js') },
      { find: /^prettier\/(plugins\/estree|parser-babel)$/, replacement: here('json_format.js') },
    ],
  },
  build: {
    outDir: here('../static'),
    emptyOutDir: true,
    sourcemap: false,
    chunkSizeWarningLimit: 3000, // kB; the editor is that large
    rolldownOptions: {
      onLog(level, log, report) {
        if (log.code !== 'MODULE_LEVEL_DIRECTIVE') report(level, log) // "use client" means nothing without a server
      },
    },
  },
})
