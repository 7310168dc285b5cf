"""The enums of deployments, with what each value means to those who read the schema."""

import strawberry

from domain.deployment.model import AppAccess, DeploymentStatus, ResourceKind, ResourceStatus

strawberry.enum(
    AppAccess,
    name="AppAccess",
    description=(
        "Who may open an app: LINK, whoever has its address, which cannot be guessed; PRIVATE, its owner only, with"
        " their credential. To everybody else a private app is one that does not exist."
    ),
)
strawberry.enum(
    DeploymentStatus,
    name="DeploymentStatus",
    description=(
        "STARTING until its address named the run and predicted a stored row, then LIVE. WAKING when its process has"
        " gone and is started again. STOPPED by its owner or by a newer one, FAILED when it could not be started."
    ),
)
strawberry.enum(
    ResourceKind, name="ResourceKind", description="What it is for: TRAINING a model, or serving it as an APP."
)
strawberry.enum(
    ResourceStatus,
    name="ResourceStatus",
    description=(
        "INTENDED: written down before it is created. ALIVE: the provider has it. ENDING: its end was asked for and not"
        " confirmed yet. ENDED: the provider confirmed that nothing is left."
    ),
)
