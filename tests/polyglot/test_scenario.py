"""The client of each language does what clients/SCENARIO.md says, over the coordinator's death."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from scripts.processes import ROOT, Program

from aitbc_client import Client, Connection
from tests.certificates import Authority
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.keys import create_key, run_keys
from tests.polyglot.built import command

PATIENCE_S = 60
MODEL = "llama3.2"
# As pages speak, by the coordinator's HTTP port.
CONNECT = "typescript over Connect"
LANGUAGES = [
    "python",
    *(
        pytest.param(name, marks=pytest.mark.polyglot)
        for name in ("go", "java", "typescript", CONNECT)
    ),
]
# The netty of Debian's grpc-java cannot negotiate HTTP/2 over TLS.
PLAIN = {"java"}


def expected() -> list[dict[str, Any]]:
    """Returns the lines of the table."""
    text = (ROOT / "clients" / "SCENARIO.md").read_text()
    lines = re.findall(r'^\| .* \| `(\{"step".*\})` \|$', text, re.MULTILINE)
    return [json.loads(line) for line in lines]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", LANGUAGES)
def test_client_does_the_scenario(language: str, launcher: Launcher, tmp_path: Path) -> None:
    program = command(language.split()[0], "scenario")
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    trust = {} if language in PLAIN else {"AITBC_TLS_CA": str(authority.cert)}
    options = ["--auth", "required"]
    if trust:
        options += ["--tls-cert", str(cert), "--tls-key", str(key)]
    coordinator = launcher.coordinator(*options)
    data = coordinator.data
    launcher.miner(
        coordinator,
        *("--api-key", create_key(data, "miner"), "--engine-opt", "tokens_per_second=40"),
        *(("--tls-ca", str(authority.cert)) if trust else ()),
        models=[MODEL],
    )
    env = trust | {
        "AITBC_COORDINATOR": coordinator.grpc,
        "AITBC_API_KEY": create_key(data, "client"),
        "AITBC_SPENT_KEY": create_key(data, "client"),
        "AITBC_MODEL": MODEL,
    }
    if language == CONNECT:
        env |= {
            "AITBC_URL": f"https://{coordinator.http}",
            "NODE_EXTRA_CA_CERTS": str(authority.cert),
        }
    connection = Connection(
        target=coordinator.grpc,
        api_key=env["AITBC_SPENT_KEY"],
        tls_ca=authority.cert if trust else None,
    )
    _spend(connection, data)

    client = launcher.own(Program(program, log=tmp_path / "client.log", env=CLEAN_ENV | env))
    client.wait_for_line('"first delta"', timeout_s=PATIENCE_S)
    coordinator.program.kill()
    launcher.again(coordinator, *options)
    status = client.wait(timeout_s=PATIENCE_S)
    printed = (tmp_path / "client.log").read_text()
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert lines == expected()
    assert status == 0


def _spend(connection: Connection, data: Path) -> None:
    assert connection.api_key is not None
    limited = run_keys("limit", connection.api_key.split("_")[1], "jobs_per_day=1", data=data)
    assert limited.exit_code == 0, limited.output
    with Client(connection) as client:
        client.submit("one", model=MODEL)
