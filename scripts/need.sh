#!/usr/bin/env bash
# Makes sure that programs exist: installs the Debian packages that have them when it may, and says
# what to install when it may not.
# Usage: scripts/need.sh PROGRAM=PACKAGE...
set -euo pipefail
. "$(dirname "$0")/step.sh"

# Servers are there, on Debian, and not on everybody's path.
PATH=$PATH:/usr/sbin
packages=()
for need in "$@"; do
    command -v "${need%%=*}" >/dev/null || packages+=("${need#*=}")
done
[ "${#packages[@]}" -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing: ${packages[*]}. Install with your package manager, then try again;" \
        "on Debian: sudo apt-get install ${packages[*]}" >&2
    exit 1
fi

install() {
    # Run level 1: a server is installed, and not started.
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"
}
step "Missing programs: installing ${packages[*]} with apt-get" install "${packages[@]}"
