#!/usr/bin/env bash
# Makes pairs of real layers: what `docker build` writes before and after one dependency has changed.
# All files of the second layer are installed again, so their times are new.
#
#   examples/bench/delta/make_pairs.sh FOLDER [KIND]…
#
# Writes FOLDER/KIND/old.tar and new.tar for each kind: venv, target, npm, apt, source; all of these without
# arguments. venv-small is like venv, with fewer packages. Pairs that exist are kept. Needs pip, npm and debootstrap, and their package registries.
set -euo pipefail

# Packages of a typical image for data analysis, and what changes in them.
pip_packages=(
    numpy==1.26.4 scipy==1.13.0 pandas==2.2.1 scikit-learn==1.4.2 matplotlib==3.8.4 sympy==1.12
    pillow==10.3.0 networkx==3.3 sqlalchemy==2.0.29 django==5.0.4 lxml==5.2.1 cryptography==42.0.5
)
small_packages=(numpy==1.26.4 pandas==2.2.1 sqlalchemy==2.0.29 django==5.0.4)
npm_packages=(
    next@14.1.0 react@18.2.0 react-dom@18.2.0 typescript@5.4.3 webpack@5.91.0 eslint@8.57.0
    jest@29.7.0 lodash@4.17.20 rxjs@7.8.1 aws-sdk@2.1590.0 date-fns@3.6.0 @babel/core@7.24.3
    @babel/preset-env@7.24.3 antd@5.15.4
)
apt_packages=gcc,g++,make,git,curl,python3,perl,vim

# Packs a folder as Docker packs a layer: times in seconds, longer headers only for long names.
pack() {
    local folder=$1 tar=$2
    tar --create --file "$tar.part" --directory "$folder" --sort=name --numeric-owner --format=pax \
        --pax-option=delete=atime,delete=ctime,delete=mtime .
    mv "$tar.part" "$tar"
}

# Installs packages in a virtual environment, at the path that both versions have.
make_venv() {
    rm -rf "$work/root" && mkdir -p "$work/root"
    python3 -m venv "$work/root/venv"
    "$work/root/venv/bin/pip" install --quiet --no-warn-conflicts --no-cache-dir --only-binary :all: "$@"
    pack "$work/root" "$tar"
}
make_target() {
    rm -rf "$work/root" && mkdir -p "$work/root"
    python3 -m pip install --quiet --no-warn-conflicts --no-cache-dir --only-binary :all: --target "$work/root/app" "$@"
    pack "$work/root" "$tar"
}
make_npm() {
    rm -rf "$work/root" && mkdir -p "$work/root/app"
    (cd "$work/root/app" && npm init --yes >/dev/null &&
        npm install --silent --no-audit --no-fund --ignore-scripts "$@" >/dev/null)
    pack "$work/root" "$tar"
}
make_apt() {
    rm -rf "$work/root"
    debootstrap --variant=minbase --include="$1" bookworm "$work/root" >/dev/null
    rm -rf "$work/root/proc" "$work/root/dev" "$work/root"/var/cache/apt/archives/*.deb
    pack "$work/root" "$tar"
}
# A source tree, of which six files have changed.
make_source() {
    rm -rf "$work/root" && mkdir -p "$work/root"
    git clone --quiet --depth 1 "file://$(git -C "$(dirname "$0")" rev-parse --show-toplevel)" \
        "$work/root/src"
    rm -rf "$work/root/src/.git"
    local changed
    for changed in $(cd "$work/root/src" && find . -name '*.rs' | sort | head -n "$1"); do
        echo '// changed' >>"$work/root/src/$changed"
    done
    pack "$work/root" "$tar"
}

make_version() {
    local kind=$1 version=$2
    case $kind-$version in
        venv-old) make_venv "${pip_packages[@]}" requests==2.31.0 ;;
        venv-new) make_venv "${pip_packages[@]}" requests==2.32.3 tabulate==0.9.0 ;;
        venv-small-old) make_venv "${small_packages[@]}" requests==2.31.0 ;;
        venv-small-new) make_venv "${small_packages[@]}" requests==2.32.3 tabulate==0.9.0 ;;
        target-old) make_target "${pip_packages[@]}" requests==2.31.0 ;;
        target-new) make_target "${pip_packages[@]}" requests==2.32.3 ;;
        npm-old) make_npm "${npm_packages[@]}" ;;
        npm-new) make_npm "${npm_packages[@]/lodash@4.17.20/lodash@4.17.21}" left-pad@1.3.0 ;;
        apt-old) make_apt "$apt_packages" ;;
        apt-new) make_apt "$apt_packages,jq" ;;
        source-old) make_source 0 ;;
        source-new) make_source 6 ;;
        *) echo "$0: unknown kind $kind" >&2; exit 2 ;;
    esac
}

folder=${1:?usage: make_pairs.sh FOLDER [KIND]…}
shift
[ $# -gt 0 ] || set -- venv target npm apt source
for kind; do
    for version in old new; do
        tar=$folder/$kind/$version.tar
        [ ! -e "$tar" ] || continue
        mkdir -p "$folder/$kind"
        # Both versions have the same path, which some files contain.
        work=$folder/$kind/work
        rm -rf "$work"
        mkdir "$work"
        echo "making $kind/$version.tar" >&2
        make_version "$kind" "$version"
        rm -rf "$work"
    done
done
