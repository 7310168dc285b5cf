"""Bodies of callbacks are read only where somebody asks for them: a page of them may have a gigabyte."""

from uuid import UUID

from strawberry.dataloader import DataLoader

from domain.callback import queries
from domain.callback.queries import Excerpt
from graph.context import Info


def excerpt_loader(info: Info) -> DataLoader[UUID, Excerpt]:
    """The beginning of a callback's body, and its size."""

    async def load(ids: list[UUID]) -> list[Excerpt]:
        async with info.context.begin() as work:
            found = await queries.excerpts_of(work.session, ids)
        return [found.get(id, Excerpt(0, b"")) for id in ids]

    loader: DataLoader[UUID, Excerpt] = info.context.loaders.setdefault("excerpts", DataLoader(load_fn=load))
    return loader
