#!/usr/bin/env bash
# Builds the container image of imgsync-server: one static program and nothing else. It replaces
# registry:2 and registry:3, with the same port (5000), the same volume (/var/lib/registry), and the
# same configuration files, variables and commands.
#
#   examples/container/build.sh [NAME[:TAG]]      default: imgsync-server:VERSION
#
# Needs Rust and Docker. Only cargo uses the network. If CARGO_TARGET_DIR is set, cargo builds there.
# IMGSYNC_SERVER=PATH uses an existing program, which must be linked statically.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cd "$top"

say() { printf '%s\n' "$*" >&2; }
fail() { say "build.sh: $*"; exit 1; }

# The glibc target: a musl toolchain is often not installed, and its allocator is slower.
machine=$(uname -m)
target=$machine-unknown-linux-gnu
case $machine in x86_64 | aarch64) ;; *) fail "machine $machine is not supported" ;; esac

if [ -n "${IMGSYNC_SERVER:-}" ]; then
    program=$IMGSYNC_SERVER
else
    command -v cargo >/dev/null 2>&1 || PATH=$PATH:$HOME/.cargo/bin
    # With --target, RUSTFLAGS apply to the program and not to build scripts.
    RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
        cargo build --release --target "$target" -p imgsync-server --bin imgsync-server >&2
    program=${CARGO_TARGET_DIR:-$top/target}/$target/release/imgsync-server
fi
[ -x "$program" ] || fail "$program does not exist"
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
# The program has this name in the stock image: existing entrypoints and `docker exec` use it.
ln -s imgsync-server "$root/bin/registry"
install -m 644 "$here/config.yml" "$root/etc/imgsync/config.yml"
# A new volume gets these permissions, so any user can run the container.
chmod 1777 "$root/var/lib/registry"
tar --create --file "$context/root.tar" --directory "$root" \
    --owner=0 --group=0 --numeric-owner --sort=name --mtime='1970-01-01 00:00:00Z' .
rm -rf "$root"
cp "$here/Dockerfile" "$context/Dockerfile"

docker build --quiet --network none --tag "$name" "$context" >&2
say "built $name, $(docker image inspect --format '{{.Size}}' "$name") bytes"
printf '%s\n' "$name"
