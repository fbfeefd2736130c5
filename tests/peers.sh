#!/usr/bin/env bash
# Installs the third-party programs that the tests use, starts dockerd if no daemon runs, and
# prints the version of each program. Can be run repeatedly.
#
#   tests/peers.sh [--env FILE]   install, start and report; write variables for the tests to FILE
#   tests/peers.sh stop           stop the daemon that this script started, and delete its data
#
# Exits with 0 only if every program is installed and works.
#
# IMGSYNC_TESTS_DOCKER: folder for the data of the daemon, and for a newer Docker whose images are
#                       in containerd's store (default: imgsync-tests-docker in TMPDIR).
set -euo pipefail

# The PATH of a user often lacks the sbin folders.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
data=$(realpath -m "${IMGSYNC_TESTS_DOCKER:-${TMPDIR:-/tmp}/imgsync-tests-docker}")
# Sockets and the process ID. The path must be short: a socket path is limited to 107 bytes.
runtime=/run/imgsync-tests-docker
log=$data/dockerd.log
socket=/var/run/docker.sock

say() { printf '%s\n' "$*" >&2; }
fail() { say "peers: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root. Without a terminal, fails instead of asking for a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif ! have sudo; then return 126
    elif [ -t 0 ]; then sudo -- "$@"
    else sudo -n -- "$@"
    fi
}

can_be_root() { [ "$(id -u)" = 0 ] || { have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }; }

# The test image contains only busybox, so it must be static. Debian's package `busybox` is not.
static_busybox() {
    local libraries
    have busybox || return 1
    libraries=$(ldd "$(command -v busybox)" 2>/dev/null || true)
    [[ $libraries != *'=>'* ]]
}

# Compose is a plugin of the client, or the program docker-compose.
compose_version() { docker compose version 2>/dev/null || docker-compose version 2>/dev/null; }

# podman and skopeo refuse every image without a signature policy.
policy_path() {
    local path
    for path in "$HOME/.config/containers/policy.json" /etc/containers/policy.json; do
        if [ -e "$path" ]; then echo "$path"; return; fi
    done
    return 1
}

# Prints the Debian packages of the missing programs, one on each line.
missing_packages() {
    have dockerd || echo docker.io
    if ! have docker; then
        echo docker.io
        # Since Debian 13, the client is a separate package.
        if apt-cache show docker-cli >/dev/null 2>&1; then echo docker-cli; fi
    fi
    compose_version >/dev/null || echo docker-compose
    have skopeo || echo skopeo
    have podman || echo podman
    have docker-registry || echo docker-registry
    have nginx || echo nginx
    have caddy || echo caddy
    have htpasswd || echo apache2-utils
    have curl || echo curl
    have openssl || echo openssl
    have sshd || echo openssh-server
    have faketime || echo faketime
    have systemd-socket-activate || echo systemd
    have python3 || echo python3
    have prometheus && have promtool || echo prometheus
    # Ubuntu has no such package; its machines in CI have the program.
    if ! have chromium && apt-cache show chromium >/dev/null 2>&1; then echo chromium; fi
    static_busybox || echo busybox-static
    policy_path >/dev/null || echo golang-github-containers-common
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    # podman needs newuidmap to run without root.
    have newuidmap || echo uidmap
}

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q "$@" </dev/null >&2; }

# The tests start these programs themselves. The services of the packages would use ports 5000 and
# 80.
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
        say 'peers: install docker, dockerd and docker-compose, skopeo, podman with a policy.json (package'
        say 'peers: containers-common), docker-registry (the distribution project, 2.8 or later,'
        say 'peers: under that name in PATH), nginx, caddy, htpasswd (of Apache), curl, openssl, sshd,'
        say 'peers: faketime, prometheus with promtool, chromium and a statically linked busybox.'
        return
    fi
    local packages service new_services=()
    packages=$(missing_packages | sort -u)
    [ -n "$packages" ] || return 0
    packages=${packages//$'\n'/ }
    if ! can_be_root; then
        say "peers: MISSING: $packages"
        say "peers: installing needs root or sudo. Run as root: apt-get install --no-install-recommends $packages"
        return
    fi
    for service in docker-registry nginx caddy prometheus; do have "$service" || new_services+=("$service"); done
    have sshd || new_services+=(ssh)
    say "peers: installing $packages"
    apt update
    # Which packages exist is known only after the update.
    mapfile -t packages < <(missing_packages | sort -u)
    apt install -y --no-install-recommends "${packages[@]}"
    hash -r
    for service in "${new_services[@]}"; do stop_service "$service"; done
}

