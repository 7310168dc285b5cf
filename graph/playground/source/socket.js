// Subscriptions over one WebSocket (graphql-transport-ws) per credential. It opens with the first and closes after the last.
import { createClient } from 'graphql-ws'

import { isClose, isFailure, problemOfStream, wordsOfClose } from './problems.js'
import { createStore } from './store.js'
import { token } from './token.js'

/** What the socket does at the moment: `{ state: 'idle' | 'opening' | 'open' | 'waiting' | 'refused', words }`. */
export const socketState = createStore({ state: 'idle', words: 'no subscription yet' })

token.watch(() => {
  if (socketState.get().state === 'refused') show('idle', 'no subscription with this token yet')
})

const REFUSALS = new Set([4400, 4401, 4403, 4406, 4408, 4409, 4429])
const BUSY = 1013 // its reason is the number of seconds to wait

/** A client whose `connection_init` carries the credential as `{"authorization": "Bearer …"}`. */
export function createSocket(authorization) {
  let lastClose = null
  return createClient({
    url: `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/graphql`,
    connectionParams: authorization ? { authorization } : undefined,
    connectionAckWaitTimeout: 15_000,
    retryAttempts: 30,
    retryWait: (attempt) => pause(waitMs(attempt, lastClose)),
    shouldRetry: (cause) => isFailure(cause) || (isClose(cause) && !REFUSALS.has(cause.code)),
    on: {
      connecting: (again) => show('opening', again ? 'connecting again …' : 'connecting …'),
      connected: () => show('open', 'open'),
      closed: (event) => {
        lastClose = event
        if (event.code === 1000) show('idle', 'closed, nothing to follow')
        else if (REFUSALS.has(event.code)) show('refused', wordsOfClose(event))
        else show('waiting', `${wordsOfClose(event)} Trying again …`)
      },
    },
  })
}

/**
 * Run a subscription. Its observer gets each answer by `next`, and at the end either `complete` or `fail`.
 *
 * After a cut the client subscribes again with the same payload. Where the operation declares `$after`, the payload is
 * kept at the last cursor seen, so that the stream goes on where it stopped.
 */
export function follow(client, params, resumable, observer) {
  const payload = { ...params }
  return client.subscribe(payload, {
    next(answer) {
      const cursor = resumable && cursorOf(answer)
      if (cursor) payload.variables = { ...payload.variables, after: cursor }
      observer.next(answer)
    },
    error(cause) {
      const problem = problemOfStream(cause)
      observer.fail(problem, problem.errors.map((error) => error.message).join(' '))
      if (isClose(cause) || isFailure(cause)) show('refused', problem.errors[0].message)
    },
    complete: () => observer.complete(),
  })
}

function cursorOf(answer) {
  return Object.values(answer.data ?? {})[0]?.cursor
}

function waitMs(attempt, close) {
  const asked = close?.code === BUSY ? Number.parseInt(close.reason, 10) : Number.NaN
  const seconds = Number.isNaN(asked) ? Math.min(2 ** attempt / 2, 15) : asked
  return seconds * 1000 + Math.random() * 500 // spread, so that all clients of a restarted server don't come at once
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

function show(state, words) {
  socketState.set({ state, words })
}
