#!/usr/bin/env bash
# Regenerates src/gen from protos/: message and service stubs, and their types.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
find src/gen/aitbc \( -name '*_pb2*.py*' -o -name '*.binpb' \) -delete
python -m grpc_tools.protoc -I protos \
    --python_out=src/gen --mypy_out=quiet:src/gen \
    --grpc_python_out=src/gen --mypy_grpc_out=quiet,only_async:src/gen \
    protos/aitbc/v1/*.proto
# The comments, which generated code leaves out: one file for each proto, so that two changes meet only
# where their protos do.
for proto in protos/aitbc/v1/*.proto; do
    python -m grpc_tools.protoc -I protos --include_source_info \
        -o "src/gen/aitbc/v1/$(basename "$proto" .proto).binpb" "$proto"
done
# protoc writes a service stub for every file; those without a service are noise.
grep -L 'Stub' src/gen/aitbc/v1/*_pb2_grpc.py | sed 's/\.py$//' | while read -r stub; do rm "$stub.py" "$stub.pyi"; done
touch src/gen/aitbc/v1/py.typed
