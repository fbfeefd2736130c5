#!/usr/bin/env bash
# An older tool with today's server, and today's tool with an older server, the programs themselves:
#
#   tests/old_and_new.sh [COMMIT]       the older programs are built from this commit of the history
#   IMGSYNC_TESTS_OLD=DIR tests/old_and_new.sh    they lie in DIR already
#
# They are built into target/old/COMMIT, and the second time are there. Takes as long as two builds;
# tests/formats/wire.rs has the same in short, from a recording, with every run of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

# Release binaries of the commit that tests/frozen was recorded with.
commit=${1:-767d04f}

if [ -z "${IMGSYNC_TESTS_OLD:-}" ]; then
    commit=$(git rev-parse --short "$commit^{commit}")
    built=$PWD/target/old/$commit
    if [ ! -x "$built/debug/imgsync" ] || [ ! -x "$built/debug/imgsync-server" ]; then
        sources=$(mktemp -d)
        trap 'rm -rf "$sources"' EXIT
        git archive "$commit" | tar -x -C "$sources"
        cargo build --manifest-path "$sources/Cargo.toml" --target-dir "$built" --workspace --bins
    fi
    export IMGSYNC_TESTS_OLD=$built/debug
fi
cargo build --workspace --bins
cargo test -p imgsync --test flows formats::old_and_new::
