#!/bin/sh
# Everything that needs no running: types, lint, layering, unused code, fresh generated code. Each step runs even when one before it failed.
#
# CHECK_RESULTS names a file that gets one line a step, `passed NAME` or `failed NAME`, for deploy/test.sh to count.
cd "$(dirname "$0")/.." || exit 1
PATH=$PWD/node_modules/.bin:$PATH
export PATH
results=${CHECK_RESULTS:-/dev/null}
failed=

step() {
  name=$1
  shift
  if "$@"; then
    echo "check: $name: ok"
    echo "passed $name" >> "$results"
  else
    echo "check: $name: FAILED"
    echo "failed $name" >> "$results"
    failed="$failed $name"
  fi
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

[ -z "$failed" ] || { echo "check: failed:$failed" >&2; exit 1; }
