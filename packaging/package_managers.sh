#!/usr/bin/env bash
# Fills in the Homebrew formula and the Scoop manifest of a release: the address of the releases, the version,
# and the checksums of the archives.
#
#   packaging/package_managers.sh RELEASES VERSION FILES
#
# FILES is the folder with the archives, to which imgsync.rb and imgsync.json are written. packaging/release.sh
# calls this script. Checks the syntax with ruby and python3, if they are installed.
set -euo pipefail
export LC_ALL=C
top=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=packaging/common.sh
. "$top/packaging/common.sh"

[ $# = 3 ] || fail 'usage: package_managers.sh RELEASES VERSION FILES'
releases=$1
version=$2
files=$3

# Prints a template with everything filled in. The comments that are for the template only are left out.
fill_in() {
    local text name sum
    text=$(grep -v '"##": ' "$1" | sed '/^# /d')
    text=${text//@RELEASES@/"$releases"}
    text=${text//@VERSION@/"$version"}
    while [[ $text =~ @SHA256\ ([^@]+)@ ]]; do
        name=${BASH_REMATCH[1]}
        [ -e "$files/$name" ] || fail "$files/$name is missing"
        sum=$(sha256sum <"$files/$name")
        text=${text//"@SHA256 $name@"/"${sum%% *}"}
    done
    printf '%s\n' "$text"
}

fill_in "$top/packaging/homebrew/imgsync.rb" >"$files/imgsync.rb"
fill_in "$top/packaging/scoop/imgsync.json" >"$files/imgsync.json"
! have ruby || ruby -c "$files/imgsync.rb" >&2
! have python3 || python3 -m json.tool "$files/imgsync.json" >/dev/null
