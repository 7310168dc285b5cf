// A plugin of Vite that writes the licences of all bundled packages to LICENSES.txt, beside the files they are in.
import fs from 'node:fs'
import path from 'node:path'

// Published without a licence file; these come from the same repository.
const SAME_REPOSITORY = {
  '@graphiql/plugin-doc-explorer': 'graphiql',
  '@graphiql/plugin-history': 'graphiql',
  'react-compiler-runtime': 'react',
  'react-remove-scroll-bar': 'react-remove-scroll',
}

export function licenses(bundled, { write = false } = {}) {
  return {
    name: 'licenses',
    generateBundle(_options, bundle) {
      for (const chunk of Object.values(bundle)) {
        for (const id of chunk.moduleIds ?? []) {
          const folder = packageFolder(id)
          if (folder) bundled.add(folder)
        }
      }
      if (write) this.emitFile({ type: 'asset', fileName: 'LICENSES.txt', source: report([...bundled]) })
    },
  }
}

function packageFolder(id) {
  return /^\0?(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1]
}

function report(folders) {
  const packages = folders.map((folder) => ({ folder, ...readJson(path.join(folder, 'package.json')) }))
  packages.sort((a, b) => (a.name < b.name ? -1 : 1))
  const introduction = 'The playground of Runwire contains the following packages, under the licences given with each.\n'
  return introduction + packages.map(entry).join('')
}

function entry({ folder, name, version, license }) {
  const texts = [...textsOf(folder, /^licen[sc]e/i), ...textsOf(folder, /^(notice|third-?party)/i)]
  if (texts.length === 0) {
    const sibling = SAME_REPOSITORY[name]
    if (!sibling) throw new Error(`${name} has no licence file; say in licenses.mjs where its licence is`)
    texts.push(...textsOf(path.join(import.meta.dirname, 'node_modules', sibling), /^licen[sc]e/i))
  }
  return `\n${'='.repeat(100)}\n${name} ${version} (${license})\n${'-'.repeat(100)}\n\n${texts.join('\n\n')}\n`
}

function textsOf(folder, pattern) {
  return fs
    .readdirSync(folder)
    .filter((name) => pattern.test(name))
    .sort()
    .map((name) => fs.readFileSync(path.join(folder, name), 'utf8').replace(/\r\n/g, '\n').replace(/[ \t]+$/gm, '').trim())
}

function readJson(file) {
  return JSON.parse(fs.readFileSync(file, 'utf8'))
}
