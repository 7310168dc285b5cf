"""PostgreSQL and Redis that come with the package, for `runwire up`, the demo and the tests.

`EmbeddedServers(data_dir)` starts both in a data directory and stops them; each can also be killed and restarted on
its own, which is what the tests of crashes do. Deployments set DATABASE_URL and REDIS_URL and never come here.
"""

from db.embedded.errors import AlreadyRunning, EmbeddedServerError
from db.embedded.postgres import EmbeddedPostgres
from db.embedded.redis import EmbeddedRedis
from db.embedded.servers import EmbeddedAddresses, EmbeddedServers

__all__ = [
    "AlreadyRunning",
    "EmbeddedAddresses",
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "EmbeddedServerError",
    "EmbeddedServers",
]
