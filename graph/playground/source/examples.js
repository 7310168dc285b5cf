// The operations that the tabs begin with. They are files in `graph/playground/examples/`, in the order of their names;
// the server sends them as one list, so changing one needs no build.

/** The examples as `[{ query, variables }]`; none where they cannot be read, since the editor works without. */
export async function loadExamples() {
  try {
    const response = await fetch('/playground/examples.json', { cache: 'no-store' })
    return response.ok ? await response.json() : []
  } catch {
    return []
  }
}
