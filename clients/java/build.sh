#!/usr/bin/env bash
# Generates the stubs from the protos and compiles all of it into build/aitbc.jar. CLASSPATH has the jars of
# gRPC and of protobuf; protoc and grpc_java_plugin of the same versions are on the PATH.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf build
mkdir -p build/gen build/classes
protoc -I ../../protos --java_out=build/gen --grpc-java_out=build/gen \
    --plugin=protoc-gen-grpc-java="$(command -v grpc_java_plugin)" ../../protos/aitbc/v1/*.proto
find build/gen src -name '*.java' >build/sources
javac --release 11 -proc:none -nowarn -d build/classes @build/sources
jar --create --file build/aitbc.jar -C build/classes .
