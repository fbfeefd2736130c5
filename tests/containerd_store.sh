#!/usr/bin/env bash
# Prints a folder with a `dockerd` whose images can be in containerd's image store: of Docker 24 or
# later, with a containerd that fits. Downloads both from Debian 13 if the installed ones are older.
#
#   tests/containerd_store.sh FOLDER
#
# FOLDER is where the downloaded programs are kept. Nothing is installed, and no daemon is started.
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
folder=$(realpath -m "${1:?usage: containerd_store.sh FOLDER}")
release=trixie

say() { printf 'containerd_store: %s\n' "$*" >&2; }

major_version() { "$1" --version 2>/dev/null | sed -n 's/^Docker version \([0-9]*\).*/\1/p'; }

is_usable() { [ "$(major_version "$1/dockerd")" -ge 24 ] 2>/dev/null && [ -x "$1/containerd" ]; }

# The programs that the tests start.
programs=(dockerd containerd ctr)

# Puts the installed programs into one folder, since the tests expect them in one.
link_installed() {
    local program path
    for program in "${programs[@]}"; do
        path=$(command -v "$program") || return 1
        ln -sf "$path" "$folder/bin/$program"
    done
}

# apt with its state in the folder, so that the sources of the system do not change.
apt() {
    apt-get -q -o "Dir::State::lists=$folder/lists" -o "Dir::Etc::sourcelist=$folder/sources.list" \
        -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root -o Acquire::Languages=none \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o "Dir::Cache=$folder/cache" "$@" >&2
}

download() {
    local mirror package program
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
        grep '/debian/*$' | head -n 1) || { say 'no Debian mirror is configured'; return 1; }
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$folder/packages"
    echo "deb $mirror $release main" >"$folder/sources.list"
    apt update
    (cd "$folder/packages" && rm -f ./*.deb && apt download docker.io containerd)
    for package in "$folder"/packages/*.deb; do dpkg-deb --extract "$package" "$folder/root"; done
    for program in "${programs[@]}"; do
        find "$folder/root/usr" -type f -path "*bin/$program" -exec mv {} "$folder/bin/" ';'
    done
    rm -rf "$folder/root" "$folder/packages" "$folder/lists" "$folder/cache"
}

mkdir -p "$folder/bin"
is_usable "$folder/bin" || { rm -f "$folder"/bin/*; link_installed && is_usable "$folder/bin"; } || {
    rm -f "$folder"/bin/*
    if ! command -v apt-get >/dev/null 2>&1; then
        say 'this is not a Debian system: put Docker 24 or later into PATH'
        exit 1
    fi
    say "downloading Docker from Debian $release to $folder"
    download
    is_usable "$folder/bin" || { say 'the downloaded dockerd does not run here'; exit 1; }
}
echo "$folder/bin"
