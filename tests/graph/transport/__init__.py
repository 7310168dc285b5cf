"""The wire of the GraphQL API, tested with a toy schema through a real server."""
