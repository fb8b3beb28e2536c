#!/bin/sh
# Installs what r1 needs to build and test. Quick, and without network, when everything is there.
packages="gcc make binutils libc6-dev libgomp1 libdnnl-dev libopenblas-dev libhdf5-dev libyaml-dev libjansson-dev
libpcre2-dev libutf8proc-dev libgmp-dev libssl-dev libxxhash-dev libcmocka-dev python3 python3-numpy python3-h5py
bubblewrap util-linux"

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "make deps: no apt-get here, so nothing was installed or checked; r1 needs what Debian calls" $packages
    exit 0
fi

missing=
for package in $packages; do
    state=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)
    case $state in "install ok installed"*) ;; *) missing="$missing $package" ;; esac
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "make deps: not root and no sudo: as root, run: apt-get install$missing" >&2
        exit 1
    fi
    sudo=sudo
fi
echo "make deps: installing$missing"
# A stale package list is the usual reason for a first failure, and refreshing it needs the network, so it comes second.
install="$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"
$install $missing >/dev/null 2>&1 && exit 0
if $sudo apt-get update && $install $missing; then exit 0; fi
echo "make deps: apt-get could not install$missing: look at its message above, then run make deps again" >&2
exit 1
