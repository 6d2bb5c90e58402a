#!/bin/sh
# keeper.sh LOG PLAN COMMAND…: minds the one process of a compact stack, which minds everything else. It holds the stack's lock and listening sockets open (from
# descriptor 3 on), starts the process, and starts it again when it dies: at once the first time, later and later while it does not live for half a minute.
#
# What the process writes goes to LOG; descriptor 0 is where it writes as the supervisor. It ends with 0 when the stack is down, and then so does this.
# To the outside this is the supervisor: SIGTERM stops the stack, SIGHUP has the settings read again, and whoever waits for the supervisor's end waits for this.
log=$1 plan=$2
shift 2
child='' stopping='' failures=0

stop() {
  stopping=1
  # In a pause between two starts there is nobody to tell.
  [ -n "$child" ] || exit 0
  kill -TERM "$child" 2>/dev/null
}
trap stop TERM INT
trap '[ -z "$child" ] || kill -HUP "$child"' HUP
# From the process: it serves on while another supervisor takes over.
trap 'exit 0' USR1
# From the process: the settings are right. What was `flotilla up` once is so again, with this pid, and becomes the next keeper; the next process takes over.
trap 'trap "" HUP; exec "$1" "${0%/*}/src/supervisor/readAgain.ts" "$plan"' USR2

while :; do
  begun=$(date +%s)
  "$@" "$plan" "$$" "$failures" 0>&1 >>"$log" 2>&1 &
  child=$!
  [ -z "$stopping" ] || stop
  # A signal interrupts the waiting.
  while wait "$child"; code=$?; kill -0 "$child" 2>/dev/null; do :; done
  child=''
  [ "$code" != 0 ] || exit 0
  [ -z "$stopping" ] || exit "$code"
  if [ $(($(date +%s) - begun)) -lt 30 ]; then failures=$((failures + 1)); else failures=1; fi
  [ "$failures" = 1 ] || sleep "$((failures > 6 ? 5 : failures - 1))"
done
