"""A user's own accounts at providers: their keys, encrypted, tested, chosen per run, never shown again."""
