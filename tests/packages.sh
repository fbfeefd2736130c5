#!/usr/bin/env bash
# Tests what a release consists of: static programs for both architectures, the installer, Debian packages
# and container images.
#
#   tests/packages.sh [--install] [--profile NAME] [PROGRAMS]
#
# PROGRAMS is a folder that packaging/build.sh has written; without it, the programs are built first. The
# other options are those of packaging/build.sh. Needs Docker, busybox, debootstrap and qemu-user-static.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
# shellcheck source=packaging/common.sh
. packaging/common.sh

options=()
programs=
install=no
while [ $# -gt 0 ]; do
    case $1 in
        --install) install=yes; options+=(--install) ;;
        --profile) options+=(--profile "${2:?--profile needs a value}"); shift ;;
        -*) fail "unknown option $1" ;;
        *) programs=$(realpath "$1") ;;
    esac
    shift
done

missing=()
have debootstrap || PATH=$PATH:/usr/sbin:/sbin
have debootstrap || missing+=(debootstrap)
have busybox || missing+=(busybox-static)
have dpkg-deb || missing+=(dpkg)
if [ ${#missing[@]} != 0 ]; then
    [ "$install" = yes ] || fail "these packages are missing: ${missing[*]}; install them, or use --install"
    apt_install "${missing[@]}" debian-archive-keyring
fi
docker version >/dev/null 2>&1 || fail 'no Docker daemon answers; run tests/peers.sh'

# The packages need not be small, and xz is slow.
export DPKG_DEB_COMPRESSOR_TYPE=${DPKG_DEB_COMPRESSOR_TYPE:-gzip}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
step() { printf '\n== %s\n' "$*" >&2; }

step 'static programs'
if [ -z "$programs" ]; then
    programs=$top/target/dist
    packaging/build.sh "${options[@]}" "$programs"
fi
step 'files of a release'
packaging/release.sh --releases https://example.invalid/releases "$programs" "$scratch/files"
step 'installer'
tests/packages/installer.sh "$scratch/files"
step 'Debian packages'
tests/packages/debian.sh "$programs" "$scratch/files"
step 'container images'
tests/packages/images.sh "$programs"
