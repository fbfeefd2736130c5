#!/usr/bin/env bash
# Checks the tool for the other systems, on Debian 12: type-checks it for macOS and Windows, builds the program
# for Windows, and runs it under wine.
#
#   tests/targets.sh [OPTIONS] [ARGUMENTS OF CARGO TEST]
#
#   --install    install what is missing: packages with apt-get (needs root or sudo), zig with pip
#   --check      only type-check
#   --build      only build the program for Windows and the folder of wine
#   ARGUMENTS    the tests that run under wine (default: the list below)
#
# Everything stays in target/targets, so that a second run is quick. docs/platforms.md says what these tests
# show, and what they do not.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
# shellcheck source=packaging/common.sh
. packaging/common.sh
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/targets
install=no
# shellcheck source=tests/targets/toolchain.sh
. tests/targets/toolchain.sh
# shellcheck source=tests/targets/wine.sh
. tests/targets/wine.sh

# Tests of the other areas with a program that the environment names. Those in `windows` run only here.
tests=(windows::)

last=tests
while [ $# -gt 0 ]; do
    case $1 in
        --install) install=yes ;;
        --check) last=check ;;
        --build) last=build ;;
        *) break ;;
    esac
    shift
done
[ $# = 0 ] || tests=("$@")

# Prints the name of a step, and the seconds that the one before took.
step() {
    [ -z "${step:-}" ] || say "targets.sh: $step: $((SECONDS - step_start)) s"
    step=${1:-}
    step_start=$SECONDS
    [ -z "$step" ] || say "== $step"
}

step 'toolchain'
require_packages
require_zig
for target in "$windows" aarch64-apple-darwin x86_64-apple-darwin; do
    step "cargo check, $target"
    cross check --package imgsync --target "$target"
done
if [ "$last" = check ]; then step; exit; fi

step 'build for Windows'
cross build --package imgsync --target "$windows" --bin imgsync --example windows_helper
step 'wine'
prepare_wine
if [ "$last" = build ]; then step; exit; fi

step 'smoke test under wine'
smoke_under_wine
step 'build for this machine'
have cargo || PATH=$PATH:${HOME:-/root}/.cargo/bin
cargo build --workspace --bins
cargo test --package imgsync --test flows --no-run
step 'tests under wine'
run_under_wine cargo test --package imgsync --test flows -- --include-ignored "${tests[@]}"
step
