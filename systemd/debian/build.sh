#!/usr/bin/env bash
# Packs the agent and the coordinator, which are built already, as Debian packages.
#
#   build.sh ARCH BINARIES OUT    amd64 or arm64; the folder of the programs; the folder for the packages
#
# Each package has its program without debug information, its units, user and directories, its configuration, and the profiles
# and pages that explain it. ONNX Runtime is in neither: which build of it is right depends on the device. The same input gives
# the same bytes. Needs dpkg-deb and binutils, no root and no network. VERSION replaces the version of Cargo.toml.
set -euo pipefail

arch=${1:?is missing: amd64 or arm64} binaries=${2:?is missing: where the programs are} out=${3:?is missing: where the packages go}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$(cd "$here/../.." && pwd)
version=${VERSION:-$(sed -nE 's/^version = "(.*)"/\1/p' "$tree/Cargo.toml" | head -n 1)}
# Of the last change, so that the same tree gives the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$tree" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
umask 022

say() { printf 'deb: %s\n' "$*"; }
give_up() {
    printf 'deb: %s\n' "$*" >&2
    exit 1
}

strip="strip"
case $arch in
    amd64) profile=x86 ;;
    arm64) profile=raspberry-pi-5 ;;
    *) give_up "there is no package for $arch; say amd64 or arm64" ;;
esac
[ "$arch" = "$(dpkg --print-architecture)" ] || strip=aarch64-linux-gnu-strip
for tool in dpkg-deb readelf "$strip"; do
    command -v "$tool" >/dev/null || give_up "$tool is missing; install dpkg and binutils (for the other architecture: its binutils)"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The newest C library that a program asks for: an older system's apt then says so, and not the program's loader.
glibc() { readelf -V "$1" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1 | cut -d_ -f2; }

# put MODE FILE PATH : into the package that is being packed.
put() { install -D -m "$1" "$2" "$root/$3"; }

pack() {
    local name=$1 short=${1#picket-}
    root=$work/$name doc=usr/share/doc/$name
    [ -x "$binaries/$name" ] || give_up "$binaries/$name is missing; make build, or make deb, which does it"
    mkdir -p "$root/DEBIAN"
    put 755 "$binaries/$name" "usr/bin/$name"
    "$strip" --strip-unneeded --remove-section=.comment "$root/usr/bin/$name"
    put 644 "$tree/systemd/$name.service" "usr/lib/systemd/system/$name.service"
    put 644 "$tree/systemd/sysusers.d/$name.conf" "usr/lib/sysusers.d/$name.conf"
    put 644 "$tree/systemd/tmpfiles.d/$name.conf" "usr/lib/tmpfiles.d/$name.conf"
    put 644 "$tree/README.md" "$doc/README.md"
    put 644 "$tree/NOTICE" "$doc/NOTICE"
    put 644 "$here/copyright" "$doc/copyright"
    put 644 "$tree/shared/PROTOCOL.md" "$doc/PROTOCOL.md"
    mkdir -p "$root/$doc/examples"
    contents_of_"$short"

    printf '%s (%s) unstable; urgency=medium\n\n  * Picket %s. What it does and what it does not is in README.md.\n\n -- %s  %s\n' \
        "$name" "$version" "$version" "Picket <packages@picket.invalid>" "$(date -uR -d "@$SOURCE_DATE_EPOCH")" |
        gzip -9n >"$root/$doc/changelog.gz"

    (cd "$root" && find etc -type f -printf '/%p\n' | sort) >"$root/DEBIAN/conffiles"
    (cd "$root" && find etc usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@GLIBC@/$(glibc "$root/usr/bin/$name")/" \
        -e "s/@KIB@/$(du -sk --apparent-size "$root" | cut -f1)/" "$here/$short.control" >"$root/DEBIAN/control"
    local script
    for script in postinst prerm postrm; do
        sed -e "s/@NAME@/$name/g" "$here/$script" >"$root/DEBIAN/$script"
        chmod 755 "$root/DEBIAN/$script"
    done
    mkdir -p "$out"
    dpkg-deb --root-owner-group --build "$root" "$out/${name}_${version}_${arch}.deb" >/dev/null
    say "$out/${name}_${version}_${arch}.deb"
}

contents_of_agent() {
    put 644 "$tree/systemd/picket-agent-renew.service" usr/lib/systemd/system/picket-agent-renew.service
    put 644 "$tree/systemd/picket-agent-renew.timer" usr/lib/systemd/system/picket-agent-renew.timer
    put 644 "$tree/systemd/70-picket.rules" usr/lib/udev/rules.d/70-picket.rules
    # May come to hold a password.
    put 640 "$tree/firmware-configs/$profile/agent.toml" etc/picket/agent.toml
    local kind
    for kind in jetson-nano jetson-orin-nano jetson-agx-orin raspberry-pi-5 drone-companion x86; do
        cp -r --no-preserve=all "$tree/firmware-configs/$kind" "$root/$doc/examples/"
        rm -f "$root/$doc/examples/$kind/coordinator.toml"
    done
    put 644 "$tree/systemd/jetson.conf" "$doc/examples/jetson.conf"
    put 644 "$tree/systemd/raspberry-pi.conf" "$doc/examples/raspberry-pi.conf"
    # The model inside the program.
    put 644 "$tree/agent/models/README.md" "$doc/model.md"
    put 644 "$tree/agent/models/LICENSE" "$doc/model.copyright"
}

contents_of_coordinator() {
    put 640 "$tree/firmware-configs/x86/coordinator.toml" etc/picket/coordinator.toml
    cp -r --no-preserve=all "$tree/firmware-configs/mosquitto" "$root/$doc/examples/"
}

pack picket-agent
pack picket-coordinator
