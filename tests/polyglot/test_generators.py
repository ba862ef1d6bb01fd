"""What generators of other languages make of the protos compiles, and calls a coordinator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripts.processes import ROOT, Coordinator

from tests.docs.snippets import pointed_at, snippets
from tests.polyglot.built import DEBIAN, JARS
from tests.polyglot.clone import Clone
from tests.polyglot.guide import PAGE, commands

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(600)]

HERE = ROOT / "tests" / "polyglot"
PROGRAMS = HERE / "programs"
NODE_MODULES = HERE / "node" / "node_modules"
POLYGLOT_BIN = ROOT / ".venv-polyglot" / "bin"
NOT_FOUND = "JOB_NOT_FOUND"


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    clone = Clone(tmp_path)
    clone.out.mkdir()
    return clone


def _lines(output: str) -> list[str]:
    return output.splitlines()


def test_go(clone: Clone, coordinator: Coordinator) -> None:
    clone.run("buf", "generate", "--template", "buf.gen.go.yaml")
    package = clone.path / "go" / "src" / "aitbc"
    package.mkdir(parents=True)
    (clone.path / "build" / "stubs" / "go" / "aitbc" / "v1").rename(package / "v1")
    # As a module of one's own would have it; Debian's packages are on a path, not modules.
    env = {"GO111MODULE": "off", "GOPATH": f"{clone.path}/go:/usr/share/gocode", "GOFLAGS": ""}
    clone.run("go", "build", "-o", "main", PROGRAMS / "main.go", **env)
    config = clone.path / "protos" / "aitbc" / "v1" / "service_config.json"
    printed = clone.run("./main", coordinator.grpc, "hello from Go", config)
    assert _lines(printed) == ["hello from Go", NOT_FOUND]


def test_the_command_of_the_guide_for_go(clone: Clone) -> None:
    clone.run(
        "bash", "-c", f"{commands()['Go']} --go-grpc_out=out --go-grpc_opt=paths=source_relative"
    )
    assert {"aitbc/v1/jobs.pb.go", "aitbc/v1/jobs_grpc.pb.go"} <= set(clone.files("out"))


def test_java(clone: Clone, coordinator: Coordinator) -> None:
    plugin = "--plugin=protoc-gen-grpc-java=/usr/bin/grpc_java_plugin --grpc-java_out=out"
    clone.run("bash", "-c", f"{commands()['Java']} {plugin}", PATH=DEBIAN)
    (clone.path / "classes").mkdir()
    sources = [str(clone.out / name) for name in clone.files("out")]
    clone.run(
        *("javac", "-proc:none", "-nowarn", "-cp", JARS, "-d", "classes"),
        *(*sources, str(PROGRAMS / "Main.java")),
    )
    printed = clone.run(
        "java", "-cp", f"classes:{JARS}", "Main", coordinator.grpc, "hello from Java"
    )
    assert _lines(printed) == ["hello from Java"]


def test_ruby(clone: Clone, coordinator: Coordinator) -> None:
    plugin = "--grpc_out=out --plugin=protoc-gen-grpc=/usr/bin/grpc_ruby_plugin"
    clone.run("bash", "-c", f"{commands()['Ruby']} {plugin}", PATH=DEBIAN)
    program = PROGRAMS / "client.rb"
    printed = clone.run("ruby", "-I", "out", program, coordinator.grpc, "hello from Ruby")
    assert _lines(printed) == ["hello from Ruby", NOT_FOUND, "a hash"]


def test_php(clone: Clone) -> None:
    # No package of Debian's has the stubs of google/api.
    clone.run("bash", "-c", f"{commands()['PHP']} protos/google/api/*.proto", PATH=DEBIAN)
    job = {"prompt": "hello from PHP", "status": "JOB_STATUS_PENDING"}
    (clone.path / "job.json").write_text(json.dumps(job))
    printed = clone.run("bash", "-c", f"php {PROGRAMS / 'message.php'} out < job.json")
    assert _lines(printed) == ["hello from PHP", "JOB_STATUS_PENDING"]


def test_cpp(clone: Clone) -> None:
    plugin = "--grpc_out=out --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin"
    clone.run("bash", "-c", f"{commands()['C++']} {plugin}", PATH=DEBIAN)
    includes = [f'#include "{name}"' for name in clone.files("out") if name.endswith(".pb.h")]
    (clone.path / "all.cc").write_text("\n".join([*includes, "int main() { return 0; }\n"]))
    clone.run("g++", "-std=c++17", "-fsyntax-only", "-I", "out", "all.cc")


def test_typescript(clone: Clone) -> None:
    (clone.path / "node_modules").symlink_to(NODE_MODULES)
    path = f"{NODE_MODULES / '.bin'}:{clone.env['PATH']}"
    clone.run("buf", "generate", "--template", "buf.gen.ts.yaml", PATH=path)
    clone.run("bash", "-c", commands()["TypeScript"], PATH=path)
    (clone.path / "use.ts").write_text(
        'import { create } from "@bufbuild/protobuf";\n'
        'import { JobService, SubmitJobRequestSchema } from "./build/stubs/ts/aitbc/v1/jobs_pb";\n'
        'const request = create(SubmitJobRequestSchema, { prompt: "hello", model: "m" });\n'
        "export const named: string = JobService.method.submitJob.name + request.model;\n"
    )
    options = {
        "compilerOptions": {
            "strict": True,
            "noEmit": True,
            "target": "es2022",
            "module": "esnext",
            "moduleResolution": "bundler",
        },
        "include": ["use.ts", "build/stubs/ts", "out"],
    }
    (clone.path / "tsconfig.json").write_text(json.dumps(options))
    clone.run("tsc", "-p", ".", PATH=path)


def test_typescript_of_ts_proto(clone: Clone) -> None:
    (clone.path / "node_modules").symlink_to(NODE_MODULES)
    path = f"{NODE_MODULES / '.bin'}:{clone.env['PATH']}"
    options = "--ts_proto_out=out --ts_proto_opt=outputServices=grpc-js,esModuleInterop=true"
    clone.run("bash", "-c", f"protoc -I protos {options} protos/aitbc/v1/*.proto", PATH=path)
    assert "aitbc/v1/jobs.ts" in clone.files("out")


def test_grpclib(clone: Clone, coordinator: Coordinator) -> None:
    options = "--grpclib_python_out=out"
    path = f"{POLYGLOT_BIN}:{clone.env['PATH']}"
    clone.run("bash", "-c", f"{commands()['Python']} {options}", PATH=path)
    program = PROGRAMS / "grpclib_client.py"
    printed = clone.run(
        *(POLYGLOT_BIN / "python", program, coordinator.grpc, "hello from grpclib"),
        PYTHONPATH=str(clone.out),
    )
    assert _lines(printed) == ["hello from grpclib"]


def test_connectrpc(clone: Clone, coordinator: Coordinator) -> None:
    """The client of PyPI's `connectrpc`, with messages of Google's runtime."""
    clone.run("bash", "-c", commands()["Python"])
    program = PROGRAMS / "connectrpc_client.py"
    printed = clone.run(
        *(POLYGLOT_BIN / "python", program, coordinator.url, "hello from connectrpc"),
        PYTHONPATH=str(clone.out),
        NO_PROXY="127.0.0.1",
    )
    said = "hello from connectrpc"
    assert _lines(printed) == [f"{said} | {said} | not_found"] * 4


def test_grpcurl_needs_no_protos(clone: Clone, coordinator: Coordinator) -> None:
    lines = [
        pointed_at(line.removeprefix("$ "), coordinator)
        for block in snippets(PAGE, "console")
        for line in block.splitlines()
        if line.startswith("$ grpcurl")
    ]
    described, called = [
        clone.run("bash", "-c", line, PATH=f"{POLYGLOT_BIN}:{DEBIAN}") for line in lines
    ]
    assert "is a method" in described
    assert 'post:"/v1/jobs"' in described
    assert '"status": "JOB_STATUS_PENDING"' in called
    everything = clone.run(POLYGLOT_BIN / "grpcurl", "-plaintext", coordinator.grpc, "describe")
    assert "aitbc.v1.MinerService is a service" in everything
    assert "grpc.reflection.v1.ServerReflection is a service" in everything
