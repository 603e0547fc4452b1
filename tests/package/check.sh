#!/usr/bin/env bash
# Uses coil as a stranger's project does: installed, then as a subdirectory.
#   check.sh BUILD_DIR WORK_DIR    BUILD_DIR: where coil is built; WORK_DIR is emptied
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$1
work=$2

rm -rf "$work"
mkdir -p "$work"
cmake --install "$build" --prefix "$work/prefix" > "$work/install.log"

found=$(env -u COIL_PROGRAM gdb -batch -nx -x "$work/prefix/share/coil/gdb/coil.py" -ex 'python print(find_program())')
[[ $found == "$(realpath "$work/prefix/bin/coil")" ]]
"$found" --help > /dev/null
echo "the program coil is installed, and gdb's script finds it"

consume() {  # name, extra arguments of the configuration
    local name=$1
    shift
    cmake -G Ninja -S "$here" -B "$work/$name" -DCMAKE_BUILD_TYPE=RelWithDebInfo --log-level=WARNING "$@"
    cmake --build "$work/$name" --target consumer -j "${COIL_JOBS:-1}"
    "$work/$name/consumer"
    if readelf -d "$work/$name/consumer" | grep -q 'NEEDED.*libssl'; then
        echo "a program that uses no TLS is linked with OpenSSL"
        return 1
    fi
    echo "a program that uses coil ($name) builds and runs"
}

consume find_package "-DCMAKE_PREFIX_PATH=$work/prefix" -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF
consume add_subdirectory "-DCOIL_CHECKOUT=$here/../.."
