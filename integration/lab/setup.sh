#!/bin/bash
# Gets what the demonstration, the tests and the benchmark need. A second run finds the stamps and is done in a moment.
#
#   setup.sh python     the virtual environment .venv, with the exact packages of requirements-dev.txt
#   setup.sh emulator   QEMU, a kernel and a web server: what one microVM needs
#   setup.sh machine    that, and what else the tests need: tools, another kernel, servers
#   setup.sh peers      other supervisors, for the benchmark
#
# Tools are installed; kernels and servers are only unpacked into the cache. What cannot be had is said in plain words at the
# end; the tests that need it are skipped and say so. Only the Python environment, QEMU and a kernel are indispensable.
set -euo pipefail

CHECKOUT=$(cd "$(dirname "$0")/../.." && pwd)
VENV=$CHECKOUT/.venv
HOME=${HOME:-$(echo ~)} # as Python does: where there is no HOME, /etc/passwd tells
CACHE=${OCELOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ocelot}
# What was unpacked on one release of a distribution finds its libraries only there.
SYSTEM=$(. /etc/os-release 2>/dev/null && echo "${ID:-} ${VERSION_CODENAME:-${VERSION_ID:-}}" || uname -s)

say() { printf '==> %s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

make_cache() {
    { mkdir -p "$CACHE" && [ -w "$CACHE" ]; } 2>/dev/null ||
        fail "cannot write to the cache folder $CACHE; set OCELOT_CACHE to a folder of yours with 2 GB free"
}

# -- root and apt ------------------------------------------------------------------------------------------------------

# Somebody else's apt may be at work (a fresh Ubuntu updates itself): wait for it. Without a network, do not wait for long.
APT_OPTIONS=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20)

is_root() { [ "$(id -u)" = 0 ]; }

may_install() { is_root || command -v sudo >/dev/null; }

apt_get() {
    local become=()
    is_root || become=(sudo)
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get "${APT_OPTIONS[@]}" "$@"
}

have_apt() { command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; }

# The package lists are fetched at most once a run, and only when something has to be got.
lists_are_fresh=
refresh_lists() {
    [ -z "$lists_are_fresh" ] || return 0
    lists_are_fresh=yes
    may_install || return 0
    say "fetching the package lists (apt-get update)"
    local complaints
    complaints=$(apt_get update -qq -o APT::Update::Error-Mode=any 2>&1 >/dev/null) || {
        say "apt-get update failed, going on with the lists that are here:"
        head -n 3 <<<"$complaints" | sed 's/^/      /'
    }
}

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# Those of the named packages that are not installed, one a line.
not_installed() {
    local package
    for package in "$@"; do
        installed "$package" || echo "$package"
    done
}

# One line for every 25 packages, from what apt-get install prints.
show_progress() {
    local line total=0 count=0
    while IFS= read -r line; do
        case $line in
        *" newly installed, "*)
            total=${line%% newly installed*}
            total=${total##* }
            ;;
        "Need to get "*) printf '      %s packages, %s to fetch\n' "$total" "$(awk '{ print $4, $5 }' <<<"$line")" ;;
        "Setting up "*)
            count=$((count + 1))
            [ $((count % 25)) != 0 ] || printf '      %s of %s are set up\n' "$count" "$total"
            ;;
        esac
    done
}

# install PACKAGE...: all of them or none; what went wrong goes to standard error.
install() {
    local log status=0
    log=$(mktemp)
    apt_get install -y -q --no-install-recommends "$@" 2>"$log" </dev/null | show_progress || status=1
    [ $status = 0 ] || grep -v '^W: ' "$log" | tail -n 5 | sed 's/^/      /' >&2 || true
    rm -f "$log"
    return $status
}

