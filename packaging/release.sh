#!/usr/bin/env bash
# Writes the files of a release: programs, archives, Debian packages, the installer, and all checksums.
#
#   packaging/release.sh --releases URL [--complete] PROGRAMS OUTPUT
#
# URL is the address of the releases, from which the installer downloads. PROGRAMS is the folder that
# packaging/build.sh has written. Files that are in OUTPUT already, for example the SBOMs of
# packaging/sbom.sh, get checksums too.
#
# Warns if an architecture or an SBOM is missing. With --complete, which the release workflow uses, fails
# instead, before anything is written.
set -euo pipefail
export LC_ALL=C
top=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=packaging/common.sh
. "$top/packaging/common.sh"

usage='usage: release.sh --releases URL [--complete] PROGRAMS OUTPUT'
releases=
complete=no
while [ $# -gt 0 ]; do
    case $1 in
        --releases) releases=${2:?--releases needs a value}; shift ;;
        --complete) complete=yes ;;
        -*) fail "unknown option $1; $usage" ;;
        *) break ;;
    esac
    shift
done
if [ $# != 2 ] || [ -z "$releases" ]; then fail "$usage"; fi
[ -d "$1" ] || fail "$1 is no folder; build the programs with packaging/build.sh"
programs=$(realpath "$1")
output=$(realpath -m "$2")
umask 022

missing=()
for arch in x86_64 aarch64; do
    [ -d "$programs/$arch" ] ||
        missing+=("programs for $arch: packaging/build.sh --arch $arch $programs")
done
for program in imgsync imgsync-server; do
    [ -e "$output/$program.cdx.json" ] ||
        missing+=("the SBOM $program.cdx.json: packaging/sbom.sh $output")
done
if [ ${#missing[@]} != 0 ]; then
    say 'release.sh: WARNING: these files are missing. The release is not complete:'
    for line in "${missing[@]}"; do say "    $line"; done
    [ $complete = no ] || fail 'the release is not complete, and --complete was given; nothing was written'
fi
mkdir -p "$output"

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
