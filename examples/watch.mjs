// Watch a training run from JavaScript with graphql-ws, however often the connection breaks. In a browser:
//
//     import { followRun } from './watch.mjs'
//     for await (const message of followRun('https://api.example.com', () => session.accessToken, runId)) draw(message)
//
// and in Node 22 or newer, after `npm install graphql-ws graphql`:
//
//     RUNWIRE_URL=http://127.0.0.1:8000 RUNWIRE_TOKEN=… node examples/watch.mjs RUN

import { createClient } from 'graphql-ws'

const FOLLOW = `
  subscription Follow($id: ID!, $after: Cursor) {
    trainingRun(id: $id, after: $after) {
      __typename seq firstSeq cursor status progress etaSeconds message
      ... on RunLogged { lines { line text } }
      run { endReason errorMessage deploymentUrl }
    }
  }
`
const SILENCE_MS = 60_000 // the server pings every 20 seconds

// Every message of the run once and in order, to its end. `token` is asked at each connection, so that a renewed one is
// used after 4403. Throws what the server refused.
export async function* followRun(url, token, id) {
  // graphql-ws sends this object again after each cut, with the cursor that is in it by then.
  const variables = { id, after: null }
  let silence
  const client = createClient({
    url: url.replace(/^http/, 'ws') + '/graphql',
    connectionParams: async () => ({ authorization: `Bearer ${await token()}` }),
    retryAttempts: 30, // until it is connected again
    shouldRetry: () => true, // also when nobody answers; codes that mean a fault of ours are never retried
    retryWait: (attempts) => sleep(Math.random() * Math.min(10_000, 250 * 2 ** attempts)),
    on: {
      message: () => {
        clearTimeout(silence)
        silence = setTimeout(() => client.terminate(), SILENCE_MS)
      },
      closed: () => clearTimeout(silence),
    },
  })
  try {
    for await (const { data, errors } of client.iterate({ query: FOLLOW, variables })) {
      if (errors) throw errors
      const message = data.trainingRun
      variables.after = message.cursor
      yield message
    }
  } finally {
    await client.dispose()
  }
}

function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

if (globalThis.process?.argv[1]?.endsWith('watch.mjs')) {
  const { RUNWIRE_URL = 'http://127.0.0.1:8000', RUNWIRE_TOKEN } = process.env
  for await (const message of followRun(RUNWIRE_URL, () => RUNWIRE_TOKEN, process.argv[2])) {
    console.log(message.seq, `${message.progress} %`, message.status, message.__typename)
    for (const { text } of message.lines ?? []) console.log('  |', text)
    if (message.run.deploymentUrl) console.log(message.run.deploymentUrl)
  }
}
