// The bearer token of this browser tab: an access token or an API key. It lives in sessionStorage and nowhere else.
import { createStore } from './store.js'

const KEY = 'runwire:token'

export const token = createStore(sessionStorage.getItem(KEY) ?? '')

export function keepToken(text) {
  const value = text.trim().replace(/^bearer\s+/i, '')
  if (value) sessionStorage.setItem(KEY, value)
  else sessionStorage.removeItem(KEY)
  if (value !== token.get()) token.set(value)
}

/**
 * Take over a token handed in as `/playground#token=…`, and wipe it from the address and its history entry.
 * A fragment never leaves the browser, so it reaches no server and no log.
 */
export function takeTokenFromAddress() {
  const handedOver = new URLSearchParams(location.hash.slice(1)).get('token')
  if (handedOver === null) return
  history.replaceState(history.state, '', location.pathname + location.search)
  keepToken(handedOver)
}
