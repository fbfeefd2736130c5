#!/bin/sh
# Runs the fuzz targets with libFuzzer, one after the other, on the stable toolchain:
#
#   IMGSYNC_FUZZ_SECONDS=300 fuzz/run.sh [TARGETS]
#
# Each target runs for IMGSYNC_FUZZ_SECONDS (60). New inputs are collected below target/fuzz/corpus;
# an input that violates a property is written to target/fuzz/artifacts, and the script fails.
# `tests/run.sh` runs the same targets without instrumentation (fuzz/driver.rs).
set -eu
cd "$(dirname "$0")/.."

seconds=${IMGSYNC_FUZZ_SECONDS:-60}
target=x86_64-unknown-linux-gnu
[ "$(uname -m)" = x86_64 ] || target=$(uname -m)-unknown-linux-gnu

# The flags of `cargo fuzz --sanitizer none`, which needs no nightly toolchain. With --target they
# do not apply to build scripts.
coverage='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4'
coverage="$coverage -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-pc-table"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-trace-compares"
export RUSTFLAGS="--cfg fuzzing $coverage -Cdebug-assertions -Coverflow-checks"
# The same versions of all dependencies as in the programs.
cp Cargo.lock fuzz/Cargo.lock
export CARGO_PROFILE_RELEASE_DEBUG=line-tables-only
"${CARGO:-cargo}" build --release --manifest-path fuzz/Cargo.toml --target "$target" \
    --target-dir target/fuzz

failed=
for name in ${*:-$(ls fuzz/corpus)}; do
    collected=target/fuzz/corpus/$name
    mkdir -p "$collected" target/fuzz/artifacts
    echo "== $name" >&2
    "target/fuzz/$target/release/$name" "$collected" "fuzz/corpus/$name" \
        -artifact_prefix="target/fuzz/artifacts/$name-" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 \
        -print_final_stats=1 -verbosity=0 || failed="$failed $name"
done
if [ -n "$failed" ]; then
    echo "run.sh: inputs violate a property:$failed; see target/fuzz/artifacts" >&2
    exit 1
fi
