"""TLS on both ports, towards both ports, and what is said when the two sides disagree."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from scripts.processes import BIN, Coordinator, Program
from typer.testing import CliRunner

from aitbc_server.cli import cli
from tests.certificates import Authority
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import assert_error, final, submit

PATIENCE_S = 30


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    """A private CA."""
    return Authority(tmp_path)


def serving(ca: Authority, *more: str) -> Sequence[str]:
    """Returns the options of a server with a certificate of this CA."""
    cert, key = ca.issue("server")
    return ["--tls-cert", str(cert), "--tls-key", str(key), *more]


def client(address: str, ca: Authority, cert: tuple[Path, Path] | None = None) -> httpx.Client:
    """Returns a client over TLS that trusts the CA."""
    context = ssl.create_default_context(cafile=ca.cert)
    if cert is not None:
        context.load_cert_chain(*cert)
    return httpx.Client(base_url=f"https://{address}", verify=context, timeout=70)


def gateway(launcher: Launcher, coordinator: Coordinator, log: Path, *options: str) -> str:
    """Starts a gateway; returns the address of its REST API."""
    argv: list[str | Path] = [BIN / "aitbc-coordinator", "gateway", "--target", coordinator.grpc]
    program = Program([*argv, "--http", "127.0.0.1:0", *options], log=log, env=CLEAN_ENV)
    launcher.own(program)
    return program.wait_for_line(r"gateway ready http=(\S+)", timeout_s=PATIENCE_S)[1]


def shown(address: str, ca: Authority, protocol: str) -> bytes:
    """Returns the certificate that a port shows."""
    context = ssl.create_default_context(cafile=ca.cert)
    context.set_alpn_protocols([protocol])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), PATIENCE_S) as raw,
        context.wrap_socket(raw, server_hostname=host) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def test_jobs_go_over_tls_all_the_way(launcher: Launcher, ca: Authority, tmp_path: Path) -> None:
    options = serving(ca)
    coordinator = launcher.coordinator(*options)
    coordinator.program.wait_for_line(r"ready .* tls=on$", timeout_s=PATIENCE_S)
    launcher.miner(coordinator, "--tls", "--tls-ca", str(ca.cert))
    with client(coordinator.http, ca) as api:
        job_id = submit(api, prompt="over TLS")
        assert final(api, job_id)["result"] == "over TLS"

    towards = ["--target-tls", "--target-ca", str(ca.cert)]
    address = gateway(launcher, coordinator, tmp_path / "gateway.log", *towards, *options)
    with client(address, ca) as api:
        assert api.get(f"/v1/jobs/{job_id}").json()["result"] == "over TLS"


def test_a_client_without_a_certificate_is_refused_where_one_is_asked_for(
    launcher: Launcher, ca: Authority, tmp_path: Path
) -> None:
    coordinator = launcher.coordinator(*serving(ca, "--tls-client-ca", str(ca.cert)))
    cert, key = ca.issue("client", "me")
    other = Authority(tmp_path, "other")
    with client(coordinator.http, ca, (cert, key)) as api:
        launcher.miner(
            coordinator, "--tls-ca", str(ca.cert), "--tls-cert", str(cert), "--tls-key", str(key)
        )
        assert final(api, submit(api, prompt="mutual"))["result"] == "mutual"
    for wrong in (None, other.issue("stranger", "me")):
        with client(coordinator.http, ca, wrong) as api, pytest.raises(httpx.TransportError):
            api.get("/health")
    stranger = launcher.miner(coordinator, "--tls-ca", str(ca.cert), miner_id="stranger")
    stranger.wait_for_line("--tls-cert and --tls-key", timeout_s=PATIENCE_S)

    shown_cert = ["--target-cert", str(cert), "--target-key", str(key)]
    towards = ["--target-ca", str(ca.cert), *shown_cert]
    address = gateway(launcher, coordinator, tmp_path / "gateway.log", *towards)
    assert httpx.get(f"http://{address}/health").json()["status"] == "ok"


def test_a_miner_is_told_what_its_connection_needs(
    launcher: Launcher, ca: Authority, tmp_path: Path
) -> None:
    plain = launcher.coordinator()
    cert, key = ca.issue("server", "another.example")
    secure = launcher.coordinator("--tls-cert", str(cert), "--tls-key", str(key))
    stranger = Authority(tmp_path, "stranger")
    for name, coordinator, options, said in (
        ("plain", secure, [], "speaks TLS on this port: give --tls"),
        ("tls", plain, ["--tls-ca", str(ca.cert)], "speaks plain text on this port"),
        ("untrusting", secure, ["--tls-ca", str(stranger.cert)], "not signed by one .* --tls-ca"),
        ("misled", secure, ["--tls-ca", str(ca.cert)], "certificate is not for 127.0.0.1"),
    ):
        miner = launcher.miner(coordinator, *options, miner_id=name)
        miner.wait_for_line(said, timeout_s=PATIENCE_S)


def test_a_gateway_with_the_wrong_trust_says_that_it_reaches_nobody(
    launcher: Launcher, ca: Authority, tmp_path: Path
) -> None:
    coordinator = launcher.coordinator(*serving(ca))
    stranger = Authority(tmp_path, "stranger")
    towards = ["--target-ca", str(stranger.cert)]
    address = gateway(launcher, coordinator, tmp_path / "gateway.log", *towards)
    assert_error(httpx.get(f"http://{address}/v1/jobs"), 503, "UNAVAILABLE")


def test_a_renewed_certificate_is_shown_without_a_restart(
    launcher: Launcher, ca: Authority
) -> None:
    coordinator = launcher.coordinator(*serving(ca))
    ports = ((coordinator.http, "http/1.1"), (coordinator.grpc, "h2"))
    before = [shown(address, ca, protocol) for address, protocol in ports]
    assert before[0] == before[1] != b""

    # Halfway through a renewal: the key does not fit the certificate yet.
    cert, key = ca.issue("server")
    new_key = key.read_bytes()
    key.write_bytes(b"not a key\n")
    assert [shown(address, ca, protocol) for address, protocol in ports] == before
    coordinator.program.wait_for_line("tls.reload_failed", timeout_s=PATIENCE_S)

    key.write_bytes(new_key)
    after = [shown(address, ca, protocol) for address, protocol in ports]
    assert after[0] == after[1] == ssl.PEM_cert_to_DER_cert(_first(cert))
    assert after != before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tls-cert", "{cert}"], "--tls-cert and --tls-key"),
        (["--tls-client-ca", "{cert}"], "--tls-cert and --tls-key"),
        (["--tls-cert", "{cert}", "--tls-key", "/no/such"], "/no/such"),
        (["--tls-cert", "{cert}", "--tls-key", "{cert}"], "unencrypted key in PEM"),
        (
            ["--tls-cert", "{cert}", "--tls-key", "{key}", "--tls-client-ca", "{key}"],
            "no certificate in PEM",
        ),
    ],
)
def test_files_that_are_not_right_are_named_at_the_start(
    ca: Authority, tmp_path: Path, options: list[str], said: str
) -> None:
    cert, key = ca.issue("server")
    data = tmp_path / "data"
    argv = ["serve", "--data", str(data), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    argv += [option.format(cert=cert, key=key) for option in options]
    done = CliRunner().invoke(cli, argv)
    assert done.exit_code in {1, 2}
    assert said in re.sub(r"[\s│]+", " ", done.output)
    assert not data.exists()


def _first(chain: Path) -> str:
    return chain.read_text().partition("-----END CERTIFICATE-----")[0] + (
        "-----END CERTIFICATE-----\n"
    )
