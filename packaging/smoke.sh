#!/usr/bin/env bash
# Tests that imgsync and imgsync-server work: pushes an image, copies it back, mirrors it, and compares the
# digests. Needs no network, no Docker and no other program.
#
#   packaging/smoke.sh FOLDER [EMULATOR]
#
# FOLDER has both programs. EMULATOR runs programs of another architecture: qemu-aarch64-static.
# Prints the size of each program, and its start-up time: of the tool until it has printed its version, of
# the server until `imgsync-server health` succeeds.
set -euo pipefail
export LC_ALL=C
folder=${1:?usage: smoke.sh FOLDER [EMULATOR]}
emulator=${2:-}
top=$(cd "$(dirname "$0")/.." && pwd)
image=$top/tests/archives/docker28-containerd-store.tar
runs=20

scratch=$(mktemp -d)
server=
finish() {
    status=$?
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    if [ "$status" != 0 ]; then tail -n 20 "$scratch"/*.log >&2 || true; fi
    rm -rf "$scratch"
    exit "$status"
}
trap finish EXIT

fail() { printf 'smoke.sh: %s\n' "$*" >&2; exit 1; }

# An empty home: the test must not depend on the files of a user.
run() {
    local program=$folder/$1
    shift
    env -i PATH=/nonexistent HOME="$scratch/home" ${emulator:+"$emulator"} "$program" "$@"
}
mkdir "$scratch/home"
# `env` does not find the emulator in an empty PATH.
[ -z "$emulator" ] || emulator=$(command -v "$emulator") || fail "$2 is not installed"

milliseconds() { awk -v begin="$1" -v end="$EPOCHREALTIME" 'BEGIN { printf "%.1f\n", (end - begin) * 1000 }'; }
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

start_up_of_tool() {
    for _ in $(seq "$runs"); do
        local begin=$EPOCHREALTIME
        run imgsync --version >/dev/null
        milliseconds "$begin"
    done | median
}

# Starts the server, and sets `server`, `address` and `start_up`.
start_server() {
    local begin=$EPOCHREALTIME
    # The loop below can be faster than the redirection.
    : >"$scratch/out"
    # `exec` in the subshell: the process ID must be that of the server.
    env -i PATH=/nonexistent HOME="$scratch/home" ${emulator:+"$emulator"} "$folder/imgsync-server" \
        --root "$scratch/registry" --addr 127.0.0.1:0 >"$scratch/out" 2>"$scratch/server.log" &
    server=$!
    for _ in $(seq 3000); do
        address=$(sed -n 's|.*listening on http://||p' "$scratch/out")
        [ -z "$address" ] || break
        kill -0 "$server" 2>/dev/null || fail 'the server does not start'
        sleep 0.005
    done
    [ -n "$address" ] || fail 'the server does not listen'
    run imgsync-server health --addr "$address" >/dev/null
    start_up=$(milliseconds "$begin")
}

digest() { run imgsync inspect "$address/$1" --json | grep -o 'sha256:[0-9a-f]*' | head -n 1; }

stop_server() {
    kill "$server"
    wait "$server" || fail "the server exits with $?"
    server=
}

tool_start_up=$(start_up_of_tool)
# The first start creates the folder; the second one is that of every day.
start_server
stop_server
start_server
{
    run imgsync push "$image" "$address/team/app:v1"
    run imgsync mirror "$address/team/app" "oci:$scratch/layout"
    run imgsync push "oci:$scratch/layout" "$address/back/app:v1"
    run imgsync mirror "$address/team/app" "$address/mirror/app"
} >"$scratch/tool.log" 2>&1
pushed=$(digest team/app:v1)
[ -n "$pushed" ] || fail 'the pushed image has no digest'
for name in back/app:v1 mirror/app:v1; do
    found=$(digest "$name")
    [ "$found" = "$pushed" ] || fail "$name is $found, and not $pushed"
done
# The blobs that were copied back have the bytes that their names promise.
for blob in "$scratch"/layout/blobs/sha256/*; do
    [ "$(sha256sum <"$blob" | cut -d ' ' -f 1)" = "$(basename "$blob")" ] || fail "$blob is damaged"
done
run imgsync-server check --root "$scratch/registry" >"$scratch/check.log" 2>&1
stop_server

size() { stat --format %s "$folder/$1"; }
printf '%-16s %10s bytes, starts in %6s ms\n' \
    imgsync "$(size imgsync)" "$tool_start_up" imgsync-server "$(size imgsync-server)" "$start_up"
