"""The API: GraphQL over HTTP, WebSocket and SSE, and a few plain HTTP doors."""
