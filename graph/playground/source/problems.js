// What went wrong, as a GraphQL answer in words: the response pane never stays silent.

const CLOSED = {
  1001: 'The server is going away.',
  1005: 'The server closed the socket without a reason.',
  1006: 'The socket was cut or never opened. Does the server run, and does it allow sockets from this origin?',
  1012: 'The server restarts.',
  1013: 'The server is busy; try again in a moment.',
  4400: 'The server could not read a message of this playground.',
  4401: 'The server wants to know who asks. Put an access token or an API key into the field above and run again.',
  4403: 'The server refused this token: it is missing, wrong, revoked or expired. Put a valid one into the field above and run again.',
  4406: 'The server does not speak graphql-transport-ws.',
  4408: 'The server waited too long for the token.',
  4409: 'The server already has a subscription with this id.',
  4429: 'Too many sockets or subscriptions at once.',
  4504: 'The server did not answer the token in time.',
  4510: 'This page read too slowly. The stream can be resumed after the last cursor.',
}

export function problem(message, extensions = {}) {
  return { errors: [{ message, extensions }] }
}

/** One sentence for a CloseEvent, with the code and with the server's own words where it gave any. */
export function wordsOfClose({ code, reason }) {
  const words = CLOSED[code] ?? 'The socket was closed.'
  return `${words} (close code ${code}${reason ? `: ${reason}` : ''})`
}

/** The answer to show for whatever ended a subscription: GraphQL errors, a CloseEvent or an Error. */
export function problemOfStream(cause) {
  if (Array.isArray(cause)) return { errors: cause }
  if (isClose(cause)) return problem(wordsOfClose(cause), { closeCode: cause.code })
  if (isFailure(cause)) return problem(CLOSED[1006])
  return problem(`The subscription ended: ${cause?.message ?? cause}`)
}

export function isClose(cause) {
  return typeof cause === 'object' && cause !== null && 'code' in cause && 'reason' in cause
}

/** A handshake that failed: browsers tell no more than that. */
export function isFailure(cause) {
  return cause instanceof Event && cause.type === 'error'
}
