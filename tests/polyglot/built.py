"""Compiles the clients and miners of clients/, each with its own tools."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from scripts.processes import BIN, ROOT

CLIENTS = ROOT / "clients"
GO_PATH = ROOT / "build" / "go"
# Debian's packages are on a path, not modules.
GO_ENV = os.environ | {
    "GO111MODULE": "off",
    "GOPATH": f"{GO_PATH}:/usr/share/gocode",
    "GOFLAGS": "",
    "PATH": f"{BIN}:{os.environ['PATH']}",
}
# Debian's protoc fits Debian's runtimes.
DEBIAN = "/usr/bin:/bin"
JARS = ":".join(
    f"/usr/share/java/{name}.jar"
    for name in (
        *("protobuf", "proto-google-common-protos", "guava", "gson", "jsr305"),
        *("grpc-api", "grpc-context", "grpc-core", "grpc-netty", "grpc-protobuf", "grpc-stub"),
        *("grpc-protobuf-lite", "geronimo-annotation-1.3-spec", "perfmark-api", "perfmark-impl"),
        *("netty-buffer", "netty-codec", "netty-codec-http", "netty-codec-http2", "netty-common"),
        *("netty-codec-socks", "netty-handler", "netty-handler-proxy", "netty-resolver"),
        "netty-transport",
    )
)


def command(language: str, program: str) -> list[str | Path]:
    """Returns what starts the example `scenario` or `miner` of a language, compiled."""
    return _COMMANDS[language](program)


def run(*argv: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """Runs a command to its end, which must be a good one; returns what it printed."""
    done = subprocess.run(
        argv, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@cache
def go_source() -> Path:
    """Returns the Go package with its generated part, where Go finds it as `aitbc`."""
    run(CLIENTS / "go" / "generate.sh", env=GO_ENV)
    package = GO_PATH / "src" / "aitbc"
    package.parent.mkdir(parents=True, exist_ok=True)
    if not package.is_symlink():
        package.symlink_to(CLIENTS / "go")
    return package


@cache
def _go(program: str) -> list[str | Path]:
    go_source()
    binary = GO_PATH / "bin" / program
    run("go", "build", "-o", binary, f"aitbc/examples/{program}", env=GO_ENV)
    return [binary]


@cache
def typescript_package() -> Path:
    """Returns the TypeScript package, built."""
    package = CLIENTS / "typescript"
    run("npm", "run", "build", cwd=package, env=os.environ | {"PATH": GO_ENV["PATH"]})
    return package


def _typescript(program: str) -> list[str | Path]:
    return ["node", typescript_package() / "dist" / "examples" / f"{program}.js"]


@cache
def java_jars() -> str:
    """Returns the class path of the Java client, built."""
    package = CLIENTS / "java"
    run(package / "build.sh", env=os.environ | {"PATH": DEBIAN, "CLASSPATH": JARS})
    return f"{package / 'build' / 'aitbc.jar'}:{JARS}"


def _java(program: str) -> list[str | Path]:
    source = CLIENTS / "java" / "examples" / f"{program.capitalize()}.java"
    # A program of one file needs not be compiled.
    return ["java", "-cp", java_jars(), source]


def _python(program: str) -> list[str | Path]:
    return [sys.executable, ROOT / "tests" / "polyglot" / "programs" / f"{program}.py"]


_COMMANDS: dict[str, Callable[[str], list[str | Path]]] = {
    "go": _go,
    "java": _java,
    "python": _python,
    "typescript": _typescript,
}
