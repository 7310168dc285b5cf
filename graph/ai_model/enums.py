"""The enums of models, with what each value means to those who read the schema."""

import strawberry

from domain.ai_model.model import AIModelStatus

strawberry.enum(
    AIModelStatus,
    name="AIModelStatus",
    description=(
        "Where a model stands: NEW until its first run, TRAINING while a run goes on, READY once one succeeded, ERROR"
        " when the newest run failed. A canceled run gives back READY, or NEW where nothing was trained before."
    ),
)
