#!/bin/sh
# Sees to it that the programs that kvmtools calls are there.  On Debian (and its children) what is missing is
# installed by apt-get, through sudo where we are not root; elsewhere it is named with its purpose.
# One line each: program (or file) | Debian package | purpose
set -eu

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
/usr/src/linux-source-6.1.tar.xz|linux-source-6.1|is the source of the two guest kernels
python3|python3|runs kvmtools
/usr/lib/python3*/ensurepip|python3-venv|makes the virtual environment
'

missing=
packages=
while IFS='|' read -r thing package purpose; do
    [ -n "$thing" ] || continue
    case $thing in
        /*) set -- $thing; [ -e "$1" ] && continue ;;
        *) command -v "$thing" >/dev/null 2>&1 && continue ;;
    esac
    missing="$missing  $thing: $purpose (Debian: $package)
"
    packages="$packages $package"
done <<EOF
$needs
EOF

[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    printf 'programs are missing, and this machine has no apt-get to install them with:\n%s' "$missing" >&2
    exit 3
fi
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    printf 'programs are missing, and without root or sudo they cannot be installed:\n%s' "$missing" >&2
    exit 3
fi
printf 'make: installing what is missing:\n%s' "$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# The names are one word each: splitting them is meant.
# shellcheck disable=SC2086
$as_root apt-get install -y -qq --no-install-recommends $packages >/dev/null
