#!/bin/sh
# Sees to it that the programs that kvmtools calls are there.  Where there is apt-get, what is missing is named and
# then installed, through sudo where we are not root; elsewhere, and with KVMTOOLS_NO_INSTALL=1, it is named alone.
# The guests' kernels are built from the newest source that the distribution itself has (or from KVMTOOLS_SOURCE).
set -eu

# One line each: program (or file) | Debian package | purpose
needs='
qemu-system-i386|qemu-system-x86|runs the guests
gdb|gdb|reads registers and writes memory through the guest
gcc|gcc|compiles the kernels and the guest init
make|make|builds the kernels
/usr/include/stdio.h|libc6-dev|builds the programs that the kernel build runs
awk|gawk|makes tables of the kernel build
flex|flex|builds the kernel configuration parser
bison|bison|builds the kernel configuration parser
bc|bc|computes constants of the kernel build
xz|xz-utils|unpacks the kernel source
python3|python3|runs kvmtools
/usr/lib/python3*/ensurepip|python3-venv|makes the virtual environment
'
root=${KVMTOOLS_TEST_ROOT:-} # where the tests of this script have their files

there() {
    case $1 in
        /*) set -- "$root"$1 && [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# The newest linux-source-VERSION that apt can install, or nothing.  Its names are compared whole: apt-get would take a
# name that it does not have for a pattern, and linux-source-6.1 for linux-source-6.12.
newest_source() {
    LC_ALL=C apt-cache pkgnames linux-source- | grep -E '^linux-source-[0-9]+(\.[0-9]+)+$' | sort -rV |
        while read -r name; do
            if LC_ALL=C apt-cache policy "$name" | grep -q '^  Candidate: [0-9]'; then
                echo "$name"
                break
            fi
        done
}

missing=
packages=
lacks() { # package, what it has, purpose
    missing="$missing  $2: $3 (Debian: $1)
"
    packages="$packages $1"
}
while IFS='|' read -r thing package purpose; do
    [ -z "$thing" ] || there "$thing" || lacks "$package" "$thing" "$purpose"
done <<EOF
$needs
EOF
sourceless=
[ -n "${KVMTOOLS_SOURCE:-}" ] || there '/usr/src/linux-source-*.tar.*' || sourceless=yes
[ -n "$packages$sourceless" ] || exit 0

refuse() {
    [ -z "$sourceless" ] || lacks "${offered:-linux-source-VERSION}" '/usr/src/linux-source-*.tar.*' "$source_purpose"
    printf '%s:\n%s' "$1" "$missing" >&2
    exit 3
}
source_purpose='is the source of the two guest kernels'
offered=
command -v apt-get >/dev/null 2>&1 ||
    refuse 'programs are missing, and this machine has no apt-get to install them with'
[ -z "$sourceless" ] || offered=$(newest_source)
[ "${KVMTOOLS_NO_INSTALL:-0}" = 0 ] || refuse 'KVMTOOLS_NO_INSTALL is set: nothing is installed, and this is missing'
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    refuse 'programs are missing, and without root or sudo they cannot be installed'
fi

echo "make: programs are missing: ${as_root:+$as_root }apt-get update"
$as_root apt-get update -qq
if [ -n "$sourceless" ]; then
    offered=$(newest_source)
    if [ -z "$offered" ]; then
        echo 'apt offers no linux-source-VERSION: name a Linux tree or tarball, make run KVMTOOLS_SOURCE=PATH' >&2
        exit 3
    fi
    lacks "$offered" '/usr/src/linux-source-*.tar.*' "$source_purpose"
fi
printf 'make: installing what is missing:\n%s' "$missing"
# The names are one word each: splitting them is meant.
# shellcheck disable=SC2086
set -- apt-get install -y -qq --no-install-recommends --no-remove $packages
needed=$(LC_ALL=C "$@" --simulate | sed -n 's/^Inst \([^ ]*\).*/\1/p' | sort | tr '\n' ' ')
echo "make: ${as_root:+$as_root }$*"
echo "make: with what these need, that is: $needed" | fold -s -w 110
$as_root env DEBIAN_FRONTEND=noninteractive "$@" >/dev/null
