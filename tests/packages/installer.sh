#!/usr/bin/env bash
# Tests the installer of a release with the tools that every Linux has (busybox), in an empty home.
#
#   tests/packages/installer.sh FILES      the folder that packaging/release.sh has written
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=packaging/common.sh
. "$top/packaging/common.sh"

files=$(realpath "${1:?usage: installer.sh FILES}")
scratch=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT

# Serves the files as the latest release, on a free port.
mkdir -p "$scratch/www/latest"
ln -s "$files" "$scratch/www/latest/download"
for port in $(shuf -i 20000-60000 -n 20); do
    busybox httpd -f -p "127.0.0.1:$port" -h "$scratch/www" 2>/dev/null &
    server=$!
    for _ in $(seq 100); do
        if busybox wget -q -O /dev/null "http://127.0.0.1:$port/latest/download/SHA256SUMS" 2>/dev/null; then
            break 2
        fi
        kill -0 "$server" 2>/dev/null || continue 2
        sleep 0.05
    done
done

mkdir "$scratch/bin" "$scratch/home"
for applet in sh awk cat chmod cp id mkdir mktemp mv rm sha256sum tar uname wget gzip; do
    ln -s "$(command -v busybox)" "$scratch/bin/$applet"
done
# busybox's wget cannot verify certificates, but the address is on this machine.
env -i PATH="$scratch/bin" HOME="$scratch/home" IMGSYNC_RELEASES="http://127.0.0.1:$port" \
    sh "$files/install.sh" --dir "$scratch/home/bin" imgsync imgsync-server
"$top/packaging/smoke.sh" "$scratch/home/bin"

# Without the variable, the installer uses the address that packaging/release.sh was given.
if env -i PATH="$scratch/bin" HOME="$scratch/home" sh "$files/install.sh" 2>"$scratch/error"; then
    fail 'the installer uses another address than that of its release'
fi
grep -q '/latest/download/SHA256SUMS;' "$scratch/error" || fail "$(cat "$scratch/error")"
