"""Apps, deployments and resources as the outside sees them."""
