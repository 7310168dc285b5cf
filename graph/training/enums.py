"""The enums of runs, with what each value means to those who read the schema."""

import strawberry

from domain.training.status import EndReason, LogLevel, Provider, RunStage, RunStatus

strawberry.enum(
    RunStatus,
    name="RunStatus",
    description=(
        "Where a run stands: QUEUED → PREPARING → TRAINING → DEPLOYING → READY, or FAILED or CANCELED from any of them;"
        " CANCELING between the wish to stop and the provider's yes. READY, FAILED and CANCELED are final."
    ),
)
strawberry.enum(RunStage, name="RunStage", description="The finer step within a status, in the order they happen.")
strawberry.enum(EndReason, name="EndReason", description="Why a run or an attempt ended.")
strawberry.enum(Provider, name="Provider", description="Who does the work; LOCAL is this installation's own machine.")
strawberry.enum(LogLevel, name="LogLevel", description="How loud a log line is.")
