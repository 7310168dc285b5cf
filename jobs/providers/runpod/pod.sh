#!/usr/bin/env bash
# What a pod does from its start to its end: it sees whether it can reach us, fetches the program and the data, prepares,
# trains, stores what came of it, and ends itself. Whatever fails is told at once, with the line and the exit code.
#
# Its orders are the variables RUNWIRE_…; `reporter.py` tells us how it goes, `carrier.py` carries files where neither
# wget nor curl is there, and what was made back to us. Everything lies below RUNWIRE_HOME:
#
#   work/              the program's folder: its files, data/content, artifact/
#   log                all lines of this script (with their time) and of the program (as they are)
#   stage, end.json    what the reporter is to tell; `over` appears once nobody wants this work any more

set -Eeuo pipefail
set -m # each background job is a process group of its own, so that it can be ended with all that it started
umask 077
export LC_ALL=C.UTF-8

home="${RUNWIRE_HOME:-/workspace/runwire}"
work="$home/work"
log="$home/log"
api="${RUNWIRE_URL}/runs/${RUNWIRE_RUN_ID}"
token="${RUNWIRE_TOKEN}"
patience="${RUNWIRE_PATIENCE_SECONDS:-60}"
deadline=$((SECONDS + ${RUNWIRE_TIME_LIMIT_SECONDS:-86400}))
reporter="" program="" why="" verdict=""

say() {
  local line
  line="$(TZ=UTC printf '%(%Y-%m-%dT%H:%M:%SZ)T pod: %s' -1 "$*")"
  printf '%s\n' "$line"
  printf '%s\n' "$line" >>"$log"
}

has() { command -v "$1" >/dev/null 2>&1; }

stage() {
  printf '%s' "$1" >"$home/stage.new"
  mv "$home/stage.new" "$home/stage"
  say "stage $1"
}

# Runs a command and waits for it in such a way that a signal is heard meanwhile. Its exit code is the answer.
hold() {
  local code=0
  "$@" &
  program=$!
  wait "$program" || code=$?
  program=""
  return "$code"
}

end_program() {
  [[ -z "$program" ]] || kill -KILL -- "-$program" 2>/dev/null || true
}

# --- the end -----------------------------------------------------------------------------------------------------------

# end_with REASON MESSAGE EXIT_CODE LINE
end_with() {
  trap - ERR
  trap '' TERM INT
  set +e
  end_program
  [[ -z "$2" ]] || say "ERROR $2"
  if has python3; then
    python3 "$home/reporter.py" end "$home" "$1" "$2" "$3" "$4"
    tell_end "$1"
  else
    tell_end_without_python "$1" "$2"
  fi
  terminate
  [[ "$1" == SUCCEEDED ]]
  exit
}

tell_end() {
  local code=4
  for _ in 1 2; do # a reporter that died begins again where it was
    [[ -n "$reporter" ]] || start_reporter
    wait "$reporter"
    code=$?
    reporter=""
    [[ "$code" == [034] ]] && break
  done
  case "$code" in
    0) say "told the end: $1" ;;
    3) say "nobody wants this work any more" ;;
    *) say "WARNING the end could not be told" ;;
  esac
}

tell_end_without_python() {
  local body
  body="$(TZ=UTC printf '{"sequence":1,"sentAt":"%(%Y-%m-%dT%H:%M:%SZ)T","stage":null,"percent":null,"etaSeconds":null' -1)"
  body+=",\"points\":[],\"log\":null,\"system\":null,\"end\":{\"reason\":\"$1\",\"message\":\"$2\",\"exitCode\":null"
  body+=",\"line\":null}}"
  put_credentials "$token"
  if has curl; then
    curl -sS -o /dev/null -m 20 -H @"$home/.header" -H 'Content-Type: application/json' -d "$body" "$api/reports"
  else
    wget -q -O /dev/null -T 20 --config="$home/.wgetrc" --header='Content-Type: application/json' \
      --post-data="$body" "$api/reports"
  fi
  rm -f "$home/.header" "$home/.wgetrc"
}

# Ends the pod itself, so that nothing of it costs any more. Whoever created it does the same.
terminate() {
  [[ -n "${RUNPOD_POD_ID:-}" && -n "${RUNPOD_API_KEY:-}" ]] || return 0
  local pause
  for pause in 1 2 5 10 30 60; do
    if has python3 && python3 "$home/carrier.py" terminate >>"$log" 2>&1; then break; fi
    if has runpodctl && runpodctl remove pod "$RUNPOD_POD_ID" >>"$log" 2>&1; then break; fi
    sleep "$pause"
  done
  sleep 30 # a container that ends by itself may be started again before the pod is gone
}

