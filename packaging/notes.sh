#!/usr/bin/env bash
# Prints the notes of a release: the section of a version in CHANGELOG.md.
#
#   packaging/notes.sh VERSION
#
# A pre-release such as 1.0.0-rc.1 without a section has the one of "Unreleased".
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=packaging/common.sh
. "$top/packaging/common.sh"

version=${1:?usage: notes.sh VERSION}
section() {
    awk -v heading="## [$1]" '
        index($0, "## [") == 1 { inside = index($0, heading) == 1; next }
        inside { print }' "$top/CHANGELOG.md"
}
notes=$(section "$version")
if [ -z "$notes" ] && [[ $version == *-* ]]; then notes=$(section Unreleased); fi
[ -n "$notes" ] || fail "CHANGELOG.md has no section $version"
printf '%s\n' "$notes"
