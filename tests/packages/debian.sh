#!/usr/bin/env bash
# Tests the Debian packages in a container with systemd: installs, uses, upgrades, removes and purges them.
#
#   tests/packages/debian.sh PROGRAMS FILES
#
# PROGRAMS is the folder that packaging/build.sh has written, FILES that of packaging/release.sh. debootstrap
# makes the container, of the release IMGSYNC_TESTS_SUITE (default: bookworm). It is kept for the next run, as the
# image imgsync-tests/debian:SUITE.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=packaging/common.sh
. "$top/packaging/common.sh"

programs=$(realpath "${1:?usage: debian.sh PROGRAMS FILES}")
files=$(realpath "${2:?usage: debian.sh PROGRAMS FILES}")
suite=${IMGSYNC_TESTS_SUITE:-bookworm}
image=imgsync-tests/debian:$suite
container=imgsync-tests-debian-$$
debian=$(debian_name "$machine")

scratch=$(mktemp -d)
finish() {
    status=$?
    if [ "$status" != 0 ]; then
        # Without the output of `config`, which runs before each start.
        docker exec "$container" journalctl --no-pager --unit imgsync-server | grep -E "INFO|WARN|error|hint|systemd" | tail -n 20 >&2 || true
    fi
    docker rm --force --volumes "$container" >/dev/null 2>&1 || true
    as_root rm -rf --one-file-system "$scratch"
    exit "$status"
}
trap finish EXIT

if ! docker image inspect "$image" >/dev/null 2>&1; then
    say "debian.sh: debootstrap $suite"
    as_root debootstrap --variant=minbase --include=systemd,systemd-sysv,adduser "$suite" "$scratch/root" \
        http://deb.debian.org/debian >"$scratch/debootstrap.log" || fail "$(tail -n 5 "$scratch/debootstrap.log")"
    as_root tar --create --directory "$scratch/root" --exclude='./var/cache/apt/*' --exclude='./dev/*' . |
        docker import --change 'CMD ["/sbin/init"]' - "$image" >/dev/null
fi

# A newer version of the same programs, for the upgrade.
DPKG_DEB_COMPRESSOR_TYPE=none "$top/packaging/debian/build.sh" --version 99.0-1 "$programs" \
    "$scratch/new" "$machine" 2>/dev/null

# systemd needs the control groups, and SYS_ADMIN to mount. Without a network, port 5000 is free.
docker run --detach --name "$container" --network none --cap-add SYS_ADMIN --cgroupns host \
    --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
    --tmpfs /run --tmpfs /run/lock --tmpfs /tmp --volume /sys/fs/cgroup:/sys/fs/cgroup:rw "$image" >/dev/null
inside() { docker exec "$container" "$@"; }
inside sh -c 'until systemctl is-system-running 2>/dev/null | grep -qE "running|degraded"; do sleep 0.1; done'
docker cp --quiet "$files/imgsync_$debian.deb" "$container:/root/imgsync.deb"
docker cp --quiet "$files/imgsync-server_$debian.deb" "$container:/root/imgsync-server.deb"
docker cp --quiet "$scratch/new/imgsync-server_$debian.deb" "$container:/root/new.deb"
docker cp --quiet "$top/tests/archives/docker28-containerd-store.tar" "$container:/root/image.tar"

