#!/bin/sh
# Installs the npm packages named by package-lock.json, unless that was done since it last changed: dependencies.sh [FLAGS OF npm ci].
# Works with any Node from 18 on.
set -eu
cd "$(dirname "$0")/.."

# npm writes this file at the end of an installation.
done_at=node_modules/.package-lock.json
if [ -e "$done_at" ] && [ -x node_modules/.bin/node ] && [ -z "$(find package-lock.json -newer "$done_at")" ]; then exit 0; fi
command -v npm > /dev/null 2>&1 || { echo "dependencies: npm is missing; install Node.js 18 or newer with npm" >&2; exit 1; }
version=$(node -p 'process.versions.node.split(".")[0]')
[ "$version" -ge 18 ] || { echo "dependencies: Node.js $version is too old, 18 or newer is needed" >&2; exit 1; }

echo "dependencies: npm ci (a minute the first time)"
npm ci --no-audit --no-fund "$@"
touch "$done_at"
