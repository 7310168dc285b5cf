"""The whole schema, of all rooms."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from graph.account.mutations import AccountMutations
from graph.account.queries import AccountQueries
from graph.ai_model.mutations import AIModelMutations
from graph.ai_model.queries import AIModelQueries
from graph.callback.mutations import CallbackMutations
from graph.callback.queries import CallbackQueries
from graph.dataset.mutations import DatasetMutations
from graph.dataset.queries import DatasetQueries
from graph.deployment.mutations import DeploymentMutations
from graph.deployment.queries import DeploymentQueries
from graph.errors import EXCEPTION_HANDLERS
from graph.executor import Schema
from graph.integration.mutations import IntegrationMutations
from graph.integration.queries import IntegrationQueries
from graph.nodes import NodeQueries
from graph.operation.queries import OperationQueries
from graph.scalars import SCALARS
from graph.training.configs import TrainingConfigMutations, TrainingConfigQueries
from graph.training.feed import FEED_TYPES, ActivityGap, ActivitySnapshot
from graph.training.messages import Gap, Snapshot
from graph.training.mutations import TrainingMutations
from graph.training.queries import TrainingQueries
from graph.training.subscriptions import TrainingSubscriptions


@strawberry.type(description="Reading. What does not exist and what is not yours are the same: null.")
class Query(
    NodeQueries,
    AccountQueries,
    TrainingQueries,
    TrainingConfigQueries,
    AIModelQueries,
    DatasetQueries,
    DeploymentQueries,
    IntegrationQueries,
    CallbackQueries,
    OperationQueries,
):
    pass


@strawberry.type(
    description="Whatever writes, spends or asks a provider. Each answers with the thing itself or a typed refusal."
)
class Mutation(
    AccountMutations,
    TrainingMutations,
    TrainingConfigMutations,
    AIModelMutations,
    DatasetMutations,
    DeploymentMutations,
    IntegrationMutations,
    CallbackMutations,
):
    pass


@strawberry.type(description="Live and resumable: each message has a number and a cursor, and none is lost or double.")
class Subscription(TrainingSubscriptions):
    pass


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[*FEED_TYPES.values(), Snapshot, Gap, ActivitySnapshot, ActivityGap],
    config=StrawberryConfig(auto_camel_case=True, scalar_map=SCALARS),
    exception_handlers=EXCEPTION_HANDLERS,
)
