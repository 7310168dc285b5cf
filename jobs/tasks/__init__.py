"""What workers do: a file per room, each task a plain function of a `JobContext` and ids."""
