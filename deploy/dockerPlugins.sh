#!/bin/sh
# Fetches the CLI's plugins that tests drive, docker-buildx and docker-compose, into a folder: those of Debian 13, for Debian 12 has none. apt does it with
# a configuration of its own, so that neither the machine's sources nor its packages change. What is there already is kept.
#
#   sh deploy/dockerPlugins.sh [FOLDER]        default: .cache/docker-plugins of the repository
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$here/.cache/docker-plugins}
mkdir -p "$folder"
# Test files side by side ask for it at the same time.
exec 9> "$folder/.lock"
flock 9
if [ -x "$folder/docker-buildx" ] && [ -x "$folder/docker-compose" ]; then exit 0; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
: > "$work/status"
echo 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main' > "$work/sources.list"
cat > "$work/apt.conf" << EOF
Dir::State "$work/state";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Acquire::Languages "none";
APT::Sandbox::User "root";
EOF
cd "$work"
export APT_CONFIG="$work/apt.conf"
apt-get update -q > /dev/null
apt-get download -q docker-buildx docker-compose > /dev/null
for package in docker-buildx docker-compose; do
  dpkg-deb -x "$package"_*.deb "$package.files"
  found=$(find "$package.files" -type f -name "$package" -path '*cli-plugins*' | head -n 1)
  install -m 755 "$found" "$folder/$package"
done
