"""How large a document may be, measured in one pass.

Each fragment is measured once and its numbers are added wherever it is spread, so that a document whose fragments
double thirty times is refused after a look at thirty fragments instead of a billion fields. Introspection fields are
measured apart: their documents are deep by nature, and have bounds of their own.
"""

from dataclasses import dataclass, field

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
)

DOCUMENT_TOO_LARGE = "DOCUMENT_TOO_LARGE"
_CEILING = 1_000_000
"""Sums stop growing here: thirty doublings need no exact number."""
_LEVELS = 200
"""Nesting of fragments and selections that is followed at all; Python's own stack ends at a thousand."""


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """The largest document that is executed. Numbers are counted with fragments spread out, for each operation."""

    depth: int = 12
    aliases: int = 30
    fields: int = 500
    selections: int = 1_500
    """Fields, spreads and inline fragments together: fragments that only spread others hold no field."""
    directives: int = 50
    directives_per_field: int = 9
    root_fields: int = 20
    operations: int = 20
    tokens: int = 2_000
    introspection_depth: int = 20
    introspection_fields: int = 500


class DocumentTooLarge(GraphQLError):
    """A document is larger than a limit allows. The first limit found is told."""

    def __init__(self, limit: str, most: int, node: Node | None = None) -> None:
        super().__init__(
            f"This document is too large: at most {most} {limit.replace('_', ' ')} are allowed.",
            nodes=[node] if node else None,
            extensions={"code": DOCUMENT_TOO_LARGE, "params": {"limit": limit, "most": most}},
        )


@dataclass(slots=True)
class Size:
    """What a selection set amounts to, fragments included."""

    depth: int = 0
    fields: int = 0
    selections: int = 0
    aliases: int = 0
    directives: int = 0
    root_fields: int = 0
    introspection_depth: int = 0
    introspection_fields: int = 0

    def add(self, other: "Size") -> None:
        """Grow by a fragment or a field that stands in the same selection set."""
        self.depth = max(self.depth, other.depth)
        self.introspection_depth = max(self.introspection_depth, other.introspection_depth)
        for name in ("fields", "selections", "aliases", "directives", "root_fields", "introspection_fields"):
            setattr(self, name, min(_CEILING, getattr(self, name) + getattr(other, name)))


@dataclass(slots=True)
class Measure:
    """One pass over a document."""

    limits: DocumentLimits
    visited: int = 0
    """How many selections were looked at; never more than the document holds."""
    _fragments: dict[str, FragmentDefinitionNode] = field(default_factory=dict)
    _sizes: dict[str, Size] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)

    def check(self, document: DocumentNode) -> None:
        """Raises `DocumentTooLarge`, or `GraphQLError` for fragments that spread each other in a circle."""
        operations: list[OperationDefinitionNode] = []
        for definition in document.definitions:
            if isinstance(definition, FragmentDefinitionNode):
                self._fragments[definition.name.value] = definition
            elif isinstance(definition, OperationDefinitionNode):
                operations.append(definition)
        if len(operations) > self.limits.operations:
            raise DocumentTooLarge("operations", self.limits.operations)
        for operation in operations:
            size = self._of(operation.selection_set, 0)
            size.directives += len(operation.directives or ())
            self._compare(size, operation)
        for name, fragment in self._fragments.items():  # unused ones too: validation walks them before it refuses them
            if self._of_fragment(name, 0).selections > self.limits.selections:
                raise DocumentTooLarge("selections", self.limits.selections, fragment)

    def _compare(self, size: Size, operation: OperationDefinitionNode) -> None:
        for limit in (
            "depth",
            "fields",
            "selections",
            "aliases",
            "directives",
            "root_fields",
            "introspection_depth",
            "introspection_fields",
        ):
            most = getattr(self.limits, limit)
            if getattr(size, limit) > most:
                raise DocumentTooLarge(limit, most, operation)

    def _of(self, selections: SelectionSetNode | None, level: int, introspecting: bool = False) -> Size:
        total = Size()
        if selections is None:
            return total
        if level > _LEVELS:
            raise DocumentTooLarge("depth", self.limits.depth)
        for node in selections.selections:
            self.visited += 1
            if len(node.directives or ()) > self.limits.directives_per_field:
                raise DocumentTooLarge("directives_per_field", self.limits.directives_per_field, node)
            if isinstance(node, FieldNode):
                size = self._of_field(node, level, introspecting)
            elif isinstance(node, FragmentSpreadNode):
                size = self._of_fragment(node.name.value, level + 1)
                if introspecting:
                    size = _as_introspection(size)
            else:
                size = self._of(getattr(node, "selection_set", None), level + 1, introspecting)
            total.add(size)
            total.selections = min(_CEILING, total.selections + 1)
            total.directives = min(_CEILING, total.directives + len(node.directives or ()))
        return total

    def _of_field(self, node: FieldNode, level: int, introspecting: bool) -> Size:
        opens = node.name.value in ("__schema", "__type")
        inner = self._of(node.selection_set, level + 1, introspecting or opens)
        inner.root_fields = 1
        inner.aliases += 1 if node.alias else 0
        if introspecting or opens:
            inner.introspection_depth += 1
            inner.introspection_fields += 1
        else:
            inner.depth += 1
            inner.fields += 1
        return inner

    def _of_fragment(self, name: str, level: int) -> Size:
        known = self._sizes.get(name)
        if known is not None:
            return known
        fragment = self._fragments.get(name)
        if fragment is None:
            return Size()  # validation says that there is no such fragment
        if name in self._open:
            raise GraphQLError(f"Cannot spread fragment '{name}' within itself.", nodes=[fragment])
        self._open.add(name)
        size = self._of(fragment.selection_set, level)
        size.directives += len(fragment.directives or ())
        self._open.discard(name)
        self._sizes[name] = size
        return size


def _as_introspection(size: Size) -> Size:
    """A fragment that is spread below `__schema`: `FullType` and its like are measured as plain fields first."""
    return Size(
        selections=size.selections,
        aliases=size.aliases,
        directives=size.directives,
        introspection_depth=max(size.depth, size.introspection_depth),
        introspection_fields=min(_CEILING, size.fields + size.introspection_fields),
        root_fields=size.root_fields,
    )