daemon_answers() { timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Prints the process ID of the daemon that this script started, if it runs.
own_daemon() {
    local pid words=()
    pid=$(as_root cat "$runtime/pid" 2>/dev/null) || return 1
    # Another process may have the same ID now, so check the command line.
    [ -e "/proc/$pid/cmdline" ] && mapfile -d '' -t words <"/proc/$pid/cmdline"
    [[ " ${words[*]} " == *" --exec-root=$runtime/exec "* ]] || return 1
    echo "$pid"
}

# Starts dockerd with additional flags. Succeeds if it answers.
try_daemon() {
    local pid flags
    # Without a bridge and firewall rules: the tests need no container network, and the network of
    # the machine must not change. Registries on loopback are insecure by default.
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
            say "peers: its log is $log; \`tests/peers.sh stop\` stops it and deletes its data"
            return 0
        fi
        [ -d "/proc/$pid" ] || return 1
        sleep 0.1
    done
    as_root kill "$pid" 2>/dev/null || true
    return 1
}

# Finds a Docker with containerd's image store, which some tests start.
find_containerd_store() {
    as_root bash "$(dirname "$0")/containerd_store.sh" "$data/containerd-store" >/dev/null
}

containerd_store_version() { as_root "$data/containerd-store/bin/dockerd" --version; }

start_daemon() {
    ! daemon_answers || return 0
    have docker && have dockerd || return 0 # the report shows that they are missing
    if [ -n "${DOCKER_HOST:-}" ] && [ "$DOCKER_HOST" != "unix://$socket" ]; then
        say "peers: no daemon answers at DOCKER_HOST=$DOCKER_HOST; start that daemon, or unset DOCKER_HOST"
        return
    fi
    if ! can_be_root; then
        say 'peers: no Docker daemon answers; starting one needs root or sudo'
        return
    fi
    if own_daemon >/dev/null; then
        say "peers: dockerd runs but does not answer; see $log, or run tests/peers.sh stop"
        return
    fi
    if [ -e "$data" ] && ! as_root test -O "$data"; then
        say "peers: $data does not belong to root; delete it, or set IMGSYNC_TESTS_DOCKER to another folder"
        return
    fi
    as_root mkdir -p -m 700 "$data" "$runtime"
    # dockerd refuses to start if its flags contradict daemon.json, so use an empty one. It also
    # refuses an old pid file with the ID of another process.
    # shellcheck disable=SC2016
    as_root sh -c 'echo "{}" >"$1"; : >"$2"; rm -f "$3"' sh "$runtime/daemon.json" "$log" "$runtime/pid"
    # In a container on an overlay file system, only vfs works, and dockerd may not detect that.
    try_daemon || try_daemon --storage-driver=vfs || {
        say "peers: dockerd does not start; the last lines of $log:"
        as_root tail -n 15 "$log" >&2
        remove_data
    }
}

# dockerd leaves a bind mount of its data folder, and network namespaces of its containers.
unmount_below() {
    local folder mounted mounts=()
    # The latest mount first. Special characters such as spaces are escaped in the list.
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
            say "peers: stopped dockerd; its log is $log"
            return 0
        fi
        sleep 0.1
    done
    fail "dockerd (process $pid) does not stop; see $log"
}

# Prints the name and the version of a program. Fails if it is missing.
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
sshd_version() { have sshd && ssh -V 2>&1; }
faketime_version() { faketime --version | grep -m 1 .; }
htpasswd_works() { htpasswd -nbB user password >/dev/null && echo 'writes bcrypt'; }
podman_works() { podman info --format '{{.Version.Version}}, storage {{.Store.GraphDriverName}}'; }

main() {
    local env_file=/dev/null
    case ${1:-} in
        '') ;;
        --env) env_file=${2:?--env needs a file} ;;
        stop) stop_daemon; return ;;
        *) fail "unknown argument $1; use --env FILE or stop" ;;
    esac
    local ok=yes
    install_missing
    start_daemon
    find_containerd_store || say "peers: no Docker with containerd's image store; see above"
    : >"$env_file"
    # podman's default storage does not work on an overlay file system.
    if have podman && ! podman info >/dev/null 2>&1 && STORAGE_DRIVER=vfs podman info >/dev/null 2>&1; then
        export STORAGE_DRIVER=vfs
        echo 'export STORAGE_DRIVER=vfs' >>"$env_file"
    fi
    report docker docker --version || ok=no
    report dockerd docker version --format '{{.Server.Version}}' || ok=no
    report containerd ctr --version || ok=no
    report containerd-store containerd_store_version || ok=no
    report compose compose_version || ok=no
    report skopeo skopeo --version || ok=no
    report podman podman_works || ok=no
    report policy.json policy_path || ok=no
    report docker-registry docker-registry --version || ok=no
    report nginx nginx_version || ok=no
    report caddy caddy version || ok=no
    report htpasswd htpasswd_works || ok=no
    report curl curl --version || ok=no
    report openssl openssl version || ok=no
    report sshd sshd_version || ok=no
    report faketime faketime_version || ok=no
    report socket-activate systemd-socket-activate --version || ok=no
    report python3 python3 --version || ok=no
    report prometheus prometheus --version || ok=no
    report promtool promtool --version || ok=no
    report chromium chromium --version || ok=no
    report busybox busybox_version || ok=no
    [ "$ok" = yes ] || fail 'a program is missing (see above)'
}

main "$@"
