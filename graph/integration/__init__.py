"""Connected accounts as the outside sees them."""
