"""Models as the outside sees them."""
