#!/usr/bin/env bash
# The real programs that the tests speak with: installs what is missing, starts dockerd if no
# daemon answers, and prints a line for each peer. Safe to run again and again.
#
#   tests/peers.sh [--env FILE]   install, start, report; FILE gets what the tests must export
#   tests/peers.sh stop           stop the daemon that this script started, and remove its data
#
# Exits 0 only when every peer is there and works.
#
# IMGSYNC_TESTS_DOCKER: the folder for the data of the daemon started here
#                       (default: imgsync-tests-docker in TMPDIR).
set -euo pipefail

# A user's PATH often lacks the folder where daemons live.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
data=$(realpath -m "${IMGSYNC_TESTS_DOCKER:-${TMPDIR:-/tmp}/imgsync-tests-docker}")
# Sockets and the process id: a short path (a socket's is limited to 107 bytes) that only root draws.
runtime=/run/imgsync-tests-docker
log=$data/dockerd.log
socket=/var/run/docker.sock

say() { printf '%s\n' "$*" >&2; }
fail() { say "peers: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root. Never waits for a password where nobody can type one.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif ! have sudo; then return 126
    elif [ -t 0 ]; then sudo -- "$@"
    else sudo -n -- "$@"
    fi
}

can_be_root() { [ "$(id -u)" = 0 ] || { have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }; }

# The image's shell must run without any library: Debian's package `busybox` is not static.
static_busybox() {
    local libraries
    have busybox || return 1
    libraries=$(ldd "$(command -v busybox)" 2>/dev/null || true)
    [[ $libraries != *'=>'* ]]
}

# podman and skopeo refuse every image when no policy says which signatures they need.
policy_path() {
    local path
    for path in "$HOME/.config/containers/policy.json" /etc/containers/policy.json; do
        if [ -e "$path" ]; then echo "$path"; return; fi
    done
    return 1
}

# The Debian packages of the peers that are missing, one a line.
missing_packages() {
    have dockerd || echo docker.io
    if ! have docker; then
        echo docker.io
        # Since Debian 13 the client is a package of its own.
        if apt-cache show docker-cli >/dev/null 2>&1; then echo docker-cli; fi
    fi
    have skopeo || echo skopeo
    have podman || echo podman
    have docker-registry || echo docker-registry
    have nginx || echo nginx
    have htpasswd || echo apache2-utils
    have curl || echo curl
    have openssl || echo openssl
    have faketime || echo faketime
    static_busybox || echo busybox-static
    policy_path >/dev/null || echo golang-github-containers-common
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    # Without root, podman maps users through this; run by root, the tests make a user for it.
    have newuidmap || echo uidmap
}

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q "$@" </dev/null >&2; }

# The tests start these programs themselves; the packages' services would sit on ports 5000 and 80.
stop_service() {
    local name=$1
    if [ -d /run/systemd/system ]; then
        as_root systemctl disable --quiet --now "$name.service" ||
            say "peers: cannot stop $name.service; it may hold its port"
    elif have invoke-rc.d; then
        as_root invoke-rc.d "$name" stop >/dev/null 2>&1 || true
        as_root update-rc.d "$name" disable >/dev/null 2>&1 || true
    fi
}

