"""The command line `runwire`: it starts the product, and it is a client of the product's public API."""
