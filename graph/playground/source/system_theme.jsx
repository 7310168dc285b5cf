// Follows the system from light to dark and back while the page is open; by itself GraphiQL looks only once.
import { useGraphiQL, useGraphiQLActions } from '@graphiql/react'
import { useEffect } from 'react'

export function SystemTheme() {
  const theme = useGraphiQL((state) => state.theme)
  const { setTheme } = useGraphiQLActions()
  useEffect(() => {
    if (theme !== null) return undefined // chosen in the settings
    const system = window.matchMedia('(prefers-color-scheme: dark)')
    const follow = () => setTheme(null)
    system.addEventListener('change', follow)
    return () => system.removeEventListener('change', follow)
  }, [theme, setTheme])
  return null
}
