"""`python -m graph serve`: one API process."""

import gc
import sys

from db.logs import configure_logging
from db.settings import read_settings
from graph.app import Api
from graph.server import Server, server_config


def main() -> None:
    if sys.argv[1:] != ["serve"]:
        sys.exit("Usage: python -m graph serve")
    settings = read_settings()
    configure_logging(settings)
    api = Api(settings)
    config = server_config(api.app, host=settings.host, port=settings.port, trusted_proxies=settings.trusted_proxies)
    # The schema and its like never go. Left to the collector, which walks them again and again while somebody's body of
    # 300,000 small lists is read, they make a second of the fifth of one that it should hold everybody up.
    gc.collect()
    gc.freeze()
    Server(config, drain=api.connections.drain).run()


if __name__ == "__main__":
    main()
