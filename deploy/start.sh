#!/bin/sh
# npm start: prepares the machine, starts the stack, runs a first container, and says how to use it. Safe to run again: what is there is kept.
#
#   npm start [-- FLAGS OF flotilla up]
set -eu
here=$(cd "$(dirname "$0")" && pwd)

sh "$here/setup.sh"

echo "start: starting the services"
"$here/flotilla" up "$@"

# The socket this stack serves: its own, or the first unix socket named by -H.
exec "$here/../node_modules/node/bin/node" "$here/src/firstRun.ts" "$@"
