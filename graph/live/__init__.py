"""Live updates: the transports that carry them, and what is open at the moment."""
