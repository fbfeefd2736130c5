#!/bin/sh
# The whole path in one command, with nothing but Rust installed: builds both programs, starts a
# server, pushes an image, pushes a changed version, pulls both back and verifies every digest.
#
#   examples/quickstart.sh           with a sample image that it makes itself
#   examples/quickstart.sh app:v1    with that image of the local Docker
set -eu
cd "$(dirname "$0")/.."
cargo build --quiet --release --workspace --bins
exec cargo run --quiet --release --package imgsync --example quickstart -- "$@"
