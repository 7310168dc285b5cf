"""The dataset room as the outside sees it: its types and mutations, and how its bytes come in and go out."""
