"""What every thing with an id of its own is (Relay's Node)."""

import strawberry


@strawberry.interface(description="Something with an id that `node(id)` finds again.")
class Node:
    id: strawberry.ID = strawberry.field(description="Opaque and stable.")
