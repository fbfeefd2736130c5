#!/usr/bin/env bash
# Builds a container image of imgsync-server, or of imgsync: one static program and nothing else.
#
#   examples/container/build.sh [OPTIONS] [NAME[:TAG]]      default: imgsync-server:VERSION
#
#   --program NAME       imgsync-server (default) or imgsync
#   --programs FOLDER    use the programs that packaging/build.sh has written to FOLDER
#   --with-libraries     accept a program that is not linked statically, and add its shared libraries: for tests,
#                        with programs of `cargo build` in FOLDER/ARCH
#   --arch ARCH          x86_64 or aarch64 (default: the architecture of this machine)
#
# The image of the server replaces registry:2 and registry:3, with the same port (5000), the same volume
# (/var/lib/registry), and the same configuration files, variables and commands. It does not run as root:
# see "Container images" in docs/install.md.
#
# Needs Docker and readelf, and Rust if there is no --programs. Only cargo uses the network.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
# shellcheck source=packaging/common.sh
. "$top/packaging/common.sh"

program=imgsync-server
programs=
libraries=no
arch=$machine
name=
while [ $# -gt 0 ]; do
    case $1 in
        --program) program=${2:?--program needs a value}; shift ;;
        --programs) programs=$(realpath "${2:?--programs needs a value}"); shift ;;
        --with-libraries) libraries=yes ;;
        --arch) arch=${2:?--arch needs a value}; shift ;;
        -*) fail "unknown option $1" ;;
        *) name=$1 ;;
    esac
    shift
done
check_architecture "$arch"
case $program in imgsync | imgsync-server) ;; *) fail "unknown program $program" ;; esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ -z "$programs" ]; then
    programs=$scratch/programs
    "$top/packaging/build.sh" --arch "$arch" --program "$program" "$programs"
fi
[ -f "$programs/$arch/$program" ] ||
    fail "$programs/$arch/$program does not exist; build it with packaging/build.sh --arch $arch $programs"
root=$scratch/root
mkdir -p "$root/bin"
install -m 755 "$programs/$arch/$program" "$root/bin/$program"
# The image contains nothing else, so a program that needs a loader would fail with `no such file or directory`.
if ! is_static "$root/bin/$program"; then
    [ $libraries = yes ] ||
        fail "$programs/$arch/$program is not linked statically, so it cannot run in the image; build it with
packaging/build.sh --arch $arch, or add its libraries with --with-libraries"
    # The paths in the output of ldd: of the loader, and of each library.
    ldd "$root/bin/$program" | grep -o '/[^ ]*' | while read -r library; do
        install -D -m 755 "$library" "$root$library"
    done
fi
name=${name:-$program:$(version "$programs" "$arch" "$program")}
case ${name##*/} in *:*) ;; *) name=$name:latest ;; esac
if [ "$program" = imgsync-server ]; then
    mkdir -p "$root/etc/imgsync" "$root/var/lib/registry"
    # The program has this name in the stock image: existing entrypoints and `docker exec` use it.
    ln -s imgsync-server "$root/bin/registry"
    install -m 644 "$here/config.yml" "$root/etc/imgsync/config.yml"
    # A new volume gets these permissions, so any user can run the container.
    chmod 1777 "$root/var/lib/registry"
    # The user has no name, and a number that nothing else on the machine should have.
    settings='"User": "65532:65532", "Volumes": {"/var/lib/registry": {}}, "ExposedPorts": {"5000/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "/bin/imgsync-server", "health"],
            "Interval": 30000000000, "Timeout": 15000000000, "StartPeriod": 10000000000}'
else
    # The tool runs as root, because the socket of Docker belongs to root.
    install -d -m 1777 "$root/tmp"
    install -d -m 700 "$root/root"
    settings='"Env": ["HOME=/root"]'
fi

# The image is an archive as `docker save` writes it: `docker build` needs an extension (buildx) for other
# platforms than that of the machine. The same programs give the same image.
SOURCE_DATE_EPOCH=$(source_date)
date=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
archive=$scratch/archive
mkdir "$archive"
pack() { tar --create --owner=0 --group=0 --numeric-owner --sort=name --mtime="@$SOURCE_DATE_EPOCH" "$@"; }
pack --directory "$root" --file "$archive/layer.tar" .
diff_id=sha256:$(sha256sum <"$archive/layer.tar" | cut -d ' ' -f 1)
cat >"$archive/config.json" <<JSON
{
    "created": "$date", "os": "linux", "architecture": "$(debian_name "$arch")",
    "config": {"Entrypoint": ["/bin/$program"], $settings},
    "rootfs": {"type": "layers", "diff_ids": ["$diff_id"]},
    "history": [{"created": "$date", "created_by": "examples/container/build.sh"}]
}
JSON
cat >"$archive/manifest.json" <<JSON
[{"Config": "config.json", "RepoTags": ["$name"], "Layers": ["layer.tar"]}]
JSON
pack --directory "$archive" . | docker load --quiet >&2
say "built $name, $(docker image inspect --format '{{.Size}}' "$name") bytes"
printf '%s\n' "$name"