# What nothing works without.
install_packages() {
    local wanted
    mapfile -t wanted < <(not_installed "$@")
    [ ${#wanted[@]} -gt 0 ] || return 0
    have_apt || fail "cannot install ${wanted[*]}: this is not a Debian or Ubuntu system; install their like by hand"
    may_install || fail "cannot install ${wanted[*]}: you are not root, and there is no sudo; as root: apt-get install ${wanted[*]}"
    refresh_lists
    say "installing ${wanted[*]}"
    install "${wanted[@]}" || fail "cannot install ${wanted[*]}: apt-get says why above"
}

# install_optional WHAT-IS-LEFT-OUT PACKAGE...: remembers what install_remembered is to install.
declare -A left_out=()
install_optional() {
    local consequence=$1 package
    shift
    for package in "$@"; do
        left_out[$package]=$consequence
    done
}

# All at once if that works, else one by one; what cannot be had is noted with what is left out without it.
install_remembered() {
    local lacking wanted=() package
    mapfile -t lacking < <(not_installed "${!left_out[@]}" | sort)
    if [ ${#lacking[@]} -gt 0 ] && may_install; then
        refresh_lists
        for package in "${lacking[@]}"; do
            ! apt-cache show "$package" >/dev/null 2>&1 || wanted+=("$package")
        done
    fi
    if [ ${#wanted[@]} -gt 0 ]; then
        say "installing what some tests need: ${wanted[*]}"
        install "${wanted[@]}" 2>/dev/null || for package in "${wanted[@]}"; do
            install "$package" >/dev/null || say "$package could not be installed"
        done
    fi
    for package in $(not_installed "${!left_out[@]}" | sort); do
        note_missing "$package" "${left_out[$package]}"
    done
    left_out=()
}

note_missing() { printf '%s: %s\n' "$1" "$2" >>"$MISSING"; }

tell_missing() {
    [ -s "$MISSING" ] || return 0
    say "left out, since a package could not be had (remove $1 to try again):"
    sed 's/^/      /' "$MISSING"
}

# Unpacks a package, and those of its dependencies that this system lacks, into a folder: a daemon that is installed would
# be started by the system and take its port.
unpack() {
    local folder=$1
    shift
    [ "$(cat "$folder/.complete" 2>/dev/null)" != "$SYSTEM" ] || return 0
    refresh_lists
    local wanted
    wanted=$(LC_ALL=C apt-get install --simulate --no-install-recommends "$@" 2>/dev/null | awk '$1 == "Inst" { print $2 }')
    [ -n "$wanted" ] || return 1
    say "unpacking $* into the cache ($(echo "$wanted" | wc -l) packages)"
    rm -rf "$folder.new" && mkdir -p "$folder.new/.debs"
    # shellcheck disable=SC2086
    (cd "$folder.new/.debs" && apt-get "${APT_OPTIONS[@]}" download -qq $wanted 2>/dev/null) || return 1
    local deb
    for deb in "$folder.new"/.debs/*.deb; do
        dpkg-deb -x "$deb" "$folder.new"
    done
    rm -rf "$folder.new/.debs"
    echo "$SYSTEM" >"$folder.new/.complete"
    rm -rf "$folder"
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

# The environment knows its path and its Python by heart: when the checkout was moved, or the system got another Python, it
# has to be made anew. The stamp says in one line which they were, and in the next which packages are in it.
identity() { echo "$CHECKOUT $(readlink -f "$VENV/bin/python")"; }

make_environment() {
    local stamp=$VENV/.ocelot-stamp wanted python
    wanted=$(cat "$CHECKOUT/requirements-dev.txt" "$CHECKOUT/pyproject.toml" | sha256sum | cut -d' ' -f1)
    if [ -x "$VENV/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(identity)"$'\n'"$wanted" ]; then
        return
    fi
    [ -w "$CHECKOUT" ] || fail "cannot make the Python environment: you may not write to $CHECKOUT"
    if ! python=$(find_python); then
        install_packages python3 python3-venv
        python=$(find_python) || fail "no Python >= 3.11 with venv found; install one and set PYTHON to its path"
    fi
    say "Python environment .venv with $("$python" -V) ($python); packages from PyPI"
    if [ ! -x "$VENV/bin/python" ] || [ "$(head -n 1 "$stamp" 2>/dev/null)" != "$(identity)" ]; then
        "$python" -m venv --clear "$VENV"
    fi
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --retries 2 --require-hashes \
        --only-binary :all: -r "$CHECKOUT/requirements-dev.txt" ||
        fail "cannot get the Python packages of requirements-dev.txt: pip says why above"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index \
        -e "$CHECKOUT" || fail "cannot install the checkout into .venv: pip says why above"
    { identity && echo "$wanted"; } >"$stamp"
}

# -- the machine -------------------------------------------------------------------------------------------------------

# The package that a kernel metapackage stands for, and where they are apart (Ubuntu), those of its modules.
kernel_packages() {
    local meta=$1 image
    image=$(apt-cache depends "$meta" 2>/dev/null | awk '/Depends: linux-image-[0-9]/ && !found { print $2; found = 1 }')
    [ -n "$image" ] || return 1
    echo "$image"
    apt-cache depends "$image" 2>/dev/null | awk '/Depends: linux-(modules|binary)-[0-9]/ { print $2 }'
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
    (cd "$new/debs" && apt-get "${APT_OPTIONS[@]}" download -qq $packages 2>/dev/null) || return 1
    for deb in "$new"/debs/*.deb; do
        dpkg-deb -x "$deb" "$new/tree"
    done
    mv "$new"/tree/usr/lib/modules "$new/lib/" 2>/dev/null || mv "$new/tree/lib/modules" "$new/lib/" || return 1
    version=$(ls "$new/lib/modules")
    # The kernel itself lies beside its modules from Debian 14 on
    mv "$new"/tree/boot/vmlinuz-* "$new/vmlinuz" 2>/dev/null || mv "$new/lib/modules/$version/vmlinuz" "$new/" || return 1
    chmod a+r "$new/vmlinuz"
    rm -rf "$new/debs" "$new/tree"
    say "computing module dependencies (depmod) for $version"
    PATH=$PATH:/usr/sbin:/sbin depmod -b "$new" "$version" || return 1
    echo "$version" >"$new/version"
    rm -rf "$folder"
    mv "$new" "$folder"
}

# Whether a kernel reads ext4 from a virtio disk without any module.
reads_disks() {
    local name
    for name in ext4 virtio_blk virtio_pci; do
        grep -q "/$name.ko$" "$1"/lib/modules/*/modules.builtin || return 1
    done
}

# Indispensable: an emulator, depmod, mkfs.ext4, a static busybox; xz and zstd for modules.
get_emulator() {
    install_packages qemu-system-x86 busybox-static kmod e2fsprogs xz-utils zstd
    install_optional "runtimes are built without being stripped, and are larger" binutils
    install_remembered
    get_kernel kernel linux-image-amd64 || get_kernel kernel linux-image-generic ||
        fail "cannot get a kernel: neither linux-image-amd64 nor linux-image-generic can be downloaded"
    [ -x /usr/sbin/nginx ] || unpack "$CACHE/nginx" nginx || note_missing nginx "the demonstration has no web server"
}

get_machine() {
    install_optional "the squashfs root is not tested" squashfs-tools
    if [ ! -x /usr/lib/qemu/virtiofsd ] && [ ! -x /usr/libexec/virtiofsd ]; then
        install_optional "the virtiofs root is not tested" virtiofsd
    fi
    install_optional "the erofs root is not tested" erofs-utils
    install_optional "the NFS root is not tested" libtirpc-common # its /etc/netconfig
    install_optional "the tree with another libc (musl) is not tested" gcc libc6-dev musl-tools
    install_optional "the Dockerfile is not built and run" debootstrap buildah podman crun
    install_optional "one kind of file system is not identified" xfsprogs btrfs-progs dosfstools
    install_optional "the control socket is not tried with curl" curl
    install_optional "what PID 1 does when system calls fail is not tried" strace
    install_optional "the state of processes is not compared with what ps shows" procps
    install_optional "the manual pages are not tried in all formatters" man-db mandoc
    install_optional "completion is not tried in all shells" zsh fish
    install_optional "the live view of ocelotctl top is not tried on a terminal" tmux
    install_optional "orphans are not compared with tini" tini
    install_remembered
    # The boot without an initramfs needs a disk and ext4 built in: Ubuntu's kernel has them, of Debian's the cloud flavour.
    reads_disks "$CACHE/kernel" || get_kernel kernel-cloud linux-image-cloud-amd64 ||
        note_missing linux-image-cloud-amd64 "the boot without an initramfs is not tested"
    get_servers
}

get_servers() {
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
    [ -e /etc/supervisor/supervisord.conf ] || unpack "$CACHE/supervisor" supervisor ||
        note_missing supervisor "the file of its package is not converted"
}

# supervisord and circus come from PyPI, when the benchmark runs.
get_peers() {
    install_optional "is left out of the tables" s6 runit tini dinit
    install_optional "the loop in C is left out of the tables" gcc libc6-dev
    install_remembered
}

emulator_is_there() { command -v qemu-system-x86_64 >/dev/null && [ -e "$CACHE/kernel/version" ]; }

# prepare PART: gets it, unless this very script has done so already on this system.
prepare() {
    local MISSING=$CACHE/missing-$1 stamp=$CACHE/$1-stamp wanted
    [ "$(uname -m)" = x86_64 ] ||
        fail "the virtual machines need an x86_64 host (this is $(uname -m)); lint and unit tests run: make lint unit"
    have_apt || emulator_is_there || fail "cannot get a kernel package: this is not a Debian or Ubuntu system"
    make_cache
    wanted="$(sha256sum <"$0" | cut -d' ' -f1) $SYSTEM"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || ! emulator_is_there; then
        : >"$MISSING"
        "get_$1"
        echo "$wanted" >"$stamp"
    fi
    tell_missing "$stamp"
}

for part in "${@:-python}"; do
    case $part in
    python) make_environment ;;
    emulator) prepare emulator ;;
    machine)
        prepare emulator
        prepare machine
        ;;
    peers) prepare peers ;;
    *) fail "unknown part \"$part\": python, emulator, machine or peers" ;;
    esac
done
