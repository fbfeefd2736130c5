#!/bin/sh
# Shows how a push works. Needs only Rust and a C compiler. Builds both programs, starts a server, pushes
# an image, pushes a changed version, pulls both images, and verifies every digest.
#
#   examples/quickstart.sh           with a sample image
#   examples/quickstart.sh app:v1    with an image of the local Docker
set -eu
cd "$(dirname "$0")/.."
cargo build --quiet --release --workspace --bins
exec cargo run --quiet --release --package imgsync --example quickstart -- "$@"
