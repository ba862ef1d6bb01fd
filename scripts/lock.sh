#!/usr/bin/env bash
# Writes deploy/requirements.txt: what docs/how-to/deploy.md installs, in the versions that are tested
# together, with the hashes of their files. Names, versions and hashes only: where they come from is
# for who installs them to say.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/step.sh

lock() {
    local index=${PIP_INDEX_URL:-}
    .venv/bin/pip install --disable-pip-version-check --quiet uv
    # uv does not ask pip where packages come from.
    [ -n "$index" ] || index=$(.venv/bin/pip config get global.index-url 2>/dev/null) || true
    [ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
    # To build our own wheel, too.
    echo 'hatchling>=1.27' | .venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
        --extra otel --constraints constraints/dev.txt --generate-hashes --no-annotate --no-header \
        --no-emit-index-url --no-emit-find-links --output-file deploy/requirements.txt \
        pyproject.toml -
    sed -i '1i # What the coordinator is installed with. Written by: make lock' deploy/requirements.txt
}
step "Locking deploy/requirements.txt" lock
