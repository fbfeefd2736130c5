#!/usr/bin/env bash
# Writes the files of a release: programs, archives, Debian packages, the installer, the Homebrew formula, the
# Scoop manifest, and all checksums.
#
#   packaging/release.sh --releases URL [--complete] PROGRAMS OUTPUT
#
# URL is the address of the releases, from which the installer downloads. PROGRAMS is the folder that
# packaging/build.sh has written. The programs for macOS and Windows, which are built on those systems, are
# PROGRAMS/ARCH-macos/imgsync and PROGRAMS/ARCH-windows/imgsync.exe. Files that are in OUTPUT already, for
# example the SBOMs of packaging/sbom.sh, get checksums too.
#
# Warns if a program or an SBOM is missing. With --complete, which the release workflow uses, fails instead,
# before anything is written. The formula and the manifest are written only if no program is missing.
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
# The systems for which only the tool exists.
others=(x86_64-macos aarch64-macos x86_64-windows aarch64-windows)

missing=()
for arch in x86_64 aarch64; do
    [ -d "$programs/$arch" ] ||
        missing+=("programs for $arch: packaging/build.sh --arch $arch $programs")
done
for system in "${others[@]}"; do
    [ -d "$programs/$system" ] || missing+=("the program for $system, which is built on that system")
done
missing_programs=${#missing[@]}
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

# Writes an archive with a program and the licenses: archive SYSTEM PROGRAM NAME. The names have no version, so
# that the address of the latest one does not change.
archive() {
    tar --create --owner=0 --group=0 --numeric-owner --mtime='1970-01-01 00:00:00Z' \
        --directory "$programs/$1" "$2" --directory "$top" LICENSE-APACHE LICENSE-MIT |
        gzip --no-name >"$output/$3"
}

# Writes such an archive for Windows: archive_zip SYSTEM PROGRAM NAME.
archive_zip() {
    have python3 || fail 'python3 is missing, which writes the archives for Windows'
    python3 - "$output/$3" "$programs/$1/$2" "$top/LICENSE-APACHE" "$top/LICENSE-MIT" <<'PYTHON'
import os, sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as archive:
    for path in sys.argv[2:]:
        # With the first date that the format has, so that the same programs give the same bytes.
        entry = zipfile.ZipInfo(os.path.basename(path))
        entry.external_attr = 0o644 << 16
        with open(path, "rb") as file:
            archive.writestr(entry, file.read(), zipfile.ZIP_DEFLATED)
PYTHON
}

for arch in x86_64 aarch64; do
    [ -d "$programs/$arch" ] || continue
    for program in imgsync imgsync-server; do
        # The program alone, for CI jobs that download one file and verify its checksum.
        install -m 755 "$programs/$arch/$program" "$output/$program-$arch-linux"
        archive "$arch" "$program" "$program-$arch-linux.tar.gz"
    done
done
for system in "${others[@]}"; do
    [ -d "$programs/$system" ] || continue
    program=imgsync
    [[ $system != *-windows ]] || program=imgsync.exe
    install -m 755 "$programs/$system/$program" "$output/imgsync-$system${program#imgsync}"
    if [ $program = imgsync ]; then
        archive "$system" $program "imgsync-$system.tar.gz"
    else
        archive_zip "$system" $program "imgsync-$system.zip"
    fi
done
[ "$missing_programs" != 0 ] ||
    "$top/packaging/package_managers.sh" "$releases" "$(version "$programs" x86_64 imgsync)" "$output"
"$top/packaging/debian/build.sh" "$programs" "$output"
sed "s|^default_releases=$|default_releases='$releases'|" "$top/install.sh" >"$output/install.sh"
cd "$output"
rm -f SHA256SUMS
sha256sum -- * >"$scratch/SHA256SUMS"
mv "$scratch/SHA256SUMS" SHA256SUMS
say "release.sh: $(wc -l <SHA256SUMS) files in $output"
