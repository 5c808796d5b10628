#!/bin/bash
# Gets what the lab needs, in the order: Python environment, system packages, a kernel, a web server and an NFS server
# that are unpacked but not installed. A second run finds the stamps and is done in a moment.
#
#   setup.sh python     the virtual environment .venv, with the exact packages of requirements-dev.txt
#   setup.sh machine    QEMU and the other tools, the kernel and its modules, the unpacked servers
#   setup.sh peers      other supervisors, for the benchmark
#
# What cannot be had is said in plain words at the end and written to $CACHE/missing; the tests that need it are
# skipped and say so. Only the Python environment, QEMU and the kernel are indispensable.
set -euo pipefail

CHECKOUT=$(cd "$(dirname "$0")/../.." && pwd)
VENV=$CHECKOUT/.venv
CACHE=${OCELOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ocelot}
MISSING=$CACHE/missing

say() { printf '==> %s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# -- root and apt ------------------------------------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        return 1
    fi
}

have_apt() { command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; }

# The package lists are fetched at most once a run, and only when something has to be got.
lists_are_fresh=
refresh_lists() {
    [ -z "$lists_are_fresh" ] || return 0
    say "fetching the package lists (apt-get update)"
    as_root apt-get update -qq || say "apt-get update failed: going on with the lists that are here"
    lists_are_fresh=yes
}

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

