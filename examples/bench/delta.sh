#!/bin/sh
# Measures how many bytes a rebuilt layer costs, and how long its push takes, for the pairs of layers
# of make_pairs.sh, which are made first. Prints two Markdown tables. Needs root, because it starts a
# Docker daemon, and rsync.
#
#   examples/bench/delta.sh [FOLDER] [KIND]…
#
# Without arguments: all kinds, in target/delta-pairs, which takes 6 GB of disk.
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-target/delta-pairs}
[ $# -eq 0 ] || shift
examples/bench/delta/make_pairs.sh "$folder" "$@"
cargo build --quiet --release --workspace --bins
exec cargo run --quiet --release --package imgsync --example delta -- "$folder" "$@"
