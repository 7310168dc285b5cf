"""The names that were promised to callers, as far as they are built. Adding to the schema is free; this stays.

Types that are not the promise's business are left out; `after: String` without a default means the same as `= null`.
"""

CONTRACT = """
type Query {
  node(id: ID!): Node
  viewer: Viewer
  trainingRun(id: ID!): TrainingRun
  aiModel(id: ID!): AIModel
  dataset(id: ID!): Dataset
  trainingRuns(first: Int! = 20, after: String, filter: TrainingRunFilter): TrainingRunConnection!
  aiModels(first: Int! = 20, after: String): AIModelConnection!
  datasets(first: Int! = 20, after: String): DatasetConnection!
  apps(first: Int! = 20, after: String): AppConnection!
  sessions(first: Int! = 20, after: String): UserSessionConnection!
  apiKeys(first: Int! = 20, after: String): ApiKeyConnection!
  resources(first: Int! = 20, after: String, filter: ResourceFilter): ResourceConnection!
  app(slug: String!): App
}

type Mutation {
  signUp(input: SignUpInput!): SignUpResult!
  signIn(input: SignInInput!): SignInResult!
  refreshSession(refreshToken: String!): RefreshSessionResult!
  revokeSession(id: ID!): RevokeSessionResult!
  createApiKey(input: CreateApiKeyInput!): CreateApiKeyResult!
  revokeApiKey(id: ID!): RevokeApiKeyResult!
  renewConnection(accessToken: String!): RenewConnectionResult!
  createStreamToken(runId: ID): CreateStreamTokenResult!
  createDataset(input: CreateDatasetInput!): CreateDatasetResult!
  deleteDataset(id: ID!): DeleteDatasetResult!
  startTrainingRun(input: StartTrainingRunInput!): StartTrainingRunResult!
  quoteTrainingRun(input: StartTrainingRunInput!): QuoteTrainingRunResult!
  cancelTrainingRun(id: ID!): CancelTrainingRunResult!
  retryTrainingRun(id: ID!, idempotencyKey: String): RetryTrainingRunResult!
  syncTrainingRun(id: ID!): SyncTrainingRunResult!
  syncModel(id: ID!, providerVersion: String): SyncModelResult!
  deployModel(id: ID!): DeployModelResult!
}

type Subscription {
  trainingRun(id: ID!, after: Cursor): TrainingRunMessage!
  activity(after: Cursor): ActivityMessage!
}

input StartTrainingRunInput {
  modelName: String!
  recipe: String
  fragmentId: ID
  datasetId: ID
  provider: Provider!
  fallbacks: [ProviderChoice!]
  gpuTypes: [String!]
  image: String
  trainingConfigId: ID
  hyperparameters: JSON
  tags: [String!]
  metadata: JSON
  budgetMicros: BigInt
  timeLimitSeconds: Int
  deploy: Boolean! = true
  idempotencyKey: String
  integrationId: ID
  rules: [RunRuleInput!]
  scenario: String
  keepSeconds: Int! = 0
}

interface Node { id: ID! }

interface Problem {
  code: ErrorCode!
  message: String!
  field: [String!]
  retryAfterSeconds: Int
}

interface TrainingRunMessage {
  runId: ID!
  seq: Int!
  firstSeq: Int!
  cursor: Cursor!
  at: DateTime!
  attempt: Int!
  status: RunStatus!
  stage: RunStage!
  progress: Float!
  progressEstimated: Boolean!
  etaSeconds: Int
  message: String
  run: TrainingRun!
}

type Snapshot implements TrainingRunMessage { seq: Int! }

type Gap implements TrainingRunMessage {
  from: Int!
  to: Int!
  snapshot: TrainingRun!
}

type TrainingRun implements Node {
  id: ID!
  model: AIModel!
  status: RunStatus!
  stage: RunStage!
  progress: Float!
  progressEstimated: Boolean!
  eta: Eta
  endReason: EndReason
  errorMessage: String
  attempts: [RunAttempt!]!
  provider: Provider!
  providerUrl: URL
  costMicros: BigInt!
  deploymentUrl: URL
  retryOf: TrainingRun
  createdAt: DateTime!
  startedAt: DateTime
  endedAt: DateTime
  durationSeconds: Float
  events(first: Int! = 20, after: Cursor): RunEventConnection!
  logs(first: Int, after: String, last: Int, before: String, level: LogLevel, search: String): LogLineConnection!
  metrics(names: [String!], maxPoints: Int! = 500): [MetricSeries!]!
}

type AIModel implements Node {
  id: ID!
  name: String!
  status: AIModelStatus!
  progress: Float!
  currentRun: TrainingRun
  modelUrl: String
  deployedUrl: URL
  errorMessage: String
  trainedAt: DateTime
  updatedAt: DateTime!
}

enum RunStatus { QUEUED PREPARING TRAINING DEPLOYING CANCELING READY FAILED CANCELED }

enum AIModelStatus { NEW TRAINING READY ERROR }

enum DeploymentStatus { STARTING LIVE WAKING STOPPED FAILED }

enum EndReason {
  SUCCEEDED CANCELED_BY_USER CANCELED_BY_OPERATOR NO_CAPACITY OUT_OF_BUDGET PROVIDER_REFUSED PROVIDER_ERROR DATA_ERROR
  CODE_ERROR DIVERGED TIMED_OUT QUEUE_TIMED_OUT MEMORY_LIMIT DISK_LIMIT IDLE DEPLOYMENT_FAILED LOST
}

union SignUpResult = SignedIn | Invalid | Conflict | LimitReached
union SignInResult = SignedIn | Forbidden | LimitReached
union StartTrainingRunResult = TrainingRun | NotFound | Invalid | Conflict | Forbidden | LimitReached | Unavailable
union CancelTrainingRunResult = TrainingRun | NotFound | Conflict | Forbidden
union RetryTrainingRunResult = TrainingRun | NotFound | Conflict | Forbidden
union SyncTrainingRunResult = TrainingRun | NotFound | Forbidden
union SyncModelResult = AIModel | NotFound | Forbidden
union DeployModelResult = AIModel | NotFound | Conflict | Forbidden
union CreateDatasetResult = Dataset | Invalid | Forbidden
union DeleteDatasetResult = Dataset | NotFound | Conflict | Forbidden
union RevokeSessionResult = UserSession | NotFound | Forbidden
union RevokeApiKeyResult = ApiKey | NotFound | Forbidden
"""

RUN_EVENTS = (
    "RunStatusChanged",
    "RunStageChanged",
    "RunAttemptStarted",
    "RunProgressed",
    "RunLogged",
    "RunMeasured",
    "RunCostChanged",
    "RunWarned",
    "RunSuspected",
    "RunDatasetDownloaded",
    "RunArtifactStored",
    "RunDeploymentReady",
)
FEED_EVENTS = ("ModelStatusChanged", "DeploymentChanged", "ResourceEnded")
