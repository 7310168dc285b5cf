// "Prettify" for the variables and headers editors. GraphiQL asks prettier to format JSON, which would add half a
// megabyte of JavaScript grammar to the bundle; this plugin of prettier answers with jsonc-parser, which is there
// already. It stands in for both `prettier/plugins/estree` and `prettier/parser-babel` (see vite.config.mjs).
import { applyEdits, format } from 'jsonc-parser'

const options = { insertSpaces: true, tabSize: 2, eol: '\n' }

export const parsers = {
  jsonc: {
    astFormat: 'json-text',
    parse: (text) => ({ text, start: 0, end: text.length }),
    locStart: (node) => node.start,
    locEnd: (node) => node.end,
  },
}

export const printers = {
  'json-text': { print: (path) => applyEdits(path.node.text, format(path.node.text, undefined, options)) },
}
