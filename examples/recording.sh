#!/bin/sh
# Records two pushes on a terminal as an animated SVG: docs/push.svg, which the README shows. Needs only
# Rust and a C compiler.
#
#   examples/recording.sh            writes docs/push.svg
#   examples/recording.sh FILE       writes FILE
set -eu
cd "$(dirname "$0")/.."
cargo build --quiet --release --workspace --bins
exec cargo run --quiet --release --package imgsync --example recording -- "$@"
