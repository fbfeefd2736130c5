# Prepares wine for the tests: the libraries that it lacks, and the folder that each test copies. Source this
# file after tests/targets/toolchain.sh.
# shellcheck shell=bash

: "${top:?}" "${folder:?}" "${windows:?}"

# Builds a library with one function, which wine 8 lacks, as a library of the system.
build_stub() {
    local library=$folder/wine/drive_c/windows/system32/$1.dll
    [ "$library" -nt "$top/tests/targets/$2" ] ||
        x86_64-w64-mingw32-gcc -shared -O1 -o "$library" "$top/tests/targets/$2" -ladvapi32
}

# Copies the programs to one folder, and creates the folder of wine.
prepare_wine() {
    local built=$folder/cargo/$windows/debug
    mkdir -p "$folder/windows"
    cp "$built/imgsync.exe" "$built/examples/windows_helper.exe" "$folder/windows"
    if [ ! -e "$folder/wine" ]; then
        rm -rf "$folder/wine-new"
        mkdir -p "$folder/wine-new"
        WINEPREFIX=$folder/wine-new WINEDEBUG=-all /usr/lib/wine/wine64 wineboot --init 2>/dev/null
        # The registry is written when wine's server ends.
        WINEPREFIX=$folder/wine-new /usr/lib/wine/wineserver64 --wait
        mv "$folder/wine-new" "$folder/wine"
    fi
    build_stub bcryptprimitives process_prng.c
    build_stub api-ms-win-core-winrt-error-l1-1-0 originate_error.c
}

# Runs the test that the release workflow runs on Windows.
smoke_under_wine() {
    # What an earlier run has left.
    rm -rf "$folder"/wine/drive_c/users/*/AppData/Local/imgsync
    WINEPREFIX=$folder/wine WINEDEBUG=-all \
        packaging/smoke_tool.sh "$folder/windows/imgsync.exe" /usr/lib/wine/wine64
}

# Runs a command with the variables that tests/support/wine.rs reads.
run_under_wine() {
    IMGSYNC_TESTS_WINE=$folder/wine IMGSYNC_TESTS_WINDOWS=$folder/windows/imgsync.exe "$@"
}
