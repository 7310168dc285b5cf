"""The enums of connected accounts, described for those who read the schema."""

from domain.integration.model import IntegrationStatus
from domain.training.status import Provider
from graph.enums import expose
from graph.training import enums as _of_runs  # noqa: F401  # Provider gets its place in the schema there

expose(
    IntegrationStatus,
    "Where a connected account stands.",
    {
        "CONNECTED": "The provider took its key when it was last asked.",
        "REFUSED": "The provider did not take its key when it was last asked; `errorMessage` says why.",
        "DISCONNECTED": "Its key was removed; connect it again under the same name.",
    },
)

__all__ = ["IntegrationStatus", "Provider"]
