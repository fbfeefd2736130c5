#!/bin/sh
# Measures pushes: imgsync beside docker push and skopeo copy, to imgsync-server and, where it is
# installed, to docker-registry; prints one Markdown table. Takes root, for the Docker daemons that
# it starts and ends; tests/peers.sh installs what it compares with.
#
#   examples/bench/compare.sh [MEGABYTES [MEGABYTES OF THE IMAGE FOR THE SLOW LINE]]
#
# Without arguments: 300 and 20.
set -eu
cd "$(dirname "$0")/../.."
cargo build --quiet --release --workspace --bins
exec cargo run --quiet --release --package imgsync --example compare -- "$@"
