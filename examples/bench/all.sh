#!/usr/bin/env bash
# Runs all benchmarks, and writes one Markdown file: the machine, the versions of all programs, and the tables.
# Takes about 25 minutes on 2 cores, with the build, and 10 GB of disk. Nothing else should run on the machine.
# Needs root, because it starts Docker daemons, rsync, and python3 with pip and venv, which make the rebuilt
# layers. tests/peers.sh installs the programs to compare; those that are missing are left out.
#
#   examples/bench/all.sh [OPTIONS] [PART]…     parts: pushes, slow, delta, server, growth (default: all)
#
#   --output FILE     default: target/benchmarks.md
#   --full            larger sizes and more rounds: about an hour
#   --quick           small sizes, to see that everything works: the figures mean nothing
#   --profile NAME    profile of cargo (default: release)
set -euo pipefail
cd "$(dirname "$0")/../.."
top=$PWD
# shellcheck source=packaging/common.sh
. packaging/common.sh

output=target/benchmarks.md
profile=release
size=default
parts=()
while [ $# -gt 0 ]; do
    case $1 in
        --output) output=${2:?--output needs a value}; shift ;;
        --profile) profile=${2:?--profile needs a value}; shift ;;
        --full | --quick) size=${1#--} ;;
        pushes | slow | delta | server | growth) parts+=("$1") ;;
        *) fail "unknown argument $1; the first lines of the script list the arguments" ;;
    esac
    shift
done
[ ${#parts[@]} != 0 ] || parts=(pushes slow delta server growth)
mkdir -p "$(dirname "$output")"
output=$(realpath "$output")

folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/${profile/#dev/debug}
pairs=target/delta-pairs
case $size in
    default)
        pushes=(300 0 rounds=2 registries=imgsync-server)
        slow=(0 16 registries=imgsync-server sources=docker)
        kinds=(venv-small source)
        growth=("tags=1000,10000" blobs=20000)
        ;;
    full)
        pushes=(300 0 rounds=3)
        slow=(0 20)
        kinds=(venv target npm apt source)
        growth=()
        ;;
    quick)
        pushes=(3 0 registries=imgsync-server)
        slow=(0 1 registries=imgsync-server sources=layout)
        kinds=(source)
        growth=(tags=100 repositories=100 referrers=100 blobs=200 pushes=4 patches=8 settle=1)
        ;;
esac
[ "$(id -u)" = 0 ] || fail 'starting Docker daemons needs root'
have rsync || fail 'rsync is missing; install the package rsync'

say "all.sh: building the programs (profile $profile)"
cargo build --quiet --profile "$profile" --workspace --bins
cargo build --quiet --profile "$profile" --package imgsync --example compare --example delta
cargo build --quiet --profile "$profile" --package imgsync-server --example bench --example growth

# Prints a row with the first line of a command's output, if the command exists.
row() {
    local name=$1 line
    shift
    have "$1" || return 0
    line=$("$@" 2>/dev/null | head -n 1) || true
    [ -z "$line" ] || printf '| %s | %s |\n' "$name" "$line"
}

describe_machine() {
    local processor memory
    processor=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
    memory=$(awk '/^MemTotal/ { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo)
    echo '| Machine | |'
    echo '|---|---|'
    row date date --utc '+%Y-%m-%d %H:%M UTC'
    echo "| processor | ${processor:-$machine}, $(nproc) cores |"
    echo "| memory | $memory |"
    row kernel uname --kernel-name --kernel-release
    row system sed -n 's/^PRETTY_NAME="\(.*\)"$/\1/p' /etc/os-release
    row 'file system' stat --file-system --format %T .
    # More than a few tenths: something else runs, and the figures mean little.
    echo "| load average before | $(cut -d ' ' -f 1-2 /proc/loadavg) |"
    row commit git describe --always --dirty
    row rustc rustc --version
    row profile echo "$profile"
    row imgsync "$folder/imgsync" --version
    row imgsync-server "$folder/imgsync-server" --version
    row docker docker --version
    row dockerd dockerd --version
    row podman podman --version
    row skopeo skopeo --version
    row docker-registry docker-registry --version
    row rsync rsync --version
}

failed=()
# Runs a part, and writes its tables: part NAME HEADING COMMAND ARGUMENT…
part() {
    local name=$1 heading=$2 command=$3 begin=$SECONDS
    shift 3
    [[ " ${parts[*]} " == *" $name "* ]] || return 0
    say "all.sh: $name"
    printf '\n## %s\n\n    %s %s\n\n' "$heading" "$command" "$*" >>"$output"
    if ! "$command" "$@" >>"$output"; then
        failed+=("$name")
        printf '\nFAILED\n' >>"$output"
    fi
    printf '\nTook %s s.\n' "$((SECONDS - begin))" >>"$output"
}

# The programs of the benchmarks.
compare() { "$folder/examples/compare" "$@"; }
bench() { "$folder/examples/bench" "$@"; }
growth() { "$folder/examples/growth" "$@"; }
delta() {
    examples/bench/delta/make_pairs.sh "$@" >&2 &&
        "$folder/examples/delta" "$@"
}

{
    printf '# Results\n\n'
    if [ "$size" = quick ] || [ "$profile" != release ]; then
        printf 'Small sizes or another profile than release: these figures mean nothing.\n\n'
    fi
    describe_machine
} >"$output"
part pushes 'Pushes' compare "${pushes[@]}"
part slow 'Pushes over a slow link' compare "${slow[@]}"
part delta 'Rebuilt layers' delta "$pairs" "${kinds[@]}"
part server 'Server' bench
part growth 'Growth' growth "${growth[@]}"
printf '\nEverything took %s minutes, with the build.\n' "$(((SECONDS + 59) / 60))" >>"$output"
say "all.sh: the results are in $output"
[ ${#failed[@]} = 0 ] || fail "failed: ${failed[*]}"
