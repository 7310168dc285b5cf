#!/usr/bin/env bash
# Everything with curl: sign up, upload data, start a run, watch it, ask the model. Needs curl and jq.
#
#     RUNWIRE_URL=http://127.0.0.1:8000 examples/start.sh
#
# Nothing secret stands in an argument, where other users of the machine could read it: bodies go in by stdin, and the
# credential by a file that only you can read.
set -euo pipefail

url=${RUNWIRE_URL:-http://127.0.0.1:8000}
here=$(cd "$(dirname "$0")" && pwd)
work=$(umask 077 && mktemp -d)
trap 'rm -rf "$work"' EXIT
headers=$work/headers
: > "$headers"

# Runs one operation with the variables on stdin, and prints the value of its one field. A refusal goes to stderr, and
# ends the script.
ask() {
  jq --arg query "$1" '{query: $query, variables: .}' |
    curl -sS "$url/graphql" -H 'Content-Type: application/json' -H @"$headers" --data-binary @- |
    jq -e 'if .errors then halt_error else .data[] end | if .code then halt_error else . end'
}

echo "1. Sign up"
PASSWORD=$(head -c 18 /dev/urandom | base64)
export PASSWORD EMAIL="ada-$RANDOM$RANDOM@example.com"
jq -n '{input: {email: env.EMAIL, password: env.PASSWORD}}' |
  ask 'mutation($input: SignUpInput!) { signUp(input: $input) {
    ... on SignedIn { accessToken } ... on Problem { code message field } } }' |
  jq -r '"Authorization: Bearer " + .accessToken' > "$headers"

echo "2. Make a dataset, and put a file into it"
dataset=$(ask 'mutation($input: CreateDatasetInput!) { createDataset(input: $input) {
  ... on Dataset { id uploadUrl } ... on Problem { code message field } } }' \
  <<< '{"input": {"name": "iris.csv", "format": "CSV"}}')
curl -sS --fail-with-body -H @"$headers" -T "$here/iris.csv" "$(jq -r .uploadUrl <<< "$dataset")" |
  jq -c '{status, rowCount, sha256}'

echo "3. Start a run"
run=$(jq '{input: {modelName: "iris", provider: "LOCAL", recipe: "tabular-classification", datasetId: .id,
                   hyperparameters: {targetColumn: "species"}, idempotencyKey: "first"}}' <<< "$dataset" |
  ask 'mutation($input: StartTrainingRunInput!) { startTrainingRun(input: $input) {
    ... on TrainingRun { id } ... on Problem { code message field } } }' | jq -r .id)

echo "4. Watch it until its stream is complete; after a cut, from behind the last id"
last=""
for _ in {1..60}; do
  curl -sSN --fail-with-body -H @"$headers" ${last:+-H "Last-Event-ID: $last"} "$url/runs/$run/events" |
    tee "$work/stream" | sed -un 's/^data: //p' |
    jq --unbuffered -r 'select(.run) | "   \(.run.progress) %  \(.run.status)  \(.type)"' || true
  ! grep -q '^event: complete' "$work/stream" || break
  seen=$(sed -n 's/^id: //p' "$work/stream" | tail -n 1)
  last=${seen:-$last}
  sleep 1
done

echo "5. Ask the model about two flowers"
status=$(curl -sS --fail-with-body -H @"$headers" "$url/runs/$run/status")
model=$(jq -er .deploymentUrl <<< "$status") || { jq '{status, errorMessage}' <<< "$status" >&2; exit 1; }
curl -sS --fail-with-body "${model%/}/predict" -H 'Content-Type: application/json' --data-binary @- << 'ROWS' | jq .predictions
{"rows": [{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2},
          {"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3}]}
ROWS
