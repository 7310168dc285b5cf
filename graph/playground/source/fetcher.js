// Sends what the person runs: subscriptions over the socket, everything else over HTTP.
import { getOperationAST, Kind } from 'graphql'

import { post } from './http.js'
import { forgetMessages, recordMessages } from './messages.js'
import { createSocket, follow } from './socket.js'
import { keepToken } from './token.js'

/** A fetcher for GraphiQL that acts with the given token. */
export function createFetcher(token) {
  const sockets = new Map() // by credential: headers typed into the editor may name another one than the field

  return async (params, { documentAST, headers } = {}) => {
    const operation = documentAST && getOperationAST(documentAST, params.operationName)
    if (operation?.operation !== 'subscription') {
      if (operation) forgetMessages()
      const answer = await post(params, token, headers)
      if (operation?.operation === 'mutation') signInWith(answer)
      return answer
    }
    const authorization = typedAuthorization(headers) ?? (token ? `Bearer ${token}` : '')
    if (!sockets.has(authorization)) sockets.set(authorization, createSocket(authorization))
    return observable(sockets.get(authorization), params, declaresAfter(operation))
  }
}

function observable(socket, params, resumable) {
  return {
    subscribe(observer) {
      const record = recordMessages()
      const unsubscribe = follow(socket, params, resumable, {
        next(answer) {
          record.add(answer)
          observer.next(answer)
        },
        fail(problem, words) {
          record.end(words)
          observer.next(problem)
          observer.complete()
        },
        complete() {
          record.end('The stream is complete.')
          observer.complete()
        },
      })
      return {
        unsubscribe() {
          record.end('Stopped by you.')
          unsubscribe()
        },
      }
    },
  }
}

function declaresAfter(operation) {
  return operation.variableDefinitions.some(
    ({ kind, variable }) => kind === Kind.VARIABLE_DEFINITION && variable.name.value === 'after',
  )
}

function typedAuthorization(headers = {}) {
  const name = Object.keys(headers).find((key) => key.toLowerCase() === 'authorization')
  return name && headers[name]
}

// After signUp, signIn and refreshSession the playground goes on as the person who signed in.
function signInWith({ data }) {
  const accessToken = findAccessToken(data, 3)
  if (accessToken) keepToken(accessToken)
}

function findAccessToken(value, depth) {
  if (typeof value !== 'object' || value === null || depth === 0) return undefined
  if (typeof value.accessToken === 'string') return value.accessToken
  return Object.values(value)
    .map((inner) => findAccessToken(inner, depth - 1))
    .find(Boolean)
}
