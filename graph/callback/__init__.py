"""How providers and scripts speak to us, and what the operator sees of it."""
