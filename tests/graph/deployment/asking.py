"""Asks the schema as a viewer, with the services of one process and no server between."""

from typing import Any

from db.settings import Settings
from db.unit_of_work import Database
from domain.viewer import Viewer
from graph.context import Context
from graph.schema import schema
from tests.graph.routes.front import services_of


class Asking:
    """Runs operations of the whole schema."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.services = services_of(settings, database)

    async def __call__(self, document: str, viewer: Viewer, **variables: Any) -> Any:
        """The data. An entry in `errors` fails the test."""
        context = Context(services=self.services, viewer=viewer)
        result = await schema.execute(document, variable_values=variables, context_value=context)
        assert result.errors is None, result.errors
        assert result.data is not None
        return result.data

    async def code(self, document: str, viewer: Viewer, **variables: Any) -> str:
        """The code of the domain's refusal that a query raises."""
        context = Context(services=self.services, viewer=viewer)
        result = await schema.execute(document, variable_values=variables, context_value=context)
        assert result.errors is not None
        return str(getattr(result.errors[0].original_error, "code", result.errors[0]))
