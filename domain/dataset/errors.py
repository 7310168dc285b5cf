"""What the dataset room refuses."""
