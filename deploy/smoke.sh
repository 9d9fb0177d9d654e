#!/usr/bin/env bash
# Check a compose project that is up, from outside and from inside, under load and through failures.
#
#   COMPOSE_PROFILES=scale docker compose up --build --detach --wait && deploy/smoke.sh        (make smoke)
#
# Needs `make setup`, and the images of the profiles training and bench (docker compose build). Publishes versions of
# `quick` into the project's volume, stops, kills and starts its containers; leaves all running. Steps that something
# is missing for (CIFAR10_DATA, the profile scale, the right to kill) say so, and are counted as skipped.
# Draws what the dashboard shows into runs/dashboard.png.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-.venv/bin/python}
PICTURE=${PICTURE:-runs/dashboard.png}
export PYTHONPATH=.:proto COMPOSE_PROFILES=scale,training,bench COMPOSE_PROGRESS=quiet
WORK=$(mktemp -d)
STARTED=$SECONDS DONE=0 SKIPPED=0 CALLERS='' ALONE=''

finish() {
  local status=$?
  [ -z "$CALLERS" ] || kill "$CALLERS" 2>/dev/null || true
  [ -z "$ALONE" ] || docker rm --force "$ALONE" >/dev/null
  [ $status -eq 0 ] || docker compose logs --no-color --tail 15 server >&2 || true
  rm -rf "$WORK"
}
trap finish EXIT


