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
  signUp(input: $input) { __typename ... on Session { accessToken refreshToken expiresAt } ...Refusal }
}
"""
    + _PROBLEM
)

SIGN_IN = (
    """
mutation SignIn($input: SignInInput!) {
  signIn(input: $input) { __typename ... on Session { accessToken refreshToken expiresAt } ...Refusal }
}
"""
    + _PROBLEM
)

REFRESH_SESSION = (
    """
mutation RefreshSession($refreshToken: String!) {
  refreshSession(refreshToken: $refreshToken) {
    __typename ... on Session { accessToken refreshToken expiresAt } ...Refusal
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
    ... on RunGap { from to }
    ... on RunLogged { fromLine toLine lines { line at level text } }
    ... on RunMeasured { readings { name step value } }
    ... on RunDeploymentReady { deploymentUrl }
    run { id endReason errorMessage deploymentUrl durationSeconds model { id name } }
  }
}
"""
