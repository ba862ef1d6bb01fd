#!/usr/bin/env bash
# Writes package aitbc/v1, the messages and services, from the protos. Needs protoc, protoc-gen-go and
# protoc-gen-go-grpc on the PATH.
set -euo pipefail
cd "$(dirname "$0")/../.."
protoc -I protos --go_out=clients/go --go_opt=module=aitbc --go-grpc_out=clients/go --go-grpc_opt=module=aitbc \
    protos/aitbc/v1/*.proto
