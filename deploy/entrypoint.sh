#!/bin/sh
# The entry of the image (deploy/Dockerfile), for docker-compose.yml:
#
#   entrypoint.sh prepare [FLAGS OF flotilla up]     makes what the others need, and waits
#   entrypoint.sh PROCESS [--healthy]                a service, redis or nats; its health check
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec_root=${FLOTILLA_EXEC_ROOT:-/run/flotilla}
# Filled by the image's build.
export NODE_COMPILE_CACHE="$here/../.cache/node"
node=$here/../node_modules/node/bin/node
case ${1:?usage: entrypoint.sh prepare, or the name of a process} in
  prepare)
    shift
    exec "$here/flotilla" prepare --data-root "${FLOTILLA_DATA_ROOT:-/var/lib/flotilla}" --exec-root "$exec_root" "$@"
    ;;
  *)
    case ${2-} in
      '') exec "$node" "$here/src/composed/main.ts" "$exec_root" "$1" ;;
      --healthy) exec "$node" "$here/src/composed/healthy.ts" "$exec_root" "$1" ;;
      *) echo "entrypoint: $2 is unknown" >&2; exit 2 ;;
    esac
    ;;
esac
