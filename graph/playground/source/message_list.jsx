// Below the response: every message of the subscription, since the response pane shows only the latest one.
import { messageLog } from './messages.js'
import { useStore } from './store.js'

export function MessageList() {
  const log = useStore(messageLog)
  if (log === null) return null
  const { lines, count, ending } = log
  return (
    <section className="messages" aria-label="Messages of the subscription">
      <h2>
        {count} {count === 1 ? 'message' : 'messages'}
        {ending && `. ${ending}`}
      </h2>
      <ol>
        {lines.map(({ number, at, text }) => (
          <li key={number}>
            <time>{at.toISOString().slice(11, 23)}</time> {text}
          </li>
        ))}
      </ol>
    </section>
  )
}