failed() {
  end_with PROVIDER_ERROR "The pod's start script failed in line $2 with exit code $1." "$1" "$2"
}

stopped() {
  trap - ERR
  trap '' TERM INT
  set +e
  end_program
  if [[ -e "$home/over" ]]; then
    say "nobody wants this work any more"
    terminate
    exit 0
  fi
  end_with PROVIDER_ERROR "The pod was stopped from outside." "" ""
}

trap 'failed $? $LINENO' ERR
trap stopped TERM INT

start_reporter() {
  RUNWIRE_TOKEN="$token" python3 "$home/reporter.py" report "$home" $$ >>"$home/reporter.log" 2>&1 &
  reporter=$!
}

# --- fetching ----------------------------------------------------------------------------------------------------------

put_credentials() { # in files, since other programs of the machine can read each command line
  printf 'Authorization: Bearer %s\n' "$1" >"$home/.header"
  printf 'header = Authorization: Bearer %s\n' "$1" >"$home/.wgetrc"
}

size_of() { if [[ -e "$1" ]]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }

# get_once URL TARGET: goes on where the target ends. Leaves in `verdict`: ok, dns, refused, unreachable, timeout, tls,
# cut, range or status:NNN.
get_once() {
  local code=0 status
  : >"$home/got"
  if has wget && wget --version 2>/dev/null | grep -q GNU; then
    hold wget --config="$home/.wgetrc" --continue --tries=1 --timeout=20 --max-redirect=0 --server-response \
      --no-verbose --output-document="$2" "$1" >"$home/got" 2>&1 || code=$?
    status="$(sed -n 's|^ *HTTP/[0-9.]* \([0-9][0-9][0-9]\).*|\1|p' "$home/got" | tail -n 1)"
    case "$code" in
      0) verdict=ok ;;
      4) verdict="$(network_words <"$home/got")" ;;
      5) verdict=tls ;;
      *) verdict="${status:+status:$status}" ;;
    esac
  elif has curl; then
    hold curl --silent --show-error --fail --header @"$home/.header" --continue-at - --connect-timeout 20 \
      --speed-limit 1 --speed-time 30 --write-out '%{http_code}' --output "$2" "$1" >"$home/got" 2>"$home/got.errors" ||
      code=$?
    status="$(tail -c 3 "$home/got")"
    case "$code" in
      0) verdict=ok ;;
      6) verdict=dns ;;
      7) verdict="$(network_words <"$home/got.errors")" ;;
      22) verdict="status:$status" ;;
      28) verdict=timeout ;;
      33) verdict=range ;;
      35 | 51 | 53 | 54 | 58 | 59 | 60 | 64 | 66 | 77 | 80 | 82 | 83 | 90 | 91) verdict=tls ;;
      *) verdict=cut ;;
    esac
  else
    hold python3 "$home/carrier.py" get "$1" "$2" "$home/.header" >"$home/got" 2>&1 || code=$?
    verdict="$(tail -n 1 "$home/got")"
  fi
  verdict="${verdict:-cut}"
}

network_words() {
  local text
  text="$(cat)"
  case "$text" in
    *"unable to resolve"* | *"not resolve"*) echo dns ;;
    *efused*) echo refused ;;
    *"timed out"*) echo timeout ;;
    *nreachable* | *"No route"*) echo unreachable ;;
    *"Failed to connect"* | *"Couldn't connect"* | *"not connect"*) echo refused ;;
    *) echo cut ;;
  esac
}

# words_of VERDICT URL: for people; called by `fetch`, whose numbers it tells
words_of() {
  local host="${2#*://}"
  host="${host%%/*}"
  case "$1" in
    dns) echo "the name of $host cannot be resolved (DNS)" ;;
    refused) echo "nobody listens at $host, the connection was refused" ;;
    unreachable) echo "$host cannot be reached from this network" ;;
    timeout) echo "$host gave no answer in time" ;;
    tls) echo "no safe connection to $host could be made (TLS)" ;;
    status:401 | status:403) echo "the right to it was refused (${1#status:}); it may have expired or been revoked" ;;
    status:404 | status:410) echo "it is not there any more (${1#status:})" ;;
    status:*) echo "$host answered ${1#status:}" ;;
    short) echo "it is too short: $have of $bytes bytes came" ;;
    *) echo "the connection to $host was cut" ;;
  esac
}

