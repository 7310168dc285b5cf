"""What callers give to find resources."""

import strawberry

import graph.training.enums  # noqa: F401  # the enums' names and words, before a field speaks of them
from domain.deployment import queries
from domain.training.status import Provider


@strawberry.input(description="Which resources to list; what is left out does not narrow.")
class ResourceFilter:
    provider: Provider | None = strawberry.field(default=None, description="At this provider.")
    alive: bool | None = strawberry.field(
        default=None, description="True for those whose end is not confirmed yet, false for those that have ended."
    )
    all: bool = strawberry.field(default=False, description="Those of all users; for operators only.")

    def conditions(self) -> queries.ResourceFilter:
        return queries.ResourceFilter(provider=self.provider, is_alive=self.alive)