install_packages() {
    local wanted=() package
    for package in "$@"; do
        installed "$package" || wanted+=("$package")
    done
    [ ${#wanted[@]} -gt 0 ] || return 0
    have_apt || fail "cannot install ${wanted[*]}: this is not a Debian or Ubuntu system; install their like by hand"
    refresh_lists
    say "installing ${wanted[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
}

# Installs what can be installed, one by one, and notes the rest: "package: what is left out without it".
install_optional() {
    local package=$1 consequence=$2
    installed "$package" && return 0
    refresh_lists
    if ! apt-cache show "$package" >/dev/null 2>&1 || ! install_packages "$package" 2>/dev/null; then
        note_missing "$package" "$consequence"
    fi
}

note_missing() { printf '%s: %s\n' "$1" "$2" >>"$MISSING"; }

# Unpacks a package, and those of its dependencies that this system lacks, into a folder: a daemon that is installed would
# be started by the system and take its port.
unpack() {
    local folder=$1
    shift
    [ -e "$folder/.complete" ] && return 0
    refresh_lists
    local wanted
    wanted=$(apt-get install --simulate --no-install-recommends "$@" 2>/dev/null | awk '$1 == "Inst" { print $2 }')
    [ -n "$wanted" ] || return 1
    say "unpacking $* into the cache ($(echo "$wanted" | wc -l) packages)"
    rm -rf "$folder" "$folder.new" && mkdir -p "$folder.new/.debs"
    # shellcheck disable=SC2086
    (cd "$folder.new/.debs" && apt-get download -qq $wanted 2>/dev/null) || return 1
    local deb
    for deb in "$folder.new"/.debs/*.deb; do
        dpkg-deb -x "$deb" "$folder.new"
    done
    rm -rf "$folder.new/.debs"
    touch "$folder.new/.complete"
    mv "$folder.new" "$folder"
}

# -- the Python environment --------------------------------------------------------------------------------------------

usable_python() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local name
    for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.14; do
        if [ -n "$name" ] && usable_python "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

make_environment() {
    local stamp wanted python
    stamp=$VENV/.ocelot-stamp
    wanted=$(sha256sum "$CHECKOUT/requirements-dev.txt" "$CHECKOUT/pyproject.toml" | sha256sum | cut -d' ' -f1)
    if [ -x "$VENV/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if ! python=$(find_python); then
        install_packages python3 python3-venv
        python=$(find_python) || fail "no Python >= 3.11 with venv found; install one and set PYTHON to its path"
    fi
    say "Python environment .venv with $("$python" -V) ($python)"
    [ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        -r "$CHECKOUT/requirements-dev.txt"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index \
        -e "$CHECKOUT"
    echo "$wanted" >"$stamp"
}

# -- the machine -------------------------------------------------------------------------------------------------------

get_tools() {
    # Indispensable: an emulator, depmod, mkfs.ext4, a static busybox; xz and zstd for modules.
    install_packages qemu-system-x86 busybox-static kmod e2fsprogs xz-utils zstd
    install_optional squashfs-tools "the squashfs root is not tested"
    if [ ! -x /usr/lib/qemu/virtiofsd ] && [ ! -x /usr/libexec/virtiofsd ]; then
        install_optional virtiofsd "the virtiofs root is not tested"
    fi
    install_optional erofs-utils "the erofs root is not tested"
    install_optional binutils "runtimes are built without being stripped, and are larger"
    install_optional gcc "the tree with another libc (musl) is not tested"
    install_optional libc6-dev "the tree with another libc (musl) is not tested"
    install_optional musl-tools "the tree with another libc (musl) is not tested"
    local name
    for name in debootstrap buildah podman crun; do
        install_optional "$name" "the Dockerfile is not built and run"
    done
    for name in xfsprogs btrfs-progs dosfstools; do
        install_optional "$name" "one kind of file system is not identified"
    done
    install_optional curl "the control socket is not tried with curl"
    install_optional tmux "the live view of ocelotctl top is not tried on a terminal"
    install_optional tini "orphans are not compared with tini"
}

get_servers() {
    [ -x /usr/sbin/nginx ] || unpack "$CACHE/nginx" nginx || note_missing nginx "the demonstration has no web server"
    [ -x /usr/bin/ganesha.nfsd ] || unpack "$CACHE/ganesha" nfs-ganesha nfs-ganesha-vfs ||
        note_missing nfs-ganesha "the NFS root is not tested"
    [ -x /usr/bin/prometheus ] || unpack "$CACHE/prometheus" prometheus ||
        note_missing prometheus "no real Prometheus scrapes the metrics"
    [ -x /usr/sbin/rsyslogd ] || unpack "$CACHE/rsyslog" rsyslog ||
        note_missing rsyslog "no real syslog daemon receives what ocelot forwards"
    [ -x /usr/bin/redis-server ] || unpack "$CACHE/redis" redis-server ||
        note_missing redis-server "real daemons are not supervised"
    ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || unpack "$CACHE/postgresql" postgresql ||
        note_missing postgresql "real daemons are not supervised"
}

# The package that a kernel metapackage stands for, and on Ubuntu its modules, which are apart.
kernel_packages() {
    local meta=$1 image
    image=$(apt-cache depends "$meta" 2>/dev/null | awk '/Depends: linux-image-[0-9]/ && !found { print $2; found = 1 }')
    [ -n "$image" ] || return 1
    echo "$image"
    [ "$meta" = linux-image-generic ] || return 0
    echo "${image/linux-image/linux-modules}"
    if apt-cache show "${image/linux-image/linux-modules-extra}" >/dev/null 2>&1; then
        echo "${image/linux-image/linux-modules-extra}"
    fi
}

# get_kernel FOLDER METAPACKAGE: fetches a kernel and unpacks it into FOLDER of the cache.
get_kernel() {
    local folder=$CACHE/$1 meta=$2 packages new=$CACHE/$1.new deb version
    [ ! -e "$folder/version" ] || return 0
    refresh_lists
    packages=$(kernel_packages "$meta") || return 1
    say "fetching the kernel, to be unpacked into the cache, not installed:" $packages
    rm -rf "$new" && mkdir -p "$new/debs" "$new/tree" "$new/lib"
    # shellcheck disable=SC2086
    (cd "$new/debs" && apt-get download -qq $packages 2>/dev/null) || return 1
    for deb in "$new"/debs/*.deb; do
        dpkg-deb -x "$deb" "$new/tree"
    done
    mv "$new"/tree/usr/lib/modules "$new/lib/" 2>/dev/null || mv "$new/tree/lib/modules" "$new/lib/"
    version=$(ls "$new/lib/modules")
    mv "$new"/tree/boot/vmlinuz-* "$new/vmlinuz"
    chmod a+r "$new/vmlinuz"
    rm -rf "$new/debs" "$new/tree"
    say "computing module dependencies (depmod) for $version"
    PATH=$PATH:/usr/sbin:/sbin depmod -b "$new" "$version"
    echo "$version" >"$new/version"
    rm -rf "$folder"
    mv "$new" "$folder"
}

# The tests without an initramfs need nvme and ext4 built in: Debian's cloud kernel has them.
get_kernels() {
    have_apt || fail "cannot get a kernel package: this is not a Debian or Ubuntu system"
    get_kernel kernel linux-image-amd64 || get_kernel kernel linux-image-generic ||
        fail "cannot get a kernel: neither linux-image-amd64 nor linux-image-generic can be downloaded"
    get_kernel kernel-cloud linux-image-cloud-amd64 ||
        note_missing linux-image-cloud-amd64 "the boot without an initramfs is not tested"
}

make_machine() {
    case $(uname -m) in
    x86_64) ;;
    *) fail "the lab's virtual machines need an x86_64 host (this is $(uname -m)); lint and unit tests run: make lint unit" ;;
    esac
    local stamp=$CACHE/machine-stamp wanted
    mkdir -p "$CACHE"
    wanted=$(sha256sum "$0" | cut -d' ' -f1)
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || ! command -v qemu-system-x86_64 >/dev/null ||
        [ ! -e "$CACHE/kernel/version" ]; then
        : >"$MISSING"
        get_tools
        get_kernels
        get_servers
        echo "$wanted" >"$stamp"
    fi
    if [ -s "$MISSING" ]; then
        say "left out, since a package could not be had (remove $stamp to try again):"
        sed 's/^/      /' "$MISSING"
    fi
}

# What `make bench` compares with (supervisord and circus come from PyPI, into the cache). The bench itself says what it had to leave out.
get_peers() {
    local stamp=$CACHE/peers-stamp name
    [ -e "$stamp" ] && return 0
    for name in s6 runit tini dinit gcc libc6-dev; do
        installed "$name" && continue
        refresh_lists
        apt-cache show "$name" >/dev/null 2>&1 || continue
        install_packages "$name" 2>/dev/null || say "$name could not be installed: it is left out"
    done
    touch "$stamp"
}

mkdir -p "$CACHE"
for part in "${@:-python}"; do
    case $part in
    python) make_environment ;;
    machine) make_machine ;;
    peers) get_peers ;;
    *) fail "unknown part \"$part\": python, machine or peers" ;;
    esac
done
