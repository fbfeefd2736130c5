#!/usr/bin/env bash
# Builds tests/images/app as NAME:VERSION in the Docker daemon, and prints the image's ID.
#
#   tests/images/build.sh NAME VERSION [SEED]
#
# `docker run --rm --network none NAME:VERSION` prints `hello from version VERSION`. Two versions
# share all layers except the last, as long as one of them is in the daemon: the build cache has
# the others. SEED is in the first layer, so images with different seeds share no layers.
set -euo pipefail
[ $# = 2 ] || [ $# = 3 ] || { echo 'usage: build.sh NAME VERSION [SEED]' >&2; exit 2; }
name=$1
version=$2
seed=${3:-}
here=$(cd "$(dirname "$0")" && pwd)

busybox=$(command -v busybox) || { echo 'build.sh: busybox is missing; run tests/peers.sh' >&2; exit 1; }
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
install -m 644 "$here/app/Dockerfile" "$context/Dockerfile"
install -m 755 "$busybox" "$context/busybox"
printf '%s\n' "$seed" >"$context/seed"
touch -d @0 "$context/busybox" "$context/seed"

# Only one build at a time: two builds with an empty cache would create different layers, and a
# later build could use either of them.
exec 9>"${TMPDIR:-/tmp}/imgsync-tests-build-$(id -u).lock"
flock 9
# The classic builder is in every daemon; BuildKit needs a plugin for the client.
DOCKER_BUILDKIT=0 docker build --network none --build-arg "VERSION=$version" \
    --tag "$name:$version" "$context" >&2 9>&-
docker image inspect --format '{{.Id}}' "$name:$version"
