"""One watched stream within this process: what is shared by all its subscribers here."""

import logging
from uuid import UUID

import anyio
import orjson

from db.unit_of_work import Database
from domain.errors import Unavailable
from domain.events import Event, Stream
from domain.journal import queries
from domain.viewer import Viewer, ViewerKind
from graph.live.backlog import Backlog

logger = logging.getLogger("runwire.live")

PAGE = 500


class Topic:
    """Passes a stream's events to its subscribers: each once, in order, without a hole.

    An event comes from the bus, or from the journal where the bus skipped one. Those that were passed on already are
    dropped; where a number is missing, the journal is read from there."""

    def __init__(self, stream: Stream, owner_id: UUID, database: Database) -> None:
        self.stream = stream
        self.owner = Viewer(kind=ViewerKind.USER, user_id=owner_id)
        self.database = database
        self.head: int | None = None
        """The number of the last event that was passed on; None until the journal was asked."""
        self.members: set[Backlog] = set()
        self.attached = anyio.Event()
        """Set while the bus carries this stream to us."""
        self._reading = anyio.Lock()

    def offer(self, event: Event, weight: int) -> bool:
        """An event from the bus. False where something before it is missing."""
        if self.head is None or event.seq <= self.head:
            return True
        if event.seq != self.head + 1:
            return False
        self._pass_on(event, weight)
        return True

    async def prime(self) -> int:
        """Find where the stream stands; whoever joins now gets what comes after."""
        if self.head is None:
            async with self._reading:
                if self.head is None:
                    async with self.database.begin() as work:
                        heads = await queries.heads(work.session, [self.stream.id])
                    self.head = heads.get(self.stream.id, 0)
        return self.head

    async def catch_up(self) -> None:
        """Pass on what the journal has and the bus did not bring."""
        async with self._reading:
            while self.head is not None and self.members:
                events = await self.read(self.head)
                for event in events:
                    if self.head is not None and event.seq > self.head:
                        self._pass_on(event, len(orjson.dumps(event.as_json())))
                if len(events) < PAGE:
                    return

    async def try_to_catch_up(self) -> None:
        """As `catch_up`, for the background: where Postgres is away, the next comparison tries again."""
        try:
            await self.catch_up()
        except Unavailable:
            logger.warning("The journal could not be read; it is read again in a second.")

    async def read(self, after: int, until: int | None = None) -> list[Event]:
        """A page of the journal, read as the stream's owner."""
        async with self.database.begin(self.owner) as work:
            return await queries.events_after(work.session, self.stream, after, until=until, limit=PAGE)

    def _pass_on(self, event: Event, weight: int) -> None:
        self.head = event.seq
        for backlog in self.members:
            backlog.push(event, weight)
