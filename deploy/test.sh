#!/bin/sh
# npm test: prepares the machine, checks the code, runs every test. The last line is `N passed, N failed, N skipped`.
#
# Each step of check.sh counts as one test. Results stay in .cache/test-results (vitest's JSON, one file a project). Exits 0 only when
# tests ran and none failed.
set -u
cd "$(dirname "$0")/.." || exit 1

sh deploy/setup.sh --for-tests || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }

# Node 24 of node_modules, whatever the system has.
PATH=$PWD/node_modules/.bin:$PATH
export PATH

results=.cache/test-results
rm -rf "$results"
mkdir -p "$results"

CHECK_RESULTS=$results/check.txt sh deploy/check.sh

for project in unit integration e2e timed; do
  echo "test: $project"
  # A runner that does not end when its tests have must not hold what comes after it.
  timeout --kill-after=30 2400 vitest run --project "$project" --reporter=default --reporter=json --outputFile.json="$results/$project.json"
  echo $? > "$results/$project.status"
done

exec node test/summary.ts "$results"
