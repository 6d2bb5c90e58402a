#!/bin/sh
# Everything that needs no running: types, lint, layering, unused code, fresh generated code. The steps run beside each other, for most keep one core busy;
# each tells what it found when those before it have.
#
# CHECK_RESULTS names a file that gets one line a step, `passed NAME` or `failed NAME`, for deploy/test.sh to count.
cd "$(dirname "$0")/.." || exit 1
PATH=$PWD/node_modules/.bin:$PATH
export PATH
results=${CHECK_RESULTS:-/dev/null}
failed=
started=
output=$(mktemp -d) || exit 1
stop() {
  for step in $started; do kill "${step#*:}" 2> /dev/null; done
  exit 130
}
trap 'rm -rf "$output"' EXIT
trap stop INT TERM

step() {
  name=$1
  shift
  "$@" > "$output/$name" 2>&1 &
  started="$started $name:$!"
}

tell() {
  name=${1%:*}
  if wait "${1#*:}"; then
    word=ok result=passed
  else
    word=FAILED result=failed
    failed="$failed $name"
  fi
  cat "$output/$name"
  echo "check: $name: $word"
  echo "$result $name" >> "$results"
}

# The generated code is checked in, so that a change of a contract shows in review; it must be what the contract says.
generated_is_fresh() {
  fresh=$(mktemp -d)
  buf generate --output "$fresh" && diff -r "$fresh/packages/contracts/src/generated" packages/contracts/src/generated
  status=$?
  rm -rf "$fresh"
  [ $status = 0 ] || echo "run: npm run proto"
  return $status
}

step types tsc --noEmit
step lint biome ci --no-errors-on-unmatched .
step layering depcruise --config .dependency-cruiser.mjs --output-type err-long packages services deploy bench test
step unused knip --no-config-hints
# The health proto is gRPC's own and keeps its names.
step contracts buf lint --path proto/flotilla
step generated generated_is_fresh
for step in $started; do tell "$step"; done

[ -z "$failed" ] || { echo "check: failed:$failed" >&2; exit 1; }
