#!/usr/bin/env bash
# Builds imgsync and imgsync-server for Linux, linked statically, and tests the programs (smoke.sh).
#
#   packaging/build.sh [OPTIONS] [FOLDER]     FOLDER/ARCH/PROGRAM; default: target/dist
#
#   --arch x86_64|aarch64   build only for this architecture; can be repeated
#   --program NAME          build only imgsync or imgsync-server, without the test
#   --profile NAME          profile of cargo (default: release)
#   --install               install what is missing: packages with apt-get (needs root or sudo), and targets
#                           of rustup. Without this option, nothing is installed
#
# Uses the first toolchain that has the standard library of all architectures:
#   1. cargo in PATH, for example of rustup after `rustup target add aarch64-unknown-linux-gnu`
#   2. /usr/bin/cargo, for example of Debian 12 with rustc-web, cargo-web and libstd-rust-web-dev:arm64
# For another architecture than that of this machine, also needs its C compiler, and qemu for the test.
# If CARGO_TARGET_DIR is set, cargo builds there.
#
# The programs use glibc: many toolchains lack the target for musl, whose allocator is slower.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
folder=$top/target/dist
architectures=()
programs=()
profile=release
install=no

# shellcheck source=packaging/common.sh
. "$top/packaging/common.sh"

while [ $# -gt 0 ]; do
    case $1 in
        --arch) architectures+=("${2:?--arch needs a value}"); shift ;;
        --program) programs+=("${2:?--program needs a value}"); shift ;;
        --profile) profile=${2:?--profile needs a value}; shift ;;
        --install) install=yes ;;
        -*) fail "unknown option $1" ;;
        *) folder=$(realpath -m "$1") ;;
    esac
    shift
done
cd "$top"
smoke=yes
[ ${#programs[@]} = 0 ] || smoke=no
[ ${#architectures[@]} != 0 ] || architectures=(x86_64 aarch64)
[ ${#programs[@]} != 0 ] || programs=(imgsync imgsync-server)
for arch in "${architectures[@]}"; do check_architecture "$arch"; done
have cargo || PATH=$PATH:${HOME:-/root}/.cargo/bin

target() { echo "$1-unknown-linux-gnu"; }

# Requires a program. Installs its packages if the user asks for that.
require() {
    local program=$1
    shift
    have "$program" && return
    [ "$install" = yes ] || fail "$program is missing; install the packages $*, or use --install"
    apt_install "$@"
}

c_compiler() {
    if [ "$1" = "$machine" ]; then echo cc; else echo "$1-linux-gnu-gcc"; fi
}

# Returns whether a compiler has the standard library of all architectures.
has_libraries() {
    local rustc=$1 arch libraries
    have "$rustc" || return 1
    for arch in "${architectures[@]}"; do
        libraries=$("$rustc" --print target-libdir --target "$(target "$arch")" 2>/dev/null) || return 1
        compgen -G "$libraries/libstd-*.rlib" >/dev/null || return 1
    done
}

# Sets `cargo` and `rustc`.
choose_toolchain() {
    if has_libraries rustc; then
        cargo=cargo rustc=rustc
    elif has_libraries /usr/bin/rustc && [ -x /usr/bin/cargo ]; then
        cargo=/usr/bin/cargo rustc=/usr/bin/rustc
    else
        return 1
    fi
}

add_rustup_targets() {
    local arch
    have rustup || return 0
    for arch in "${architectures[@]}"; do
        # Without the network, another toolchain may have the library; if none has, the script says what is missing.
        rustup target add "$(target "$arch")" >&2 || true
    done
}

for arch in "${architectures[@]}"; do
    if [ "$arch" = "$machine" ]; then
        require cc gcc libc6-dev
    else
        require "$(c_compiler "$arch")" "gcc-${arch/_/-}-linux-gnu" "libc6-dev-$(debian_name "$arch")-cross"
        [ $smoke = no ] || require "$(emulator "$arch")" qemu-user-static
    fi
done
if ! choose_toolchain; then
    [ "$install" = no ] || add_rustup_targets
    choose_toolchain || {
        say 'build.sh: no Rust toolchain has the standard library of these architectures. With rustup, run:'
        for arch in "${architectures[@]}"; do say "    rustup target add $(target "$arch")"; done
        say 'With Debian 12, install rustc-web, cargo-web, and libstd-rust-web-dev:arm64 after'
        say "'dpkg --add-architecture arm64'."
        exit 1
    }
fi
say "build.sh: $("$cargo" --version), $(command -v "$cargo")"

# Builds for one architecture.
build() {
    local arch=$1 triple upper arguments=() program built lookups
    triple=$(target "$arch")
    upper=${triple//-/_}
    upper=${upper^^}
    for program in "${programs[@]}"; do arguments+=(--package "$program" --bin "$program"); done
    built=$(realpath -m "${CARGO_TARGET_DIR:-$top/target}")/$triple
    mkdir -p "$built"
    lookups=$built/built_in_lookups.o
    "$(c_compiler "$arch")" -O2 -fPIC -c -o "$lookups" "$top/packaging/built_in_lookups.c"
    # With --target, RUSTFLAGS apply to the programs and not to build scripts.
    env RUSTC="$rustc" RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static -C link-arg=$lookups" \
        "CARGO_TARGET_${upper}_LINKER=$(c_compiler "$arch")" \
        "$cargo" build --locked --profile "$profile" --target "$triple" "${arguments[@]}" >&2
    # Only for the profile `dev`, the folder has another name.
    built=$built/${profile/#dev/debug}
    mkdir -p "$folder/$arch"
    for program in "${programs[@]}"; do
        install -m 755 "$built/$program" "$folder/$arch/$program"
        is_static "$folder/$arch/$program" || fail "$folder/$arch/$program is not linked statically"
    done
}

for arch in "${architectures[@]}"; do
    build "$arch"
    [ $smoke = no ] || "$top/packaging/smoke.sh" "$folder/$arch" "$(emulator "$arch")" | sed "s/^/$arch  /"
done
