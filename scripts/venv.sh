#!/usr/bin/env bash
# Makes a virtual environment with the Python of $PYTHON (python3 unless set).
# Usage: scripts/venv.sh DIRECTORY
set -euo pipefail
python=${PYTHON:-python3}

if ! command -v "$python" >/dev/null; then
    echo "No $python here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed, and $python is $("$python" --version)." \
        "Name another: make PYTHON=python3.12" >&2
    exit 1
fi
# Half of one would be taken for a whole one the next time.
trap 'rm -rf "$1"' EXIT
"$python" -m venv "$1"
trap - EXIT
