#!/bin/sh
# Fetches what tests drive beside the machine's own CLI into a folder: its plugins docker-buildx and docker-compose, those of Debian 13, for Debian 12 has
# none; and, as docker-20.10, the CLI of Debian 12, the last that builds by BuildKit's protocol without a plugin. apt does it with a configuration of its own,
# from the mirror that the machine's sources name, so that neither its sources nor its packages change. What is there already is kept.
#
#   sh deploy/dockerPlugins.sh [FOLDER]        default: .cache/docker-plugins of the repository
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$here/.cache/docker-plugins}
mkdir -p "$folder"
# Test files side by side ask for it at the same time.
exec 9> "$folder/.lock"
flock 9
if [ -x "$folder/docker-buildx" ] && [ -x "$folder/docker-compose" ] && [ -x "$folder/docker-20.10" ]; then exit 0; fi

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
if [ -z "$mirror" ]; then
  echo "dockerPlugins: the machine's apt sources name no Debian mirror to fetch docker-buildx and docker-compose from" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
: > "$work/status"
for release in trixie bookworm; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main"
done > "$work/sources.list"
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
apt-get download -q docker-buildx docker-compose/trixie docker.io/bookworm > /dev/null
for package in docker-buildx docker-compose; do
  dpkg-deb -x "$package"_*.deb "$package.files"
  found=$(find "$package.files" -type f -name "$package" -path '*cli-plugins*' | head -n 1)
  install -m 755 "$found" "$folder/$package"
done
dpkg-deb -x docker.io_*.deb docker.io.files
install -m 755 docker.io.files/usr/bin/docker "$folder/docker-20.10"
