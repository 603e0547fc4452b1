#!/usr/bin/env bash
# Builds coil and runs its tests on another Debian, with both compilers, in a folder made by debootstrap.
#   check_debian.sh SUITE [COMMAND]    trixie (Debian 13), sid (unstable); as root. COMMAND: instead of the tests, a shell's
#                                      line that is run there in the checkout
#
# The folder, build/debian/SUITE, is kept for the next time; remove it to begin anew. The compiler cache is the caller's.
set -euo pipefail

suite=$1
command=${2:-./dev test && ./dev check gcc}
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$top/build/debian/$suite
cache=${CCACHE_DIR:-$HOME/.cache/ccache}

[[ $(id -u) -eq 0 ]] || {
    echo "check_debian.sh: only root may make a system in a folder" >&2
    exit 1
}
command -v debootstrap > /dev/null || apt-get install -q -y --no-install-recommends debootstrap

if [[ ! -e $root/complete ]]; then
    mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian //p' | head -n 1)
    mkdir -p "$root"
    debootstrap --variant=minbase --include=ca-certificates,git "$suite" "$root" "$mirror"
    touch "$root/complete"
fi
cp /etc/hosts /etc/resolv.conf "$root/etc/" 2> /dev/null || true
cp -r /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"  # proxies

mounted=()
bind() {  # from, to
    mkdir -p "$1" "$2"
    mount --bind "$1" "$2"
    mounted=("$2" "${mounted[@]}")
}
trap 'for place in "${mounted[@]}"; do umount "$place"; done' EXIT
bind /proc "$root/proc"
bind /sys "$root/sys"
bind /dev "$root/dev"
bind /dev/pts "$root/dev/pts"
bind /dev/shm "$root/dev/shm"
bind "$cache" "$root/ccache"

# What is in the working tree, without what was built there; files keep their times, so that only changes are built again.
mkdir -p "$root/coil"
(cd "$top" && git ls-files -z --cached --others --exclude-standard --deduplicate |
    xargs -0 ls -d 2> /dev/null | tar -c -T -) | tar -x -C "$root/coil"

chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 CCACHE_DIR=/ccache \
    bash -c "cd /coil && $command"
