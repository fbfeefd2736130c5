#!/bin/sh
# Runs all tests and checks, also in a fresh clone. Needs only Rust:
#
#   tests/run.sh [ARGUMENTS OF CARGO TEST]
#
#   tests/run.sh push::              the tests of one area: a folder of tests/ or server/tests/
#   tests/run.sh push::quirks::      the tests of one module
#   tests/run.sh --test flows        one program: flows (tests/), main (server/tests, oci/tests)
#   tests/run.sh --packages          only what a release consists of (tests/packages.sh): static programs,
#                                    installer, Debian packages, container images. Takes minutes, so it is
#                                    not part of the other tests
#   tests/run.sh --targets           only the tool for macOS and Windows (tests/targets.sh): type checks, and
#                                    the Windows program under wine. Needs Debian 12, and minutes
#
# Installs and starts the third-party programs (tests/peers.sh), builds, checks format and lints,
# and runs the tests. Stops dockerd at the end, if this script has started it. Without CI=true, a
# missing rustfmt or clippy is skipped.
set -eu
cd "$(dirname "$0")/.."

# Uses Rust of its own.
if [ "${1:-}" = --targets ]; then
    shift
    exec bash tests/targets.sh ${CI:+--install} "$@"
fi

command -v cargo >/dev/null 2>&1 || PATH=$PATH:${HOME:-/root}/.cargo/bin
command -v cargo >/dev/null 2>&1 || {
    echo 'run.sh: cargo is missing: install Rust' >&2
    exit 1
}

# Incremental data is useful only for a second build.
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

if [ "${1:-}" = --packages ]; then
    shift
    # In CI, missing packages and targets are installed.
    bash tests/packages.sh ${CI:+--install} "$@"
    exit
fi

step 'third-party programs'
docker version >/dev/null 2>&1 || stop_daemon=yes
bash tests/peers.sh --env "$scratch/peers.env"
# shellcheck source=/dev/null
. "$scratch/peers.env"

# The tests start the server's binary from the folder of the tool's binary, so both need the same
# profile. Pass only the profile on to the build.
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
# `cargo build` would build some dependencies twice: the tests enable more features of them.
cargo test --workspace --no-run ${profile:+"$profile"}

# Runs a check. If its component is missing, skips it, or fails in CI.
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
# Without this variable, a test is skipped if a program is missing.
export IMGSYNC_TESTS_PEERS=required
# The seconds for each fuzz target. The targets of a crate run at the same time. The seed is fixed unless
# the caller fuzzes: otherwise, a rare input would fail the tests of a change that has nothing to do with it.
if [ -z "${IMGSYNC_FUZZ_SECONDS:-}" ]; then
    export IMGSYNC_FUZZ_SECONDS=10 IMGSYNC_FUZZ_SEED="${IMGSYNC_FUZZ_SEED:-0}"
fi
cargo test --workspace --no-fail-fast "$@"
