// The messages of the last subscription, newest first. GraphiQL's response pane shows only the latest one.
import { createStore } from './store.js'

const KEPT = 200

/** `{ lines: [{ number, at, text }], count, ending }`, or null where the last operation was no subscription. */
export const messageLog = createStore(null)

export function forgetMessages() {
  messageLog.set(null)
}

/** Begin the record of a new stream. The one before it can no longer write, even where it ends later. */
export function recordMessages() {
  let mine = { lines: [], count: 0, ending: '' }
  messageLog.set(mine)
  const write = (change) => {
    if (messageLog.get() !== mine || mine.ending) return
    mine = { ...mine, ...change }
    messageLog.set(mine)
  }
  return {
    add(answer) {
      const line = { number: mine.count + 1, at: new Date(), text: summary(answer) }
      write({ lines: [line, ...mine.lines].slice(0, KEPT), count: line.number })
    },
    end: (ending) => write({ ending }),
  }
}

function summary({ data, errors }) {
  if (errors) return errors.map((error) => error.message).join(' ')
  const [[field, message] = []] = Object.entries(data ?? {})
  if (typeof message !== 'object' || message === null) return `${field}: ${JSON.stringify(message)}`
  const { __typename, seq, firstSeq, status, stage, progress } = message
  const numbers = firstSeq !== undefined && firstSeq !== seq ? `${firstSeq}–${seq}` : seq
  return [
    numbers !== undefined && `#${numbers}`,
    __typename ?? field,
    status,
    stage !== status && stage,
    progress !== undefined && `${progress} %`,
    message.message,
  ]
    .filter(Boolean)
    .join(' · ')
}