say() { printf '%4ss  %s\n' "$((SECONDS - STARTED))" "$*"; }
passed() { DONE=$((DONE + 1)); say "ok    $*"; }
skipped() { SKIPPED=$((SKIPPED + 1)); say "skip  $*"; }
fail() { say "FAIL  $*"; exit 1; }
eventually() { # SECONDS COMMAND...: until it succeeds
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || fail "not in time: $*"
    sleep 0.5
  done
}
json() { "$PYTHON" -c 'import json, sys; data = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }
address() { docker compose port "$1" "$2"; }
running() { [ -n "$(docker compose ps --quiet --status running "$1")" ]; }
container() { docker compose ps --quiet "$1" | head -1; }
inspect() { docker inspect --format "$2" "$1"; }
cifarserve() { "$PYTHON" -m client "$@"; }
version() { # of quick, as the server answers
  cifarserve models --json | "$PYTHON" -c '
import json, sys
models = {model["name"]: model for model in map(json.loads, sys.stdin)}
print(models["quick"]["serving"]["version"])'
}
is_version() { [ "$(version)" = "$1" ]; }
sum_of() { # PromQL: its value, 0 without one
  curl -fsS --get --data-urlencode "query=$1" "http://$PROMETHEUS/api/v1/query" |
    json 'int(float((data["data"]["result"] or [{"value": [0, 0]}])[0]["value"][1]))'
}
at_least() { [ "$(sum_of "$2")" -ge "$1" ]; }

begin_load() { # TARGET [FLAGS...]
  "$PYTHON" -m tests.deploy.callers --target "$@" >"$WORK/load" &
  CALLERS=$!
  eventually 60 grep -q calling "$WORK/load"
}
end_load() {
  kill "$CALLERS"
  await_load
}
await_load() { # leaves what the callers saw in $SEEN
  wait "$CALLERS"
  CALLERS=''
  SEEN=$(tail -1 "$WORK/load")
}
no_errors() { # WHAT: all that the callers saw was OK
  local answered failed
  answered=$(json 'data["codes"].get("OK", 0)' <<<"$SEEN")
  failed=$(json 'sum(data["codes"].values()) - data["codes"].get("OK", 0)' <<<"$SEEN")
  if [ "$failed" -ne 0 ] || [ "$answered" -lt 100 ]; then fail "$1: $SEEN"; fi
  passed "$1: 0 errors in $answered requests, answered by $(json '" and ".join(sorted(data["versions"]))' <<<"$SEEN")"
}

# ------------------------------------------------------------------------------------------- healthy --
for service in server prometheus; do
  running $service || fail "$service is not running: docker compose up --build --detach --wait"
  eventually 120 test "$(inspect "$(container $service)" '{{.State.Health.Status}}')" = healthy
done
SERVER=$(address server 50051) METRICS=$(address server 9464) PROMETHEUS=$(address prometheus 9090)
export CIFARSERVE_TARGET=$SERVER
[ "$(inspect "$(container server)" '{{.HostConfig.ReadonlyRootfs}} {{.Config.User}}')" = "true 10001:10001" ] ||
  fail "the server's root file system can be written to, or it runs as root"
passed "healthy; the root file system is read-only, the user is 10001"

# --------------------------------------------------------------------------------------- predictions --
mkdir "$WORK/pictures"
"$PYTHON" -c '
import sys
from skimage import data, io
io.imsave(sys.argv[1], data.chelsea(), check_contrast=False)' "$WORK/pictures/cat.png"
chmod -R a+rX "$WORK"
outside=$(cifarserve predict --output jsonl "$WORK/pictures/cat.png" | json 'data["predictions"][0]')
inside=$(docker compose run --rm --no-deps -T --volume "$WORK/pictures:/pictures:ro" bench predict --output jsonl cat.png |
  json 'data["predictions"][0]')
[ "$outside" = "$inside" ] || fail "outside says $outside, inside says $inside"
[[ $inside == *"'cat'"* ]] || fail "the cat is a $inside"
passed "the same answer from outside and inside: $inside"

# ------------------------------------------------------------------------------------------ balancer --
if running balancer; then
  BALANCED=$(address balancer 50051)
  of_replicas='count(rate(cifarserve_requests_total{service="replica",method="Predict",code="OK"}[1m]) > 0)'
  begin_load "$BALANCED" --callers 16
  eventually 90 at_least 2 "$of_replicas"
  end_load
  no_errors "$(sum_of "$of_replicas") replicas behind the balancer get traffic"

  begin_load "$BALANCED" --callers 16
  docker stop --time 40 "$(container replica)" >/dev/null
  end_load
  no_errors "a replica behind the balancer is stopped"
  docker compose start replica >/dev/null
else
  skipped "the balancer: the profile scale is not up"
fi

# ------------------------------------------------------------------------------------------ hot swap --
before=$(version)
begin_load "$SERVER" --callers 1 # training shares the processors with it
if [ -d "${CIFAR10_DATA:-data}/cifar-10-batches-py" ]; then
  how="trained in a container"
  docker compose run --rm --no-deps -T training --architecture mlp --model quick --epochs 1 --restart \
    --no-report --no-tensorboard >"$WORK/training.log" 2>&1 || { cat "$WORK/training.log" >&2; fail "training"; }
else
  skipped "training: no CIFAR10_DATA; the version before is published again"
  how="published"
  docker compose exec -T server sh -c "cd /models/quick && cp -r $before .next &&
    sed -i 's/\"version\": $before,/\"version\": $((before + 1)),/' .next/model.json && mv .next $((before + 1))"
fi
eventually 90 is_version $((before + 1))
sleep 2 # some answers of the new version
end_load
[[ $SEEN == *"quick/$((before + 1))"* ]] || fail "nobody was answered by the new version: $SEEN"
no_errors "version $((before + 1)), $how, is swapped in under load"

# ----------------------------------------------------------------------------------------- operators --
operator() { docker compose exec -T server python -m client models "$@" >/dev/null; }
begin_load "$SERVER"
operator rollback quick
is_version "$before" || fail "after the roll-back version $(version) of quick answers, expected $before"
operator unpin quick
is_version $((before + 1)) || fail "after unpin version $(version) of quick answers, expected $((before + 1))"
end_load
no_errors "an operator rolls back and forth inside the container"
! cifarserve models rollback quick 2>"$WORK/denied" || fail "an operator was heard from outside"
passed "not from outside: $(tail -1 "$WORK/denied")"

# ------------------------------------------------------------------------- half a version, and its alert --
begin_load "$SERVER"
docker compose exec -T server sh -c "mkdir /models/quick/$((before + 2)) && cd /models/quick/$((before + 2)) &&
  cp ../$before/model.json . && head -c 100000 ../$before/model.pt >model.pt"
is_refused() { cifarserve models | grep -q "$1 refused"; }
eventually 60 is_refused $((before + 2))
firing='count(ALERTS{alertname="CifarserveVersionRefused",alertstate="firing",service="server"})'
eventually 90 at_least 1 "$firing"
end_load
no_errors "half a version is refused, Prometheus fires CifarserveVersionRefused"
docker compose exec -T server rm -r "/models/quick/$((before + 2))"

# ------------------------------------------------------------------------------------------- kill -9 --
restarts=$(inspect "$(container server)" '{{.RestartCount}}')
pid=$(inspect "$(container server)" '{{.State.Pid}}')
if kill -KILL "$pid" 2>/dev/null; then # docker kill would count as a stop by hand, after which nothing is restarted
  restarted() { [ "$(inspect "$(container server)" '{{.RestartCount}}')" -gt "$restarts" ]; }
  eventually 60 restarted
  cifarserve health --wait-seconds 180 >/dev/null || fail "the server did not come back"
  is_version $((before + 1)) || fail "after the restart version $(version) of quick answers"
  passed "kill -9 is healed by the restart policy; version $((before + 1)) of quick answers again"
else
  skipped "kill -9: no right to kill process $pid on this machine"
fi

# -------------------------------------------------------------------------------- series and dashboard --
eventually 60 curl -fsS "http://$METRICS/metrics"
begin_load "$SERVER" # so that every rate has something to show
eventually 60 at_least 1 'min(up{job="cifarserve"})'
eventually 60 at_least 1 'sum(rate(cifarserve_predictions_total{service="server"}[30s]))'
end_load
minutes=$(((SECONDS - STARTED) / 60 + 2))
"$PYTHON" -m benchmarks.dashboard --prometheus "http://$PROMETHEUS" --minutes $minutes --picture "$PICTURE" >"$WORK/picture"
passed "Prometheus has the series; $(head -1 "$WORK/picture")"

# ---------------------------------------------------------------------------------------------- stop --
begin_load "$SERVER" --callers 16 --until-failure
sleep 2 # under way
docker compose stop server >/dev/null
await_load
status=$(inspect "$(docker compose ps --all --quiet server)" '{{.State.ExitCode}}')
[ "$status" = 0 ] || fail "the server's exit status is $status"
# An accepted request that was lost would end with another status, or with the text of a broken connection.
lost=$(json '[text for text in data["details"] if not text.startswith(("the server is stopping", "failed to connect"))]' <<<"$SEEN")
[ "$lost" = "[]" ] || fail "lost on compose stop: $SEEN"
passed "compose stop loses nothing: $(json 'data["codes"]' <<<"$SEEN"), exit status 0"
docker compose start server >/dev/null
cifarserve health --wait-seconds 180 >/dev/null || fail "the server did not come back"

# ------------------------------------------------------------------------------------------ bad luck --
bad_luck() { # WHAT STATUS LINE DOCKER-RUN-ARGUMENTS...: it ends so, and the last line that it logs says that
  local what=$1 expected=$2 line=$3 status=0
  shift 3
  docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --network none "$@" >"$WORK/log" 2>&1 || status=$?
  [ $status -eq "$expected" ] || fail "$what: exit status $status, expected $expected: $(tail -1 "$WORK/log")"
  tail -1 "$WORK/log" | grep -qFe "$line" || fail "$what: $(tail -1 "$WORK/log"), expected $line"
  passed "$what: exit status $status, $(tail -1 "$WORK/log")"
}
mkdir "$WORK/empty" "$WORK/locked"
chmod 755 "$WORK" "$WORK/empty"
chmod 700 "$WORK/locked"
bad_luck "no volume" 1 "no model in it" --volume "$WORK/empty:/models" cifarserve-server
bad_luck "wrong permissions" 1 "Permission denied" --volume "$WORK/locked:/models" cifarserve-server
bad_luck "no GPU" 1 "0 usable CUDA devices" --env CIFARSERVE_DEVICE=cuda cifarserve-server
bad_luck "port in use" 1 "choose another --port" --env CIFARSERVE_METRICS_PORT=50051 cifarserve-server
bad_luck "bad setting" 2 "--max-batch-size: " --env CIFARSERVE_MAX_BATCH_SIZE=many cifarserve-server
bad_luck "training into a read-only volume" 1 "/models: not writable" cifarserve-training --epochs 1
bad_luck "training without data" 1 "CIFAR-10 in /data/cifar-10-batches-py: No such file or directory" \
  --tmpfs /models:uid=10001 --tmpfs /training/runs:uid=10001 cifarserve-training --epochs 1

models=$(inspect "$(container server)" '{{range .Mounts}}{{if eq .Destination "/models"}}{{.Name}}{{end}}{{end}}')
ALONE=$(docker run --detach --read-only --tmpfs /tmp --cap-drop ALL --network none \
  --volume "$models:/models:ro" cifarserve-server)
eventually 180 docker exec "$ALONE" python -m server.probe
! docker exec "$ALONE" python -m client models rollback quick 2>"$WORK/denied" || fail "pinned on a read-only volume"
passed "a read-only volume is served; pinning is refused: $(tail -1 "$WORK/denied")"

say "$DONE passed, 0 failed, $SKIPPED skipped"
