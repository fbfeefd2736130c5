#!/usr/bin/env bash
# Writes the files of a release: programs, archives, Debian packages, the installer, and all checksums.
#
#   packaging/release.sh --releases URL PROGRAMS OUTPUT
#
# URL is the address of the releases, from which the installer downloads. PROGRAMS is the folder that
# packaging/build.sh has written. Files that are in OUTPUT already, for example SBOMs, get checksums too.
set -euo pipefail
export LC_ALL=C
top=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=packaging/common.sh
. "$top/packaging/common.sh"

[ $# = 4 ] || set -- usage
[ "$1" = --releases ] || fail 'usage: release.sh --releases URL PROGRAMS OUTPUT'
releases=$2
programs=$(realpath "$3")
mkdir -p "$4"
output=$(realpath "$4")
umask 022

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for arch in x86_64 aarch64; do
    [ -d "$programs/$arch" ] || continue
    for program in imgsync imgsync-server; do
        # The program alone, for CI jobs that download one file and verify its checksum.
        install -m 755 "$programs/$arch/$program" "$output/$program-$arch-linux"
        # The names have no version, so that the address of the latest one does not change.
        tar --create --owner=0 --group=0 --numeric-owner --mtime='1970-01-01 00:00:00Z' \
            --directory "$programs/$arch" "$program" --directory "$top" LICENSE-APACHE LICENSE-MIT |
            gzip --no-name >"$output/$program-$arch-linux.tar.gz"
    done
done
"$top/packaging/debian/build.sh" "$programs" "$output"
sed "s|^default_releases=$|default_releases='$releases'|" "$top/install.sh" >"$output/install.sh"
cd "$output"
rm -f SHA256SUMS
sha256sum -- * >"$scratch/SHA256SUMS"
mv "$scratch/SHA256SUMS" SHA256SUMS
say "release.sh: $(wc -l <SHA256SUMS) files in $output"
