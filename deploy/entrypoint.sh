#!/bin/sh
# Runs one service as a container of its own (docker-compose.yml): entrypoint.sh SERVICE. Under `flotilla up` the supervisor does this instead.
#
# Replicas and services meet in two directories of the host that all of them mount: FLOTILLA_DATA_ROOT and FLOTILLA_EXEC_ROOT.
set -eu
service=${1:?usage: entrypoint.sh SERVICE}
code=$(cd "$(dirname "$0")/.." && pwd)
main="$code/services/$service/src/main.ts"
[ -e "$main" ] || { echo "entrypoint: there is no service $service" >&2; exit 2; }

export FLOTILLA_DATA_ROOT="${FLOTILLA_DATA_ROOT:-/var/lib/flotilla}"
export FLOTILLA_EXEC_ROOT="${FLOTILLA_EXEC_ROOT:-/run/flotilla}"
sockets="$FLOTILLA_EXEC_ROOT/sockets/$service"
mkdir -p "$FLOTILLA_DATA_ROOT/$service" "$FLOTILLA_EXEC_ROOT/$service" "$FLOTILLA_DATA_ROOT/volumes" "$FLOTILLA_EXEC_ROOT/netns" "$sockets"

# The first service to come makes the stack's id; a hard link is made once, whoever races.
id_file="$FLOTILLA_DATA_ROOT/engine-id"
if [ ! -e "$id_file" ]; then
  cat /proc/sys/kernel/random/uuid > "$id_file.$service.$$"
  ln "$id_file.$service.$$" "$id_file" 2> /dev/null || true
  rm -f "$id_file.$service.$$"
fi
FLOTILLA_ENGINE_ID=$(cat "$id_file")
FLOTILLA_INSTANCE=$(cut -c 1-8 /proc/sys/kernel/random/uuid)
export FLOTILLA_ENGINE_ID FLOTILLA_INSTANCE

export FLOTILLA_REDIS_URL="${REDIS_URL:-redis://redis:6379}"
export FLOTILLA_NATS_URL="${NATS_URL:-nats://nats:4222}"
export FLOTILLA_GRPC_ADDRESS="unix:$sockets/$FLOTILLA_INSTANCE.grpc.sock"
export FLOTILLA_STREAM_ADDRESS="unix:$sockets/$FLOTILLA_INSTANCE.stream.sock"
case $service in
  registry-proxy) export FLOTILLA_HTTP_ADDRESS="unix:$sockets/$FLOTILLA_INSTANCE.http.sock" ;;
  gateway) export FLOTILLA_LISTEN="${FLOTILLA_LISTEN:-unix:$FLOTILLA_EXEC_ROOT/docker.sock}" ;;
esac

exec "$code/node_modules/node/bin/node" --max-semi-space-size=1 --max-old-space-size=512 "$main"
