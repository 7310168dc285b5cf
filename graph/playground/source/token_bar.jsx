// The bar on top: who asks, and what the socket does.
import { useState } from 'react'

import { socketState } from './socket.js'
import { useStore } from './store.js'
import { keepToken, token } from './token.js'

export function TokenBar() {
  const kept = useStore(token)
  return (
    <header className="bar">
      <h1>Runwire</h1>
      <TokenForm key={kept} kept={kept} />
      <Socket />
    </header>
  )
}

function TokenForm({ kept }) {
  const [typed, setTyped] = useState(kept)
  const [visible, setVisible] = useState(false)
  const submit = (event) => {
    event.preventDefault()
    keepToken(typed)
  }
  return (
    <form onSubmit={submit}>
      <label htmlFor="token">Token</label>
      <input
        id="token"
        type={visible ? 'text' : 'password'}
        value={typed}
        onChange={(event) => setTyped(event.target.value)}
        onBlur={() => keepToken(typed)}
        placeholder="access token or API key, or run SignIn"
        autoComplete="off"
        spellCheck={false}
      />
      <button type="button" onClick={() => setVisible(!visible)} aria-pressed={visible}>
        {visible ? 'Hide' : 'Show'}
      </button>
      <button type="button" onClick={() => keepToken('')} disabled={!kept}>
        Forget
      </button>
      <span className="hint" data-testid="token-state">
        {kept ? 'Sent as Bearer with each request and socket; kept in this tab only.' : 'Nobody is signed in.'}
      </span>
    </form>
  )
}

function Socket() {
  const { state, words } = useStore(socketState)
  return (
    <p className="socket" data-state={state} role="status" title={words}>
      Socket: {words}
    </p>
  )
}
