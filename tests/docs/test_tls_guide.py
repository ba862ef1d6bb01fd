"""The five commands of the guide connect a miner over TLS."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx
from scripts.processes import BIN, Program

from tests.conftest import CLEAN_ENV, Launcher
from tests.docs.snippets import snippets

PAGE = "docs/how-to/secure-with-tls.md"
PATIENCE_S = 60


def test_the_five_commands_connect_a_miner(launcher: Launcher, tmp_path: Path) -> None:
    env = CLEAN_ENV | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "AITBC_AUTH": "required"}
    # What differs from machine to machine.
    here = {
        "coordinator.lan": "localhost",
        "192.168.1.10": "127.0.0.1",
        "0.0.0.0:8443": "127.0.0.1:0",
        "0.0.0.0:50051": "127.0.0.1:0",
        "--model llama3.2=smollm2": "--engine echo --model llama3.2",
    }

    def run(command: str, name: str) -> Program:
        for there, replacement in here.items():
            command = command.replace(there, replacement)
        script = f"cd {tmp_path}; set -euo pipefail; {command}"
        program = Program(["bash", "-c", script], log=tmp_path / f"{name}.log", env=env)
        return launcher.own(program)

    ca, cert, serve, key, miner = snippets(PAGE, "bash")
    assert run(ca, "ca").wait(timeout_s=PATIENCE_S) == 0
    assert run(cert, "cert").wait(timeout_s=PATIENCE_S) == 0
    ready = run(f"exec {serve}", "serve").wait_for_line(
        r"ready http=(\S+) grpc=(\S+) auth=required", timeout_s=PATIENCE_S
    )
    assert run(key, "key").wait(timeout_s=PATIENCE_S) == 0
    here["localhost:50051"] = f"localhost:{ready[2].rpartition(':')[2]}"
    program = run(miner, "miner")
    program.wait_for_line("miner my-miner-001 ready", timeout_s=PATIENCE_S)

    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    assert httpx.get(f"https://{ready[1]}/health", verify=context).json()["status"] == "ok"
