#!/bin/sh
# Writes the hello-world image as a docker-archive tar, for machines that cannot reach Docker Hub: seedImage.sh FILE
#
# One layer: busybox, and /hello, a script that prints the greeting. The same bytes every time on one machine.
set -eu
target=${1:?usage: seedImage.sh FILE}
busybox=/bin/busybox

# As new as this script and busybox: nothing to do.
if [ -e "$target" ] && [ -z "$(find "$0" "$busybox" -newer "$target")" ]; then exit 0; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/bin" "$work/image"
cp "$busybox" "$work/root/bin/busybox"
cat > "$work/root/hello" <<'HELLO'
#!/bin/busybox sh
exec /bin/busybox cat <<'TEXT'

Hello from Flotilla!
This message shows that your installation works.

What happened:
 1. The docker client asked the gateway, over its socket, to run this image.
 2. image-service had it, or got it through registry-proxy, and prepared a root file system from its layers.
 3. network-volume gave the container a network of its own.
 4. container-service started it, and sent what it printed to your terminal.

Next, an image with more in it, if the machine can reach Docker Hub:
 $ docker run -it debian bash

TEXT
HELLO
chmod 755 "$work/root/bin/busybox" "$work/root/hello" "$work/root/bin" "$work/root"

case $(uname -m) in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  armv*) architecture=arm ;;
  i?86) architecture=386 ;;
  *) architecture=$(uname -m) ;;
esac

pack() { tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu --directory="$1" --file="$2" "$3" ${4:+"$4"} ${5:+"$5"}; }
sum() { sha256sum "$1" | cut -d ' ' -f 1; }

pack "$work/root" "$work/image/layer.tar" bin hello
created=1970-01-01T00:00:00Z
printf '{"architecture":"%s","os":"linux","created":"%s","config":{"Cmd":["/hello"],"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"%s","created_by":"deploy/seedImage.sh"}]}' \
  "$architecture" "$created" "$(sum "$work/image/layer.tar")" "$created" > "$work/image/config"
config=$(sum "$work/image/config").json
mv "$work/image/config" "$work/image/$config"
printf '[{"Config":"%s","RepoTags":["hello-world:latest"],"Layers":["layer.tar"]}]' "$config" > "$work/image/manifest.json"

mkdir -p "$(dirname "$target")"
# Complete or not there: written beside, then renamed.
pack "$work/image" "$target.$$" layer.tar "$config" manifest.json
mv "$target.$$" "$target"
echo "setup: made a hello-world image from busybox-static: $target"
