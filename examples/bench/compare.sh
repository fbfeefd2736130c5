#!/bin/sh
# Compares imgsync push with docker push and skopeo copy. The target is imgsync-server, and
# docker-registry if it is installed. Prints a Markdown table. Needs root, because it starts Docker
# daemons. tests/peers.sh installs the programs that are compared.
#
#   examples/bench/compare.sh [MEGABYTES [MEGABYTES OF THE IMAGE FOR THE SLOW LINK]]
#
# Without arguments: 300 and 20.
set -eu
cd "$(dirname "$0")/../.."
cargo build --quiet --release --workspace --bins
exec cargo run --quiet --release --package imgsync --example compare -- "$@"
