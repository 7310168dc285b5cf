// What GraphiQL remembers (tabs, variables, history) stays in this browser tab and ends with it, since variables hold
// passwords and answers hold tokens. Only the theme is remembered for good.
const THEME = 'graphiql:theme'
const TABS = 'graphiql:tabState'

const placeOf = (key) => (key === THEME ? localStorage : sessionStorage)

export const storage = {
  getItem: (key) => placeOf(key).getItem(key),
  setItem: (key, value) => placeOf(key).setItem(key, value),
  removeItem: (key) => placeOf(key).removeItem(key),
  clear() {
    for (const key of keys()) placeOf(key).removeItem(key)
  },
  get length() {
    return keys().length
  },
}

const keys = () => [THEME, ...Object.keys(sessionStorage)].filter((key) => key.startsWith('graphiql:'))

export const isFirstVisit = () => sessionStorage.getItem(TABS) === null
