#!/bin/sh
# Installs imgsync or imgsync-server from a release, after verifying its checksum. `sh install.sh --help`
# prints the options.
set -eu

usage() {
    cat <<'TEXT'
Installs imgsync or imgsync-server from a release. For Linux and macOS on x86-64 and ARM64; imgsync-server
only for Linux.

  sh install.sh [OPTIONS] [PROGRAM...]    imgsync (default), imgsync-server, or both

  --version VERSION   install this release, for example 0.1.0 (default: the latest one)
  --dir FOLDER        install to this folder (default: /usr/local/bin for root, ~/.local/bin for other users)
  -h, --help          print this help

Downloads the list of checksums and an archive for each program, verifies the checksum, and writes the
program to the folder. Changes nothing else. Run it again to update; delete the program to remove it.

IMGSYNC_RELEASES is the address of the releases, for example of a mirror.
TEXT
}

# packaging/release.sh writes the address here, so that the installer of a release needs no variable.
default_releases=

say() { printf '%s\n' "$*" >&2; }
fail() { say "install.sh: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Downloads a file: download ADDRESS FILE [HINT].
download() {
    if have curl; then
        # No redirect from HTTPS to plain HTTP.
        protocols='=http,https'
        case $1 in https://*) protocols='=https' ;; esac
        curl --proto "$protocols" --fail --silent --show-error --location --retry 3 --output "$2" "$1" ||
            fail "cannot download $1${3:+; $3}"
    elif have wget; then
        wget -q -O "$2" "$1" || fail "cannot download $1${3:+; $3}"
    else
        fail 'curl or wget is needed'
    fi
}

checksum() {
    if have sha256sum; then
        sha256sum "$1"
    elif have shasum; then
        shasum -a 256 "$1"
    else
        fail 'sha256sum or shasum is needed'
    fi
}

# Prints the system in the names of the archives.
system() {
    case $(uname -m) in
        x86_64 | amd64) arch=x86_64 ;;
        aarch64 | arm64) arch=aarch64 ;;
        *) fail "there are no programs for $(uname -m); build imgsync from source" ;;
    esac
    case $(uname -s) in
        Linux) echo $arch-linux ;;
        Darwin)
            case $1 in *imgsync-server*) fail 'imgsync-server is only for Linux' ;; esac
            echo $arch-macos
            ;;
        *) fail "there are no programs for $(uname -s) here; build imgsync from source" ;;
    esac
}

# Verifies a downloaded file with the list of checksums.
verify() {
    expected=$(awk -v name="$1" '$2 == name || $2 == "*" name { print $1 }' "$scratch/SHA256SUMS")
    [ -n "$expected" ] || fail "SHA256SUMS of the release does not list $1"
    actual=$(checksum "$scratch/$1")
    actual=${actual%% *}
    [ "$actual" = "$expected" ] ||
        fail "the checksum of $1 is wrong, so nothing is installed: expected $expected, got $actual"
}

install_program() {
    archive=$1-$system.tar.gz
    say "downloading $address/$archive"
    download "$address/$archive" "$scratch/$archive"
    verify "$archive"
    tar -xzf "$scratch/$archive" -C "$scratch" "$1"
    chmod 755 "$scratch/$1"
    # A rename, because a running program cannot be overwritten.
    if ! { cp "$scratch/$1" "$folder/.$1.new" && mv -f "$folder/.$1.new" "$folder/$1"; }; then
        fail "cannot write $folder/$1; use sudo, or choose another folder with --dir"
    fi
    version=$("$folder/$1" --version) || fail "$folder/$1 does not run on this machine"
    say "installed $version as $folder/$1 (the checksum is correct)"
}

# Says so if a command in this folder is not found by its name, or if another program is found.
check_path() {
    case :$PATH: in
        *":$folder:"*) ;;
        *)
            say "$folder is not in PATH; add it: export PATH=\"$folder:\$PATH\""
            return
            ;;
    esac
    for program; do
        found=$(command -v "$program" || true)
        [ "$found" = "$folder/$program" ] || say "the command $program runs $found, which comes first in PATH"
    done
}

# In a function, so that an incomplete download of this script does nothing.
main() {
    version=
    folder=
    programs=
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage; exit ;;
            --version | --dir)
                [ -n "${2:-}" ] || fail "$1 needs a value"
                if [ "$1" = --dir ]; then folder=$2; else version=$2; fi
                shift
                ;;
            imgsync | imgsync-server) programs="$programs $1" ;;
            *) fail "unknown argument $1; --help prints the arguments" ;;
        esac
        shift
    done
    programs=${programs:-imgsync}
    releases=${IMGSYNC_RELEASES:-$default_releases}
    [ -n "$releases" ] ||
        fail 'this script is not from a release; set IMGSYNC_RELEASES to the address of the releases'
    if [ -n "$version" ]; then
        address=$releases/download/v${version#v}
    else
        address=$releases/latest/download
    fi
    if [ -z "$folder" ]; then
        if [ "$(id -u)" = 0 ]; then
            folder=/usr/local/bin
        else
            folder=${HOME:?HOME is not set; use --dir}/.local/bin
        fi
    fi
    system=$(system "$programs")
    mkdir -p "$folder" || fail "cannot create $folder; use sudo, or choose another folder with --dir"
    folder=$(cd "$folder" && pwd)

    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    hint="is $releases the address of the releases?"
    [ -z "$version" ] || hint="is there a release $version?"
    download "$address/SHA256SUMS" "$scratch/SHA256SUMS" "$hint"
    for program in $programs; do install_program "$program"; done
    # shellcheck disable=SC2086
    check_path $programs
}

main "$@"
