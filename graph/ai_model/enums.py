"""The enum of models, with what each value means to those who read the schema."""

from domain.ai_model.model import AIModelStatus
from graph.enums import expose

expose(
    AIModelStatus,
    "Where a model stands: NEW until its first run, TRAINING while a run goes on, READY once one succeeded, ERROR"
    " when the newest run failed. A canceled run gives back READY, or NEW where nothing was trained before.",
    {
        "NEW": "Nothing was trained yet.",
        "TRAINING": "A run of it goes on.",
        "READY": "The newest training that was not canceled succeeded.",
        "ERROR": "The newest training failed; `errorMessage` says why.",
    },
)
