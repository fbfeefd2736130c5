#!/bin/sh
# Shows how a push works. Needs only Rust and a C compiler. Builds both programs, starts a server, pushes
# an image, pushes a changed version, pulls both images, and verifies every digest.
#
#   examples/quickstart.sh           with a sample image
#   examples/quickstart.sh app:v1    with an image of the local Docker
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

command -v cargo >/dev/null 2>&1 || {
    say "quickstart.sh: cargo is not installed; install Rust from https://rustup.rs"
    exit 1
}
say "1/3  Building imgsync and imgsync-server. The first build takes some minutes."
cargo build --release --workspace --bins
say "2/3  Building the demonstration."
cargo build --release --package imgsync --example quickstart
say "3/3  Starting a server, and pushing an image twice."
exec cargo run --quiet --release --package imgsync --example quickstart -- "$@"
