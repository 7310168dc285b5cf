"""The GraphQL operations that the command line uses. A test holds each of them against the schema."""

_PROBLEM = """
fragment Refusal on Problem { __typename code message field retryAfterSeconds }
"""

_RUN = """
fragment Run on TrainingRun {
  __typename id status stage progress progressEstimated eta { seconds } endReason errorMessage provider
  deploymentUrl costMicros createdAt startedAt endedAt durationSeconds model { id name status }
}
"""

SIGN_UP = (
    """
mutation SignUp($input: SignUpInput!) {
  signUp(input: $input) { __typename ... on SignedIn { accessToken refreshToken expiresAt } ...Refusal }
}
"""
    + _PROBLEM
)

SIGN_IN = (
    """
mutation SignIn($input: SignInInput!) {
  signIn(input: $input) { __typename ... on SignedIn { accessToken refreshToken expiresAt } ...Refusal }
}
"""
    + _PROBLEM
)

REFRESH_SESSION = (
    """
mutation RefreshSession($refreshToken: String!) {
  refreshSession(refreshToken: $refreshToken) {
    __typename ... on SignedIn { accessToken refreshToken expiresAt } ...Refusal
  }
}
"""
    + _PROBLEM
)

RENEW_CONNECTION = (
    """
mutation RenewConnection($accessToken: String!) {
  renewConnection(accessToken: $accessToken) { __typename ...Refusal }
}
"""
    + _PROBLEM
)

FOLLOW_RUN = """
subscription FollowRun($id: ID!, $after: Cursor) {
  trainingRun(id: $id, after: $after) {
    __typename runId seq firstSeq cursor at attempt status stage progress progressEstimated etaSeconds message
    ... on Gap { from to }
    ... on RunLogged { fromLine toLine lines { line at level text } }
    ... on RunMeasured { readings { name step value } }
    ... on RunDeploymentReady { deploymentUrl }
    ... on RunAttemptStarted { provider gpuType }
    ... on RunWarned { reason words action }
    run { id endReason errorMessage deploymentUrl durationSeconds model { id name } }
  }
}
"""

VIEWER = "query Viewer { viewer { __typename } }"

CREATE_API_KEY = (
    """
mutation CreateApiKey($input: CreateApiKeyInput!) {
  createApiKey(input: $input) { __typename ... on CreatedApiKey { token } ...Refusal }
}
"""
    + _PROBLEM
)

CREATE_DATASET = (
    """
mutation CreateDataset($input: CreateDatasetInput!) {
  createDataset(input: $input) { __typename ... on Dataset { id name } ...Refusal }
}
"""
    + _PROBLEM
)

START_RUN = (
    """
mutation StartTrainingRun($input: StartTrainingRunInput!) {
  startTrainingRun(input: $input) { __typename ...Run ...Refusal }
}
"""
    + _RUN
    + _PROBLEM
)

QUOTE_RUN = (
    """
mutation QuoteTrainingRun($input: StartTrainingRunInput!) {
  quoteTrainingRun(input: $input) {
    __typename
    ... on TrainingQuote {
      budgetMicros isWithinBudget testMode
      options {
        provider gpuType priceMicrosPerHour flatMicros expectedMicros isAvailable isEstimate problem
        eta { seconds lowSeconds highSeconds confidence }
      }
    }
    ...Refusal
  }
}
"""
    + _PROBLEM
)

CANCEL_RUN = (
    """
mutation CancelTrainingRun($id: ID!) { cancelTrainingRun(id: $id) { __typename ...Run ...Refusal } }
"""
    + _RUN
    + _PROBLEM
)

SYNC_RUN = (
    """
mutation SyncTrainingRun($id: ID!) { syncTrainingRun(id: $id) { __typename ...Run ...Refusal } }
"""
    + _RUN
    + _PROBLEM
)

RUN = "query TrainingRun($id: ID!) { trainingRun(id: $id) { ...Run } }" + _RUN

MODEL = "query Model($id: ID!) { aiModel(id: $id) { __typename id name status modelUrl providerVersion } }"

RUNS = (
    """
query TrainingRuns($first: Int!) {
  trainingRuns(first: $first) { __typename edges { node { ...Run } } }
}
"""
    + _RUN
)

LOGS = """
query Logs($id: ID!, $first: Int, $after: String, $last: Int, $level: LogLevel, $search: String) {
  trainingRun(id: $id) {
    __typename
    logs(first: $first, after: $after, last: $last, level: $level, search: $search) {
      edges { cursor node { line at level text } }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""

DATASETS = """
query Datasets($after: String) {
  datasets(first: 100, after: $after) {
    __typename edges { node { id name status sha256 } } pageInfo { hasNextPage endCursor }
  }
}
"""

DATASET = "query Dataset($id: ID!) { dataset(id: $id) { __typename id name format status bytes sha256 rowCount } }"
