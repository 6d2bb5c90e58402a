#!/bin/sh
# Prepares a Debian or Ubuntu machine for Flotilla: system packages, accounts, npm packages, a hello-world image. Safe to run again.
#
#   sh deploy/setup.sh [--for-tests | --for-image] [--data-root DIR]
#
# --for-tests adds what only `npm test` needs; --for-image is deploy/Dockerfile's: system packages and accounts, and npm itself. No service of the system is started or enabled: Flotilla runs its own redis-server and nats-server.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
data_root=/var/lib/flotilla
for_tests=
for_image=
while [ $# -gt 0 ]; do
  case $1 in
    --for-tests) for_tests=yes ;;
    --for-image) for_image=yes ;;
    --data-root) data_root=${2:?--data-root needs a directory}; shift ;;
    --data-root=*) data_root=${1#--data-root=} ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "setup: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
  shift
done

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "must run as root: it installs packages, and containers need mounts, namespaces and cgroups. Try: sudo $0"

# --- system packages -----------------------------------------------------------------------------------------------------------------
missing=

# need PACKAGE COMMAND REASON: remembers the package when the command (or the file, named from /) is not there.
need() {
  if PATH=$PATH:/usr/sbin:/sbin command -v "$2" > /dev/null 2>&1 || [ -e "/$2" ]; then return; fi
  say "$1 is missing: $3"
  missing="$missing $1"
}

need conmon conmon "the parent of each container; keeps its terminal, log and exit code while services come and go"
need crun crun "the OCI runtime, the faster one"
need runc runc "the OCI runtime for kernels where crun does not work"
need nftables nft "the network rules of containers: NAT and published ports"
need netbase etc/protocols "the names of protocols, which nft asks for"
need iproute2 ip "looking at links and addresses (flotilla doctor)"
need redis-server redis-server "keeps the records of every service"
need nats-server nats-server "carries events and heartbeats between services"
need busybox-static busybox "the program in the hello-world image"
need tini tini "the init of docker run --init"
need util-linux setpriv "drops the rights of the services that speak to strangers"
need mount mount "mounts of volumes with options"
need tar tar "unpacks layers and copies files in and out of containers"
need gzip gzip "compressed layers"
need xz-utils xz "images and archives in xz"
need bzip2 bzip2 "images and archives in bzip2"
need zstd zstd "images and archives in zstd"
need procps ps "docker top"
need git git "docker build from a git repository"
need kmod modprobe "loads overlay and bridge where they are modules"
need ca-certificates etc/ssl/certs/ca-certificates.crt "checks the certificates of registries"

if [ -n "$for_image" ] && [ ! -e "$here/../node_modules/.package-lock.json" ]; then
  need nodejs node "runs npm"
  need npm npm "fetches the packages"
fi

if [ -n "$for_tests" ]; then
  need docker-registry docker-registry "tests: a real registry to pull from"
  need curl curl "tests: reaches published ports"
  need iputils-ping ping "tests: packets between sandboxes"
  need bind9-dnsutils dig "tests: asks the name server in containers"
  need skopeo skopeo "tests: reads our archives and pushed images"
  need umoci umoci "tests: unpacks images, to compare file by file"
  need podman podman "tests: an engine to exchange archives with"
  need docker.io dockerd "tests: the engine to exchange archives with, and to compare with; it is not started"
  need libcap2-bin setcap "tests: files with capabilities in images"
  need e2fsprogs mkfs.ext4 "tests: a file system that loses its power"
  need gcc gcc "tests: a build that compiles C"
  need libc6-dev usr/include/stdlib.h "tests: a build that compiles C"
  need make make "tests: a build that compiles C"
  need openssl openssl "tests: certificates for TLS"
  need apparmor apparmor_parser "tests: the parser that the profile of containers is checked with; nothing is loaded"
  need systemd usr/bin/systemd-socket-activate "tests: reads the units and holds a socket; nothing is booted by it"
  need openssh-client ssh "tests: docker -H ssh://"
  need openssh-server sshd "tests: docker -H ssh://; it is started inside of a test only"
  if command -v docker > /dev/null 2>&1; then
    say "docker, the CLI, is here: $(docker --version 2> /dev/null || echo 'of unknown version')"
  elif apt-cache show docker-cli > /dev/null 2>&1; then
    need docker-cli docker "tests: the docker CLI, which end-to-end tests speak through"
  else
    need docker.io docker "tests: the docker CLI (Debian packs it with its engine, which is not started)"
  fi
  need docker-compose usr/bin/docker-compose "tests: compose 1.29, the one that is written in Python"
  if ! /usr/bin/python3 -c 'import docker' 2> /dev/null; then
    need python3-docker usr/lib/python3/dist-packages/docker/__init__.py "tests: a second client, Docker's SDK for Python"
  fi
fi

# Services that Debian would start with their packages. Ours only uses the programs.
debian_services='redis-server nats-server docker-registry docker containerd ssh apparmor'

install_missing() {
  [ -n "$missing" ] || { say "all system packages are here"; return; }
  command -v apt-get > /dev/null 2>&1 || fail "this is not Debian or Ubuntu; install by hand:$missing"

  installed_before=
  for service in $debian_services; do
    if [ -e "/lib/systemd/system/$service.service" ] || [ -e "/etc/init.d/$service" ]; then installed_before="$installed_before $service"; fi
  done

  # Packages ask policy-rc.d whether they may start their service: while it says 101, none does.
  guard=/usr/sbin/policy-rc.d
  [ ! -e "$guard" ] || mv "$guard" "$guard.before-flotilla"
  restore_guard() {
    rm -f "$guard"
    [ ! -e "$guard.before-flotilla" ] || mv "$guard.before-flotilla" "$guard"
  }
  trap restore_guard EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  printf '#!/bin/sh\nexit 101\n' > "$guard"
  chmod 755 "$guard"

  say "installing:$missing"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # a list of package names
  if ! apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install -y -q --no-install-recommends $missing; then
    say "once more with a fresh package list"
    apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 update -q
    # shellcheck disable=SC2086
    apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install -y -q --no-install-recommends $missing || fail "apt-get could not install:$missing"
  fi
  restore_guard
  trap - EXIT INT TERM

  # Not started now is not enough: a newly installed service would start with the next boot.
  for service in $debian_services; do
    case " $installed_before " in *" $service "*) continue ;; esac
    if [ -e "/lib/systemd/system/$service.service" ] && command -v systemctl > /dev/null 2>&1; then
      systemctl disable "$service.service" > /dev/null 2>&1 && say "$service of the system is not enabled; Flotilla does not use it" || true
    fi
  done
}
install_missing

# --- accounts ------------------------------------------------------------------------------------------------------------------------
# One user a service that parses what strangers send, and the group whose members may use the Docker socket.
getent group docker > /dev/null || { groupadd --system docker; say "made the group docker: its members may use the engine, which makes them root"; }
for account in flotilla-gateway flotilla-registry; do
  getent passwd "$account" > /dev/null && continue
  useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$account"
  say "made the user $account: its service runs without root's rights"
done

[ -z "$for_image" ] || exit 0

# --- npm packages, and the image for a first run -------------------------------------------------------------------------------------
sh "$here/dependencies.sh"
sh "$here/seedImage.sh" "$data_root/seed/hello-world.tar"
[ -z "$for_tests" ] || sh "$here/dockerPlugins.sh" || say "the CLI's plugins could not be fetched: the tests of BuildKit and Compose v2 will try again"
say "ready"
