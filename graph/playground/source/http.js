// Queries, mutations and introspection over HTTP.
import { problem } from './problems.js'

const ENDPOINT = '/graphql'

/** Send one operation; headers typed into the headers editor win over the token of the field. */
export async function post(params, token, typedHeaders = {}) {
  let response
  try {
    response = await fetch(ENDPOINT, {
      method: 'POST',
      headers: headersOf(token, typedHeaders),
      body: JSON.stringify(params),
      cache: 'no-store',
    })
  } catch (cause) {
    return problem(`The request did not reach ${ENDPOINT}: ${cause.message}`)
  }
  const text = await response.text()
  try {
    return JSON.parse(text)
  } catch {
    const said = text.trim().slice(0, 500) || response.statusText
    return problem(`The server answered ${response.status} and no JSON: ${said}`, { status: response.status })
  }
}

function headersOf(token, typedHeaders) {
  const headers = new Headers({
    accept: 'application/graphql-response+json, application/json;q=0.9',
    'content-type': 'application/json',
  })
  if (token) headers.set('authorization', `Bearer ${token}`)
  for (const [name, value] of Object.entries(typedHeaders)) headers.set(name, value)
  return headers
}