# Waits until the server answers. `systemctl start` returns before that.
wait_for_server() {
    for _ in $(seq 100); do
        if inside imgsync-server health --addr "$1" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    fail "the server does not answer at $1"
}
expect() {
    local what=$1
    shift
    inside "$@" >"$scratch/output" 2>&1 || fail "$what: $(cat "$scratch/output")"
}
expect_not() {
    local what=$1
    shift
    ! inside "$@" >"$scratch/output" 2>&1 || fail "$what: $(cat "$scratch/output")"
}
digest_at() { inside imgsync inspect "$1/team/app:v1" --json | grep -o 'sha256:[0-9a-f]*' | head -n 1; }
# Prints the fenced block of a document that contains a text.
fence() {
    awk -v text="$2" '
        /^```/ { if (found) { exit } inside = !inside; block = ""; next }
        inside { block = block $0 "\n"; if (index($0, text)) found = 1 }
        END { printf "%s", block }' "$top/docs/$1"
}
# Runs that block. There is no sudo, and no editor.
run_fence() {
    local script
    script=$(fence "$@" | sed -e '/^sudoedit/d' -e 's/^sudo //')
    [ -n "$script" ] || fail "docs/$1 has no command $2"
    expect "the commands of docs/$1 fail: $script" sh -euc "$script"
}
process() { inside systemctl show --property MainPID --value imgsync-server; }

say 'debian.sh: install'
inside dpkg --install /root/imgsync.deb /root/imgsync-server.deb >"$scratch/dpkg.log" 2>&1 ||
    fail "$(cat "$scratch/dpkg.log")"
wait_for_server 127.0.0.1:5000
expect 'the service is not enabled' systemctl is-enabled --quiet imgsync-server
[ "$(inside stat --format '%U:%G %a' /var/lib/imgsync)" = 'imgsync:imgsync 750' ] ||
    fail 'the folder of the images has another owner or mode'
user=$(inside sed -n 's/^Uid:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$(process)/status")
[ "$user" = "$(inside id --user imgsync)" ] || fail "the server runs as user $user"
for program in imgsync imgsync-server; do
    expect "$program: no manual page" sh -c "gzip -dc /usr/share/man/man1/$program.1.gz | grep -q '^.SH'"
    expect "$program: no completions" bash -n "/usr/share/bash-completion/completions/$program"
    expect "$program: no copyright" grep -q MIT "/usr/share/doc/$program/copyright"
done
expect 'push' imgsync push /root/image.tar 127.0.0.1:5000/team/app:v1
digest=$(digest_at 127.0.0.1:5000)

say 'debian.sh: the commands of the documents'
run_fence install.md 'systemctl status'
run_fence server.md 'kill -HUP'
run_fence stock-registry.md 'systemctl stop'
wait_for_server 127.0.0.1:5000
expect 'backup' imgsync-server backup /srv/registry-backup --config /etc/imgsync/config.yml
run_fence server.md 'mv /var/lib/imgsync'
wait_for_server 127.0.0.1:5000
found=$(digest_at 127.0.0.1:5000)
[ "$found" = "$digest" ] || fail "the restored backup serves $found, and not $digest"

say 'debian.sh: the modules for names of the system are not loaded'
cat >"$scratch/module.c" <<'C'
#include <stdlib.h>
__attribute__((constructor)) static void crash(void) { abort(); }
C
cc -shared -fPIC -o "$scratch/module.so" "$scratch/module.c"
docker cp --quiet "$scratch/module.so" "$container:/usr/lib/$machine-linux-gnu/libnss_crash.so.2"
inside sh -c 'echo "hosts: files crash dns" >/etc/nsswitch.conf; echo "passwd: files crash" >>/etc/nsswitch.conf'
expect_not 'getent does not load the module' getent hosts registry.invalid
expect_not 'a host of /etc/hosts is found' imgsync ls registry.invalid
grep -q 'registry.invalid' "$scratch/output" || fail "imgsync does not look up names: $(cat "$scratch/output")"
grep -qi 'lookup address information' "$scratch/output" || fail "imgsync crashes: $(cat "$scratch/output")"
inside sh -c 'echo "127.0.0.1 registry.test" >>/etc/hosts'
expect 'imgsync does not find a name in /etc/hosts' imgsync ls registry.test:5000 --plain-http

say 'debian.sh: upgrade, with a changed configuration'
inside sed -i 's/127.0.0.1:5000/127.0.0.1:5001/' /etc/imgsync/config.yml
old=$(process)
inside dpkg --install /root/new.deb >"$scratch/dpkg.log" 2>&1 || fail "$(cat "$scratch/dpkg.log")"
wait_for_server 127.0.0.1:5001
[ "$(process)" != "$old" ] || fail 'the upgrade does not restart the server'
found=$(digest_at 127.0.0.1:5001)
[ "$found" = "$digest" ] || fail "the upgrade changes the image: $digest, now $found"

say 'debian.sh: a disabled service stays disabled'
inside systemctl disable --quiet --now imgsync-server
inside dpkg --install --force-downgrade /root/imgsync-server.deb >/dev/null 2>&1
expect_not 'the upgrade enables the service' systemctl is-enabled --quiet imgsync-server
inside systemctl enable --quiet --now imgsync-server
wait_for_server 127.0.0.1:5001

say 'debian.sh: remove'
inside dpkg --remove imgsync-server >/dev/null 2>&1
expect_not 'the server still runs' systemctl is-active --quiet imgsync-server
expect_not 'the program is still there' test -e /usr/bin/imgsync-server
expect 'the configuration is removed' grep -q 127.0.0.1:5001 /etc/imgsync/config.yml

say 'debian.sh: purge'
inside dpkg --purge imgsync-server >"$scratch/dpkg.log" 2>&1
expect_not 'the configuration is still there' test -e /etc/imgsync/config.yml
expect 'the images are removed' test -d /var/lib/imgsync/docker/registry/v2/repositories/team/app
grep -q 'are kept' "$scratch/dpkg.log" || fail "purge does not say what is kept: $(cat "$scratch/dpkg.log")"
inside dpkg --purge imgsync >/dev/null 2>&1
expect_not 'imgsync is still there' sh -c 'command -v imgsync'

say 'debian.sh: install again'
inside dpkg --install /root/imgsync.deb /root/imgsync-server.deb >"$scratch/dpkg.log" 2>&1 ||
    fail "$(cat "$scratch/dpkg.log")"
wait_for_server 127.0.0.1:5000
found=$(digest_at 127.0.0.1:5000)
[ "$found" = "$digest" ] || fail "the new installation serves $found, and not $digest"
