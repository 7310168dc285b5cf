"""What the journal refuses. A cursor that is malformed or of another stream is `domain.paging.BadCursor`."""
