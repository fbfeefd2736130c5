#!/bin/sh
# Everything that must be green, in one command, from a clean clone on a machine with Rust:
#
#   tests/run.sh [ARGUMENTS OF CARGO TEST]
#
#   tests/run.sh push::              only the tests of one area: a folder of tests/ or server/tests/
#   tests/run.sh push::quirks::      only the tests of one module
#   tests/run.sh --test flows        only one program: flows (tests/), main (server/tests, oci/tests)
#
# Installs and starts the peers (tests/peers.sh), builds, checks format and lints, runs the tests.
# A dockerd that this starts is stopped at the end; one that ran before stays as it was.
# With CI=true rustfmt and clippy must be installed, elsewhere they are skipped when missing.
set -eu
cd "$(dirname "$0")/.."

command -v cargo >/dev/null 2>&1 || PATH=$PATH:${HOME:-/root}/.cargo/bin
command -v cargo >/dev/null 2>&1 || {
    echo 'run.sh: cargo is missing: install Rust' >&2
    exit 1
}

# Nothing here is built twice, so what a second build would need is not worth writing.
export CARGO_INCREMENTAL=0

step() { printf '\n== %s\n' "$*" >&2; }

scratch=$(mktemp -d)
stop_daemon=no
finish() {
    status=$?
    trap - EXIT
    rm -rf "$scratch"
    if [ "$stop_daemon" = yes ]; then bash tests/peers.sh stop || true; fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step 'peers'
docker version >/dev/null 2>&1 || stop_daemon=yes
bash tests/peers.sh --env "$scratch/peers.env"
# shellcheck source=/dev/null
. "$scratch/peers.env"

# The tests take the server's binary from beside the tool's, so both must come from one profile.
# Only that part of the arguments is for the build.
profile=
expected=no
for argument in "$@"; do
    if [ "$expected" = yes ]; then
        profile=--profile=$argument
        expected=no
        continue
    fi
    case $argument in
        --) break ;;
        -r | --release) profile=--release ;;
        --profile=*) profile=$argument ;;
        --profile) expected=yes ;;
    esac
done

step 'build'
# Not `cargo build`: without the tests, dependencies have fewer features, and are built twice.
cargo test --workspace --no-run ${profile:+"$profile"}

# Runs a check of a component that may be missing, except in CI.
check() {
    component=$1
    shift
    if cargo "$component" --version >/dev/null 2>&1; then
        step "$component"
        cargo "$component" "$@"
    elif [ "${CI:-}" = true ]; then
        echo "run.sh: cargo $component is missing; rustup component add rustfmt clippy" >&2
        exit 1
    else
        echo "run.sh: cargo $component is not installed: SKIPPED" >&2
    fi
}
check fmt --all -- --check
check clippy --workspace --all-targets -- -D warnings

step 'test'
# Without this, a test whose peer is missing says so and passes.
export IMGSYNC_TESTS_PEERS=required
cargo test --workspace --no-fail-fast "$@"
