# The toolchain of tests/targets.sh: Rust of Debian 12, which builds the standard library of a target from its
# sources, mingw, and zig as a C compiler for macOS. Source this file after packaging/common.sh, with `folder`
# and `install` set.
# shellcheck shell=bash

: "${top:?}" "${folder:?}" "${install:=no}"

windows=x86_64-pc-windows-gnu
zig_version=0.13.0

# Prints the packages that are missing.
missing_packages() {
    [ -x /usr/bin/cargo ] || echo cargo-web
    [ -x /usr/bin/rustc ] || echo rustc-web
    [ -e /usr/lib/rustlib/src/rust/library/Cargo.lock ] || echo rust-web-src
    have x86_64-w64-mingw32-gcc || echo gcc-mingw-w64-x86-64-win32
    [ -x /usr/lib/wine/wine64 ] || echo wine64
    # The tests of logins need a registry.
    have docker-registry || echo docker-registry
    python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
}

require_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    [ ${#packages[@]} != 0 ] || return 0
    [ "$install" = yes ] || fail "these packages are missing: ${packages[*]}; install them, or use --install"
    apt_install "${packages[@]}"
}

require_zig() {
    [ ! -e "$folder/zig-$zig_version" ] || return 0
    [ "$install" = yes ] || fail "zig is missing; use --install"
    python3 -m venv "$folder/zig-new"
    "$folder/zig-new/bin/pip" install --quiet "ziglang==$zig_version"
    mv "$folder/zig-new" "$folder/zig-$zig_version"
}

# Runs a command of Debian's cargo that builds the standard library too.
cross() {
    local command=$1
    shift
    mkdir -p "$folder/rtstartup" "$folder/empty"
    # The start of each Windows program, which the packages contain only as sources.
    local object
    for object in rsbegin rsend; do
        [ -e "$folder/rtstartup/$object.o" ] ||
            RUSTC_BOOTSTRAP=1 /usr/bin/rustc --target "$windows" --emit obj -o "$folder/rtstartup/$object.o" \
                "/usr/lib/rustlib/src/rust/library/rtstartup/$object.rs"
    done
    # SDKROOT: without it, build scripts look for Xcode.
    env PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
        CARGO_TARGET_DIR="$folder/cargo" CARGO_INCREMENTAL=0 \
        CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUSTFLAGS="-L native=$folder/rtstartup" \
        IMGSYNC_TESTS_ZIG="$folder/zig-$zig_version/bin/python" SDKROOT="$folder/empty" \
        CC_aarch64_apple_darwin="$top/tests/targets/zig-cc" AR_aarch64_apple_darwin="$top/tests/targets/zig-ar" \
        CC_x86_64_apple_darwin="$top/tests/targets/zig-cc" AR_x86_64_apple_darwin="$top/tests/targets/zig-ar" \
        /usr/bin/cargo "$command" --locked -Zbuild-std=std,panic_abort "$@"
}
