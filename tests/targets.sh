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

# Those in `windows` run only here. The others are tests of Linux, with the Windows program instead.
tests=(windows:: browse:: mirror::offline mirror::referrers mirror::selection push::cuts push::names push::planning
    push::repeated push::verification)
# wine has no way to what these tests need: Docker's Unix socket, variables that are not UTF-8, and connections
# that end with a killed program. A test in `windows` has a way around the last one.
skipped=(from_the_daemon the_forms_of_docker_push pull_copies_an_image_into_docker
    mirrors_from_a_configuration_file bytes_of_an_interrupted_push_do_not_count)

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
run_under_wine cargo test --package imgsync --test flows -- --include-ignored "${tests[@]}" "${skipped[@]/#/--skip=}"
step
