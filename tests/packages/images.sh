#!/usr/bin/env bash
# Tests the container images of both programs for both platforms: builds and pushes them with
# packaging/images.sh, and runs them. tests/peers/container.rs tests more of the server's image.
#
#   tests/packages/images.sh PROGRAMS      the folder that packaging/build.sh has written
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=packaging/common.sh
. "$top/packaging/common.sh"

programs=$(realpath "${1:?usage: images.sh PROGRAMS}")
imgsync=$programs/$machine/imgsync
scratch=$(mktemp -d)
export HOME=$scratch/home
mkdir "$HOME"
containers=()
images=()
finish() {
    status=$?
    local container
    for container in "${containers[@]}"; do
        [ "$status" = 0 ] || docker logs "$container" 2>&1 | tail -n 20 >&2
        docker rm --force --volumes "$container" >/dev/null 2>&1 || true
    done
    [ ${#images[@]} = 0 ] || docker rmi --force "${images[@]}" >/dev/null 2>&1 || true
    rm -rf "$scratch"
    exit "$status"
}
trap finish EXIT

# Starts a container of the server with these options and arguments of `docker run`, and sets `address`. The
# container uses the network of the host: the daemon of the tests has no other.
start_server() {
    local container
    container=$(docker run --detach --network host --env REGISTRY_HTTP_ADDR=127.0.0.1:0 "$@")
    containers+=("$container")
    for _ in $(seq 300); do
        address=$(docker logs "$container" 2>/dev/null | sed -n 's|.*listening on http://||p')
        [ -z "$address" ] || return 0
        sleep 0.1
    done
    fail 'the server in the container does not start'
}

# The server of this machine's platform is the registry for the others.
first=$("$top/examples/container/build.sh" --programs "$programs" imgsync-tests/registry:test)
images+=("$first")
start_server "$first"
registry=$address
prefix=$registry/team

"$top/packaging/images.sh" "$programs" "$prefix" v1 latest >"$scratch/pushed"
cat "$scratch/pushed" >&2
for program in imgsync-server imgsync; do
    images+=("$prefix/$program:v1-amd64" "$prefix/$program:v1-arm64")
    for tag in v1 latest; do
        platforms=$("$imgsync" inspect "$prefix/$program:$tag")
        for platform in linux/amd64 linux/arm64; do
            grep -q "$platform" <<<"$platforms" || fail "$program:$tag lacks $platform: $platforms"
        done
        digest=$("$imgsync" inspect "$prefix/$program:$tag" --json | grep -o 'sha256:[0-9a-f]*' | head -n 1)
        grep -qx "$prefix/$program:$tag@$digest" "$scratch/pushed" || fail "$program:$tag has the digest $digest"
    done
done

# The tool's image: a push from the daemon of the host, as in a CI job.
say 'images.sh: the tool in a container'
docker run --rm --network host --volume /var/run/docker.sock:/var/run/docker.sock \
    "$prefix/imgsync:v1-$(debian_name "$machine")" push "$first" "$registry/from/container:v1" >&2
"$imgsync" inspect "$registry/from/container:v1" >/dev/null

# The other platform: an emulator in the container, unless the kernel starts one itself.
for arch in x86_64 aarch64; do
    [ "$arch" != "$machine" ] || continue
    say "images.sh: $arch in a container"
    emulator=$(command -v "$(emulator "$arch")") || fail "$(emulator "$arch") is missing"
    run=(--platform "linux/$(debian_name "$arch")" --volume "$emulator:/emulator:ro" --entrypoint /emulator)
    start_server "${run[@]}" "$prefix/imgsync-server:v1-$(debian_name "$arch")" /bin/imgsync-server
    docker run --rm --network host "${run[@]}" "$prefix/imgsync:v1-$(debian_name "$arch")" \
        /bin/imgsync mirror "$registry/from/container" "$address/mirror/container" >&2
    "$imgsync" inspect "$address/mirror/container:v1" >/dev/null
done
