#!/usr/bin/env bash
# Builds the Debian packages imgsync_ARCH.deb and imgsync-server_ARCH.deb from programs that
# packaging/build.sh has built.
#
#   packaging/debian/build.sh [--version VERSION] PROGRAMS OUTPUT [ARCH...]
#
# PROGRAMS has a folder for each architecture (default: all that are there). The names of the packages have
# no version, so that the address of the latest one does not change. DEBFULLNAME and DEBEMAIL name the
# maintainer, as in Debian's own tools.
#
# Needs only dpkg-deb. cargo-deb would be one more program to compile; its work is to find out dependencies
# of programs on libraries, and these programs have none.
set -euo pipefail
export LC_ALL=C
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/packaging/debian
# shellcheck source=packaging/common.sh
. "$top/packaging/common.sh"

version=
if [ "${1:-}" = --version ]; then version=${2:?--version needs a value}; shift 2; fi
[ $# -ge 2 ] || fail 'usage: build.sh [--version VERSION] PROGRAMS OUTPUT [ARCH...]'
programs=$(realpath "$1")
mkdir -p "$2"
output=$(realpath "$2")
shift 2
have dpkg-deb || fail 'dpkg-deb is missing; install the package dpkg'
maintainer="${DEBFULLNAME:-$(id -un)} <${DEBEMAIL:-$(id -un)@$(uname -n)}>"
SOURCE_DATE_EPOCH=$(source_date)
export SOURCE_DATE_EPOCH

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
umask 022

# Writes a file of a package, with the folders above it: put MODE SOURCE PATH.
put() { install -D -m "$1" "$2" "$root$3"; }

compress() { gzip -9 --no-name --stdout; }

write_documents() {
    local name=$1 documents=$root/usr/share/doc/$1
    mkdir -p "$documents"
    {
        echo 'This program may be used under the terms of the MIT license or of the Apache License,'
        echo 'Version 2.0, at your option. The latter is in /usr/share/common-licenses/Apache-2.0.'
        echo
        cat "$top/LICENSE-MIT"
    } >"$documents/copyright"
    compress <"$top/CHANGELOG.md" >"$documents/changelog.gz"
    {
        echo "$name ($package_version) unstable; urgency=medium"
        printf '\n  * See changelog.gz.\n\n'
        echo " -- $maintainer  $(date --utc --rfc-email --date "@$SOURCE_DATE_EPOCH")"
    } | compress >"$documents/changelog.Debian.gz"
}

# Writes what the program itself generates: the manual pages and the completions.
write_generated() {
    local name=$1 manual=$root/usr/share/man/man1 page
    mkdir -p "$manual"
    run "$name" man "$manual" >/dev/null
    for page in "$manual"/*.1; do
        compress <"$page" >"$page.gz"
        rm "$page"
    done
    run "$name" completions bash >"$scratch/completions"
    put 644 "$scratch/completions" "/usr/share/bash-completion/completions/$name"
    run "$name" completions zsh >"$scratch/completions"
    put 644 "$scratch/completions" "/usr/share/zsh/vendor-completions/_$name"
    run "$name" completions fish >"$scratch/completions"
    put 644 "$scratch/completions" "/usr/share/fish/vendor_completions.d/$name.fish"
}

run() {
    local program=$programs/$arch/$1
    shift
    ${runner:+"$runner"} "$program" "$@"
}

write_service() {
    local unit=$root/usr/lib/systemd/system/imgsync-server.service script
    mkdir -p "${unit%/*}"
    # The comment at the top of the example explains the installation by hand.
    sed -e '1,/^\[Unit\]$/{/^#/d}' -e 's|/usr/local/bin/|/usr/bin/|' \
        "$top/examples/systemd/imgsync-server.service" >"$unit"
    put 644 "$here/imgsync-server/config.yml" /etc/imgsync/config.yml
    echo /etc/imgsync/config.yml >"$root/DEBIAN/conffiles"
    for script in postinst prerm postrm; do put 755 "$here/imgsync-server/$script" "/DEBIAN/$script"; done
}

write_control() {
    local name=$1 depends=$2 summary=$3 description=$4
    {
        echo "Package: $name"
        echo "Version: $package_version"
        echo "Architecture: $(debian_name "$arch")"
        echo "Maintainer: $maintainer"
        echo "Installed-Size: $(du --summarize --apparent-size --block-size=1024 "$root" | cut -f 1)"
        [ -z "$depends" ] || echo "Depends: $depends"
        echo 'Recommends: ca-certificates'
        echo 'Section: admin'
        echo 'Priority: optional'
        echo "Description: $summary"
        printf '%s\n' "$description"
    } >"$root/DEBIAN/control"
    (cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) \
        >"$root/DEBIAN/md5sums"
}

build() {
    local name=$1
    shift
    write_documents "$name"
    write_generated "$name"
    put 755 "$programs/$arch/$name" "/usr/bin/$name"
    write_control "$name" "$@"
    # Not zstd, the default of Ubuntu: Debian 11 cannot read it.
    dpkg-deb --root-owner-group -Z"${DPKG_DEB_COMPRESSOR_TYPE:-xz}" --build "$root" "$output/${name}_$(debian_name "$arch").deb" >&2
    rm -rf "$root"
}

architectures=("$@")
if [ ${#architectures[@]} = 0 ]; then
    for arch in x86_64 aarch64; do [ ! -d "$programs/$arch" ] || architectures+=("$arch"); done
fi
[ ${#architectures[@]} != 0 ] || fail "$programs has no folder x86_64 or aarch64"

root=$scratch/root
for arch in "${architectures[@]}"; do
    check_architecture "$arch"
    runner=$(emulator "$arch")
    # A pre-release is older than the release: 1.0.0-rc.1 becomes 1.0.0~rc.1.
    package_version=${version:-$(version "$programs" "$arch" imgsync | sed 's/-/~/')-1}
    mkdir -p "$root/DEBIAN"
    build imgsync '' 'push container images, uploading only missing layers' \
        ' imgsync pushes local images to a registry, mirrors repositories and pulls
 images. It works with every registry.'
    mkdir -p "$root/DEBIAN"
    write_service
    build imgsync-server adduser 'small registry for container images, with a pull-through cache' \
        ' imgsync-server uses the configuration and the storage folder of the stock
 registry (registry:2), and can cache images of other registries.'
done
