// Puts the playground together: GraphiQL, the token, the socket and the examples.
import './workers.js'
import '@graphiql/react/style.css'
import '@graphiql/plugin-doc-explorer/style.css'
import '@graphiql/plugin-history/style.css'
import 'graphiql/graphiql.css'
import './style.css'

import { GraphiQL } from 'graphiql'
import { useMemo } from 'react'
import { createRoot } from 'react-dom/client'

import { loadExamples } from './examples.js'
import { createFetcher } from './fetcher.js'
import { MessageList } from './message_list.jsx'
import { isFirstVisit, storage } from './storage.js'
import { useStore } from './store.js'
import { SystemTheme } from './system_theme.jsx'
import { takeTokenFromAddress, token } from './token.js'
import { TokenBar } from './token_bar.jsx'

function Playground({ examples, first }) {
  const kept = useStore(token)
  const fetcher = useMemo(() => createFetcher(kept), [kept]) // GraphiQL reads the schema again with a new fetcher
  return (
    <>
      <TokenBar />
      <GraphiQL
        fetcher={fetcher}
        defaultTabs={examples.length > 0 ? examples : undefined}
        initialQuery={first?.query}
        initialVariables={first?.variables ?? undefined}
        defaultEditorToolsVisibility="variables"
        inputValueDeprecation
        schemaDescription
        shouldPersistHeaders={false}
        storage={storage}
      >
        <GraphiQL.Logo>{''}</GraphiQL.Logo>
        <GraphiQL.Footer>
          <SystemTheme />
          <MessageList />
        </GraphiQL.Footer>
      </GraphiQL>
    </>
  )
}

takeTokenFromAddress()
window.addEventListener('hashchange', takeTokenFromAddress)

const examples = await loadExamples()
// Of a default tab GraphiQL shows the query but not the variables, unless both are also the initial ones. After a
// reload they would open one more tab, so they are given once.
const first = isFirstVisit() ? examples[0] : undefined
createRoot(document.getElementById('root')).render(<Playground examples={examples} first={first} />)
