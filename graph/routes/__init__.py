"""Plain HTTP doors beside GraphQL, a file each."""
