"""The enums of deployments, with what each value means to those who read the schema."""

from domain.deployment.model import AppAccess, DeploymentStatus, ResourceKind, ResourceStatus
from graph.enums import expose

expose(
    AppAccess,
    "Who may open an app. To everybody else a private app is one that does not exist.",
    {
        "LINK": "Whoever has its address, which cannot be guessed.",
        "PRIVATE": "Its owner only, with their credential.",
    },
)
expose(
    DeploymentStatus,
    "How a deployment stands.",
    {
        "STARTING": "Its address has not answered as it should yet.",
        "LIVE": "Its address named the run and predicted a stored row.",
        "WAKING": "Its process has gone and is started again.",
        "STOPPED": "Ended by its owner, or by a newer one that took its place.",
        "FAILED": "It could not be started; `errorMessage` says why.",
    },
)
expose(
    ResourceKind,
    "What something at a provider is for.",
    {"TRAINING": "Training a model.", "APP": "Serving a model."},
)
expose(
    ResourceStatus,
    "Whether something is there at its provider.",
    {
        "INTENDED": "Written down before it is created.",
        "ALIVE": "The provider has it.",
        "ENDING": "Its end was asked for and is not confirmed yet.",
        "ENDED": "The provider confirmed that nothing of it is left.",
    },
)
