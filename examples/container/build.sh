#!/usr/bin/env bash
# Builds the container image of imgsync-server: one static program and nothing else. It takes the
# place of registry:2 and registry:3: the same port (5000), the same volume (/var/lib/registry), the
# same configuration files, variables and commands.
#
#   examples/container/build.sh [NAME[:TAG]]      default: imgsync-server:VERSION
#
# Needs Rust and docker, and no network beyond what cargo needs. CARGO_TARGET_DIR counts.
# IMGSYNC_SERVER=PATH takes a program that was linked statically elsewhere.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cd "$top"

say() { printf '%s\n' "$*" >&2; }
fail() { say "build.sh: $*"; exit 1; }

# glibc's own target: a musl toolchain is not always to be had, and its allocator is slower.
machine=$(uname -m)
target=$machine-unknown-linux-gnu
case $machine in x86_64 | aarch64) ;; *) fail "no image is built on $machine" ;; esac

if [ -n "${IMGSYNC_SERVER:-}" ]; then
    program=$IMGSYNC_SERVER
else
    command -v cargo >/dev/null 2>&1 || PATH=$PATH:$HOME/.cargo/bin
    # With --target, the flags are for the program alone and not for what builds it.
    RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
        cargo build --release --target "$target" -p imgsync-server --bin imgsync-server >&2
    program=${CARGO_TARGET_DIR:-$top/target}/$target/release/imgsync-server
fi
[ -x "$program" ] || fail "$program is not there"
if readelf --program-headers "$program" 2>/dev/null | grep -q INTERP; then
    fail "$program is not linked statically"
fi

version=$("$program" --version)
name=${1:-imgsync-server:${version##* }}

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
root=$context/root
mkdir -p "$root/bin" "$root/etc/imgsync" "$root/var/lib/registry"
install -m 755 "$program" "$root/bin/imgsync-server"
# What entrypoints and `docker exec` call it who know the stock image.
ln -s imgsync-server "$root/bin/registry"
install -m 644 "$here/config.yml" "$root/etc/imgsync/config.yml"
# A new volume takes over these rights, so that any user can run the container.
chmod 1777 "$root/var/lib/registry"
tar --create --file "$context/root.tar" --directory "$root" \
    --owner=0 --group=0 --numeric-owner --sort=name --mtime='1970-01-01 00:00:00Z' .
rm -rf "$root"
cp "$here/Dockerfile" "$context/Dockerfile"

docker build --quiet --network none --tag "$name" "$context" >&2
say "built $name, $(docker image inspect --format '{{.Size}}' "$name") bytes"
printf '%s\n' "$name"