install_missing() {
    if ! have apt-get; then
        say 'peers: this is not a Debian system (no apt-get), so nothing is installed.'
        say 'peers: needed are docker and dockerd, skopeo, podman with a policy.json (package'
        say 'peers: containers-common), docker-registry (the distribution project, 2.8 or later,'
        say 'peers: under that name in PATH), nginx, htpasswd (of Apache), curl, openssl,'
        say 'peers: faketime and a statically linked busybox.'
        return
    fi
    local packages service new_services=()
    packages=$(missing_packages | sort -u)
    [ -n "$packages" ] || return 0
    packages=${packages//$'\n'/ }
    if ! can_be_root; then
        say "peers: MISSING: $packages"
        say "peers: neither root nor sudo here. As root: apt-get install --no-install-recommends $packages"
        return
    fi
    for service in docker-registry nginx; do have "$service" || new_services+=("$service"); done
    say "peers: installing $packages"
    apt update
    # Asked again: only a fresh list knows which of the packages exist here.
    mapfile -t packages < <(missing_packages | sort -u)
    apt install -y --no-install-recommends "${packages[@]}"
    hash -r
    for service in "${new_services[@]}"; do stop_service "$service"; done
}

daemon_answers() { timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# The process id of the daemon started here, if it lives.
own_daemon() {
    local pid words=()
    pid=$(as_root cat "$runtime/pid" 2>/dev/null) || return 1
    # The number alone proves nothing: another process may have it by now.
    [ -e "/proc/$pid/cmdline" ] && mapfile -d '' -t words <"/proc/$pid/cmdline"
    [[ " ${words[*]} " == *" --exec-root=$runtime/exec "* ]] || return 1
    echo "$pid"
}

# Starts dockerd with the given further flags; true when it answers.
try_daemon() {
    local pid flags
    # No bridge and no firewall rules: the tests need no container network, and the machine's own
    # stays as it is. Registries on loopback are insecure by default, so no further configuration.
    flags=(--host="unix://$socket" --data-root="$data/data" --exec-root="$runtime/exec"
        --pidfile="$runtime/pid" --group="$(id -g)" --config-file="$runtime/daemon.json"
        --bridge=none --iptables=false --ip-masq=false --ip-forward=false --log-level=warn "$@")
    # shellcheck disable=SC2016
    as_root sh -c 'log=$1; shift; echo "$0: dockerd $*" >>"$log"
        setsid nohup dockerd "$@" </dev/null >>"$log" 2>&1 & echo $! >"$0"' \
        "$runtime/started" "$log" "${flags[@]}"
    pid=$(as_root cat "$runtime/started")
    for _ in $(seq 300); do
        if daemon_answers; then
            say "peers: started dockerd ${flags[*]}"
            say "peers: its log is $log; \`tests/peers.sh stop\` ends it and removes its data"
            return 0
        fi
        [ -d "/proc/$pid" ] || return 1
        sleep 0.1
    done
    as_root kill "$pid" 2>/dev/null || true
    return 1
}

start_daemon() {
    ! daemon_answers || return 0
    have docker && have dockerd || return 0 # said with the peers
    if [ -n "${DOCKER_HOST:-}" ] && [ "$DOCKER_HOST" != "unix://$socket" ]; then
        say "peers: DOCKER_HOST is $DOCKER_HOST and nothing answers there; start that daemon, or unset it"
        return
    fi
    if ! can_be_root; then
        say 'peers: no Docker daemon answers, and starting one takes root or sudo'
        return
    fi
    if own_daemon >/dev/null; then
        say "peers: the dockerd started earlier runs but does not answer; see $log, or run tests/peers.sh stop"
        return
    fi
    if [ -e "$data" ] && ! as_root test -O "$data"; then
        say "peers: $data is not root's; remove it, or set IMGSYNC_TESTS_DOCKER to another folder"
        return
    fi
    as_root mkdir -p -m 700 "$data" "$runtime"
    # The machine's daemon.json may say otherwise than our flags, which dockerd refuses. A pid file
    # left by a killed daemon may name another process by now, which it refuses as well.
    # shellcheck disable=SC2016
    as_root sh -c 'echo "{}" >"$1"; : >"$2"; rm -f "$3"' sh "$runtime/daemon.json" "$log" "$runtime/pid"
    # In a container whose own filesystem is an overlay, only vfs works, and dockerd may not find out.
    try_daemon || try_daemon --storage-driver=vfs || {
        say "peers: dockerd does not start; the end of $log:"
        as_root tail -n 15 "$log" >&2
        remove_data
    }
}

# dockerd leaves its data folder mounted on itself, and network namespaces of its containers.
unmount_below() {
    local folder mounted mounts=()
    # The last mounted first. Only spaces and the like are escaped in the list.
    mapfile -t mounts < <(tac /proc/self/mountinfo | cut -d ' ' -f 5)
    for mounted in "${mounts[@]}"; do
        mounted=$(printf '%b' "$mounted")
        for folder in "$@"; do
            case $mounted/ in
                "$folder"/*) as_root umount "$mounted" || say "peers: cannot unmount $mounted" ;;
            esac
        done
    done
}

remove_data() {
    unmount_below "$data/data" "$runtime"
    as_root rm -rf --one-file-system "$data/data" "$runtime"
}

stop_daemon() {
    local pid
    pid=$(own_daemon) || return 0
    as_root kill "$pid"
    for _ in $(seq 300); do
        if [ ! -d "/proc/$pid" ]; then
            remove_data
            say "peers: stopped dockerd; its log stays in $log"
            return 0
        fi
        sleep 0.1
    done
    fail "dockerd (process $pid) does not end; see $log"
}

# One line for a peer: its name, and what the command says of itself. False when it is missing.
report() {
    local name=$1 version
    shift
    if version=$("$@" 2>/dev/null) && [ -n "$version" ]; then
        printf '%-16s %s\n' "$name" "${version%%$'\n'*}"
    else
        printf '%-16s %s\n' "$name" MISSING
        return 1
    fi
}

busybox_version() { static_busybox && busybox; }
nginx_version() { nginx -v 2>&1; }
faketime_version() { faketime --version | grep -m 1 .; }
htpasswd_works() { htpasswd -nbB user password >/dev/null && echo 'writes bcrypt'; }
podman_works() { podman info --format '{{.Version.Version}}, storage {{.Store.GraphDriverName}}'; }

main() {
    local env_file=/dev/null
    case ${1:-} in
        '') ;;
        --env) env_file=${2:?--env needs a file} ;;
        stop) stop_daemon; return ;;
        *) fail "unknown word $1; known are: --env FILE, stop" ;;
    esac
    local ok=yes
    install_missing
    start_daemon
    : >"$env_file"
    # podman's usual storage cannot lie on a filesystem that is an overlay itself.
    if have podman && ! podman info >/dev/null 2>&1 && STORAGE_DRIVER=vfs podman info >/dev/null 2>&1; then
        export STORAGE_DRIVER=vfs
        echo 'export STORAGE_DRIVER=vfs' >>"$env_file"
    fi
    report docker docker --version || ok=no
    report dockerd docker version --format '{{.Server.Version}}' || ok=no
    report containerd ctr --version || ok=no
    report skopeo skopeo --version || ok=no
    report podman podman_works || ok=no
    report policy.json policy_path || ok=no
    report docker-registry docker-registry --version || ok=no
    report nginx nginx_version || ok=no
    report htpasswd htpasswd_works || ok=no
    report curl curl --version || ok=no
    report openssl openssl version || ok=no
    report faketime faketime_version || ok=no
    report busybox busybox_version || ok=no
    [ "$ok" = yes ] || fail 'a peer is missing (see above)'
}

main "$@"
