#!/usr/bin/env bash
# Builds the container images of both programs for both architectures, and pushes them.
#
#   packaging/images.sh PROGRAMS PREFIX TAG...
#
# PREFIX is a registry and a path, for example localhost:5000/team: pushes PREFIX/imgsync-server:TAG and
# PREFIX/imgsync:TAG, each for linux/amd64 and linux/arm64. Needs Docker with a login at the registry.
# Prints the name of each image with its digest.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=packaging/common.sh
. "$top/packaging/common.sh"

[ $# -ge 3 ] || fail 'usage: images.sh PROGRAMS PREFIX TAG...'
programs=$1
prefix=$2
shift 2
insecure=()
case $prefix in localhost:* | 127.*) insecure=(--insecure) ;; esac

for program in imgsync-server imgsync; do
    image=$prefix/$program
    parts=()
    for arch in x86_64 aarch64; do
        part=$image:$1-$(debian_name "$arch")
        "$top/examples/container/build.sh" --program "$program" --programs "$programs" --arch "$arch" \
            "$part" >/dev/null
        docker push --quiet "$part" >&2
        parts+=("$part")
    done
    for tag in "$@"; do
        # The index of an earlier run.
        docker manifest rm "$image:$tag" >/dev/null 2>&1 || true
        docker manifest create "${insecure[@]}" "$image:$tag" "${parts[@]}" >&2
        digest=$(docker manifest push --purge "${insecure[@]}" "$image:$tag")
        printf '%s@%s\n' "$image:$tag" "$digest"
    done
done
