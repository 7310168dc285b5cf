// A value that components watch without making the whole page render again.
import { useSyncExternalStore } from 'react'

export function createStore(value) {
  const watchers = new Set()
  return {
    get: () => value,
    set(next) {
      value = next
      for (const tell of watchers) tell()
    },
    watch(tell) {
      watchers.add(tell)
      return () => watchers.delete(tell)
    },
  }
}

export function useStore(store) {
  return useSyncExternalStore(store.watch, store.get)
}
