# Functions of the scripts in this folder. Set `top` to the top folder of the repository, then source this file.
# shellcheck shell=bash

: "${top:?}"
machine=$(uname -m)

say() { printf '%s\n' "$*" >&2; }
fail() { say "${0##*/}: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

check_architecture() {
    case $1 in x86_64 | aarch64) ;; *) fail "unknown architecture $1; use x86_64 or aarch64" ;; esac
}

# Prints the name that Debian and Docker have for an architecture.
debian_name() { if [ "$1" = x86_64 ]; then echo amd64; else echo arm64; fi; }

# Prints the program that runs programs of an architecture, or nothing if the machine can do so itself.
emulator() {
    [ "$1" != "$machine" ] || return 0
    local name
    for name in "qemu-$1" "qemu-$1-static"; do
        if have "$name"; then echo "$name"; return; fi
    done
    echo "qemu-$1-static"
}

# Prints the version of a program in a folder that build.sh has written: version FOLDER ARCH PROGRAM.
version() {
    local runner text
    runner=$(emulator "$2")
    text=$(${runner:+"$runner"} "$1/$2/$3" --version) || fail "cannot run $1/$2/$3"
    printf '%s\n' "${text##* }"
}

# Prints the time stamp of all files in packages and images: the date of the commit, so that the same commit
# gives the same bytes.
source_date() {
    if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
        echo "$SOURCE_DATE_EPOCH"
    else
        git -C "$top" log -1 --format=%ct 2>/dev/null || stat --format %Y "$top/CHANGELOG.md"
    fi
}

# Returns whether a program needs no loader and no shared libraries.
is_static() {
    local headers
    have readelf || fail 'readelf is missing; install the package binutils'
    headers=$(readelf --program-headers "$1" 2>/dev/null) || fail "$1 is no Linux program"
    [[ $headers != *INTERP* ]]
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -- "$@"; fi; }

# Installs Debian packages. The caller does so only if the user has asked for it.
apt_install() {
    have apt-get || fail "install these programs: $*"
    say "${0##*/}: apt-get install $*"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq)
    as_root "${apt[@]}" update </dev/null >&2
    as_root "${apt[@]}" install -y --no-install-recommends "$@" </dev/null >&2
}
