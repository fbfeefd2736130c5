#!/usr/bin/env bash
# Tests an older tool with the current server, and the current tool with an older server:
#
#   tests/old_and_new.sh [COMMIT]                 build the older programs from this commit
#   IMGSYNC_TESTS_OLD=DIR tests/old_and_new.sh    use the older programs in DIR
#
# The programs are built only once, in target/old/COMMIT. The first run takes as long as two builds.
# tests/formats/wire.rs is a short form of these tests with a recording, in every run of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

# The default is the commit of the recording in tests/frozen.
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
