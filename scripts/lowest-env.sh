#!/usr/bin/env bash
# Installs into .venv-lowest both commands and the developer's tools in the lowest versions that
# pyproject.toml allows. pip cannot choose these; uv can.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/step.sh
bin=.venv-lowest/bin

install() {
    local index=${PIP_INDEX_URL:-}
    "$bin/pip" install --disable-pip-version-check --root-user-action=ignore uv
    # uv does not ask pip where packages come from.
    [ -n "$index" ] || index=$("$bin/pip" config get global.index-url) || true
    [ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
    "$bin/uv" pip install --python "$bin/python" --resolution lowest-direct -e '.[dev]'
}
step "Installing the lowest versions into .venv-lowest" install
