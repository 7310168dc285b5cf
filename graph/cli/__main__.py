"""`python -m graph.cli`: the same as `runwire`."""

from graph.cli.main import main

if __name__ == "__main__":
    main()