# fetch URL TARGET TOKEN [BYTES SHA256]: until all is there; else a sentence in `why`.
fetch() {
  local url="$1" target="$2" bytes="${4:-}" sha256="${5:-}"
  local have before best=0 pause=1 resumed="" beyond="" moved=$SECONDS
  put_credentials "$3"
  while :; do
    [[ -n "$bytes" ]] || rm -f "$target" # what cannot be checked is not put together from parts
    touch "$target"
    before="$(size_of "$target")"
    [[ "$before" == 0 ]] || resumed=yes
    get_once "$url" "$target"
    have="$(size_of "$target")"
    [[ "$verdict" != ok || -z "$bytes" || "$have" -ge "$bytes" ]] || verdict=short
    if [[ -n "$bytes" && "$have" -gt "$bytes" ]]; then
      why="it is longer than the $bytes bytes that were announced"
      break
    fi
    if [[ "$verdict" == ok ]]; then
      if [[ -z "$sha256" ]] || is_right "$target" "$sha256"; then
        rm -f "$home/.header" "$home/.wgetrc"
        return 0
      fi
      if [[ -n "$resumed" ]]; then # the parts may not belong together
        say "WARNING the resumed download has a wrong SHA-256; it begins again"
        rm -f "$target"
        resumed=""
        continue
      fi
      why="its SHA-256 is not the one that was announced"
      break
    fi
    case "$verdict" in
      range) rm -f "$target" ;; # the server cannot go on in the middle
      status:416)
        if [[ -n "$beyond" ]]; then
          why="$(words_of short "$url")"
          break
        fi
        beyond=yes # what we have may be of another file
        rm -f "$target"
        ;;
      status:408 | status:425 | status:429 | status:5*) ;;
      status:*)
        why="$(words_of "$verdict" "$url")"
        break
        ;;
    esac
    if ((have > best)); then
      best=$have moved=$SECONDS pause=1
    elif ((SECONDS - moved + pause > patience)); then
      why="$(words_of "$verdict" "$url")"
      break
    fi
    say "WARNING the download stopped at byte $have: $(words_of "$verdict" "$url"); trying again"
    hold sleep "$pause"
    pause=$((pause < 8 ? pause * 2 : 8))
  done
  rm -f "$home/.header" "$home/.wgetrc"
  return 1
}

is_right() {
  local found
  if has sha256sum; then
    found="$(sha256sum <"$1")"
    found="${found%% *}"
  else
    found="$(python3 "$home/carrier.py" sha256 "$1")"
  fi
  [[ "$found" == "${2,,}" ]]
}

# --- the program -------------------------------------------------------------------------------------------------------

# run_program FILE: in the program's folder and without our secrets. Leaves its exit code in `code`, and the line that
# failed last in `line`; `timed_out` exists if its time was up.
run_program() {
  local left=$((deadline - SECONDS)) watchdog
  rm -f "$home/failed_line"
  (
    trap - ERR TERM
    cd "$work"
    exec env -u RUNWIRE_TOKEN -u RUNWIRE_DATASET_TOKEN -u RUNPOD_API_KEY -u RUNWIRE_SCRIPT -u RUNWIRE_REPORTER \
      -u RUNWIRE_CARRIER RUNWIRE_METRICS="$home/metrics.jsonl" RUNWIRE_FAILED_LINE="$home/failed_line" \
      BASH_ENV="$home/trap.sh" bash "$1"
  ) >>"$log" 2>&1 </dev/null &
  program=$!
  (
    trap - ERR TERM
    sleep $((left > 0 ? left : 0))
    : >"$home/timed_out"
    kill -TERM -- "-$program"
    sleep 10
    kill -KILL -- "-$program"
  ) >/dev/null 2>&1 &
  watchdog=$!
  code=0
  wait "$program" || code=$?
  end_program # whatever it left running
  program=""
  kill -KILL -- "-$watchdog" 2>/dev/null || true
  wait "$watchdog" 2>/dev/null || true
  line=""
  [[ ! -s "$home/failed_line" ]] || read -r line <"$home/failed_line" || true
}

