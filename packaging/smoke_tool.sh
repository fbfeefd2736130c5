#!/usr/bin/env bash
# Tests that a program imgsync works, on a system that has no imgsync-server: pushes an image, pushes it again,
# copies it to a folder and back, and compares the digests.
#
#   packaging/smoke_tool.sh PROGRAM [EMULATOR...]
#
# EMULATOR runs programs of another system: wine64. Needs bash and Python 3, as the runners of GitHub have them
# on macOS and Windows. Prints the size of the program.
set -euo pipefail
export LC_ALL=C
program=$(realpath "${1:?usage: smoke_tool.sh PROGRAM [EMULATOR...]}")
shift
here=$(cd "$(dirname "$0")" && pwd)
image=$here/../tests/archives/docker28-containerd-store.tar

scratch=$(mktemp -d)
registry=
finish() {
    status=$?
    if [ -n "$registry" ]; then
        kill "$registry" 2>/dev/null || true
        wait "$registry" 2>/dev/null || true
    fi
    if [ "$status" != 0 ]; then tail -n 30 "$scratch"/*.log >&2 || true; fi
    # Windows deletes neither the current folder nor an open file.
    cd "$here"
    rm -rf "$scratch" || true
    exit "$status"
}
trap finish EXIT

fail() { printf 'smoke_tool.sh: %s\n' "$*" >&2; exit 1; }
# An empty array is an unset variable for bash 3.2, which macOS has.
run() { ${emulator[@]+"${emulator[@]}"} "$program" "$@"; }
emulator=("$@")

python=python3
"$python" --version >/dev/null 2>&1 || python=python
"$python" "$here/smoke_registry.py" >"$scratch/registry.log" 2>&1 &
registry=$!
address=
for _ in $(seq 300); do
    # Python of Windows ends lines with CR LF.
    address=$(head -n 1 "$scratch/registry.log" | tr -d '\r')
    [ -z "$address" ] || break
    kill -0 "$registry" 2>/dev/null || fail 'the registry does not start'
    sleep 0.1
done
[ -n "$address" ] || fail 'the registry does not listen'

run --version
# Relative paths, which all systems understand.
cp "$image" "$scratch/image.tar"
cd "$scratch"
# Prints the requests since `seen` was set.
requests() { tail -n +$((seen + 1)) registry.log; }
seen=$(wc -l <registry.log)
run push ./image.tar "$address/team/app:v1" >push.log 2>&1
requests | grep -q '^PUT .*/manifests/' || fail 'the push has not pushed a manifest'
seen=$(wc -l <registry.log)
run push ./image.tar "$address/team/app:v1" >again.log 2>&1
# A POST without an upload is a query.
if requests | grep -qE '^(PUT|PATCH) |/uploads/'; then fail 'the second push sends something'; fi
run mirror "$address/team/app" oci:layout >mirror.log 2>&1
run mirror oci:layout "$address/back/app" >back.log 2>&1
digest() { run inspect "$address/$1" --json 2>inspect.log | grep -o 'sha256:[0-9a-f]*' | head -n 1; }
pushed=$(digest team/app:v1)
[ -n "$pushed" ] || fail 'the pushed image has no digest'
[ "$(digest back/app:v1)" = "$pushed" ] || fail 'the image that was copied back has another digest'
printf 'imgsync: %s bytes, works\n' "$(wc -c <"$program" | tr -d ' ')"