# The container's own output shows the program's lines too, each with the time.
follow() {
  tail -n +1 -f "$log" 2>/dev/null | while IFS= read -r line; do
    [[ "$line" == 20??-??-??T??:??:??Z\ pod:* ]] || TZ=UTC printf '%(%Y-%m-%dT%H:%M:%SZ)T %s\n' -1 "$line"
  done
}

# --- from the start to the end -----------------------------------------------------------------------------------------

mkdir -p "$work/data"
touch "$log"
printf '%s' "${RUNWIRE_REPORTER:-}" | base64 -d | gunzip >"$home/reporter.py"
printf '%s' "${RUNWIRE_CARRIER:-}" | base64 -d | gunzip >"$home/carrier.py"
# shellcheck disable=SC2016  # it is expanded where it is run
printf '%s\n' 'unset BASH_ENV' 'trap '\''echo "$LINENO" >"$RUNWIRE_FAILED_LINE"'\'' ERR' >"$home/trap.sh"
follow &
follower=$!
# Its last lines first: a line takes a moment from the program to here.
trap 'sleep 0.2; kill -KILL -- "-$follower" 2>/dev/null' EXIT

say "attempt ${RUNWIRE_ATTEMPT:-?} in pod ${RUNPOD_POD_ID:-?} (${RUNPOD_DC_ID:-unknown place})"
if ! fetch "${RUNWIRE_URL}/healthz" "$home/healthz" "$token"; then
  say "ERROR Runwire cannot be reached: $why."
  terminate
  exit 1
fi
say "Runwire answers at ${RUNWIRE_URL#*://}"
if ! has python3; then
  end_with CODE_ERROR "The image has no python3, which the start script needs." "" ""
fi
if [[ -e "$home/begun" ]]; then
  end_with PROVIDER_ERROR "The pod's container was started again in the middle of the training." "" ""
fi
touch "$home/begun"
start_reporter

fetch "$api/program" "$home/program.tar.gz" "$token" ||
  end_with PROVIDER_ERROR "The program could not be downloaded: $why." "" ""
tar -xzf "$home/program.tar.gz" -C "$work" --no-same-owner

if [[ -n "${RUNWIRE_DATASET_URL:-}" ]]; then
  stage DOWNLOADING_DATA
  fetch "$RUNWIRE_DATASET_URL" "$work/data/content" "$RUNWIRE_DATASET_TOKEN" \
    "$RUNWIRE_DATASET_BYTES" "$RUNWIRE_DATASET_SHA256" ||
    end_with DATA_ERROR "The dataset could not be downloaded: $why." "" ""
  say "dataset complete: $RUNWIRE_DATASET_BYTES bytes, SHA-256 ${RUNWIRE_DATASET_SHA256:0:12}…"
fi

judge() { # the end that the program's exit code and its last words mean
  python3 "$home/reporter.py" judge "$home" "$1" "$code" "$line" >"$home/judged"
}
end_as_judged() {
  local reason message
  {
    IFS= read -r reason
    IFS= read -r message || true
  } <"$home/judged"
  end_with "$reason" "$message" "$code" "$line"
}

if [[ -s "$work/prepare.sh" ]]; then
  stage INSTALLING
  run_program prepare.sh
  if [[ "$code" != 0 ]]; then
    judge preparation
    end_as_judged
  fi
fi
say "ready after $SECONDS s"

stage TRAINING
run_program command.sh
judge training
if [[ "$(head -n 1 "$home/judged")" != SUCCEEDED ]]; then
  end_as_judged
fi

stage SAVING
if ! RUNWIRE_TOKEN="$token" hold python3 "$home/carrier.py" put "$work/artifact" "$api/artifacts" >"$home/put" 2>&1; then
  end_with CODE_ERROR "$(tail -n 1 "$home/put")" "" ""
fi
while IFS= read -r stored; do say "$stored"; done <"$home/put"
if [[ "${RUNWIRE_KEEP_SECONDS:-0}" != 0 ]]; then
  python3 "$home/reporter.py" end "$home" SUCCEEDED "" 0 ""
  tell_end SUCCEEDED
  say "kept for $RUNWIRE_KEEP_SECONDS s"
  hold sleep "$RUNWIRE_KEEP_SECONDS"
  terminate
  exit 0
fi
end_with SUCCEEDED "" 0 ""
