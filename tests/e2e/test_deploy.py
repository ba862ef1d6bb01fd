"""The files in deploy/ are what their programs take, and what they promise holds."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import pytest
from scripts.processes import BIN, ROOT, Coordinator, Program

from aitbc.v1 import jobs_pb2
from aitbc_server.config import Settings
from tests.certificates import Authority
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.keys import create_key
from tests.e2e.test_hostile_networks import free_port, is_open, nginx_command
from tests.envelopes import ended, envelope

DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.iterdir())
NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/site.conf;
}}
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    known = {f"AITBC_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bAITBC_[A-Z_]*[A-Z]", path.read_text())) <= known


def test_settings_file_is_taken() -> None:
    lines = (DEPLOY / "coordinator.env").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    given = {name.removeprefix("AITBC_").lower(): value for name, value in pairs}
    settings = Settings(**given)  # type: ignore[arg-type]  # texts, as the environment has them
    assert settings.auth_mode == "required"
    assert settings.metrics is not None
    assert settings.metrics.is_loopback


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "aitbc-coordinator.service").read_text()
    command = re.search(r"^ExecStart=(/opt/aitbc/bin/)(\S+) (\w+)", unit, re.MULTILINE)
    assert command is not None
    assert (BIN / command[2]).exists()
    assert command[3] == "serve"
    assert "DynamicUser=yes" in unit
    if shutil.which("systemd-analyze") is None:
        return
    copy = tmp_path / "aitbc-coordinator.service"
    copy.write_text(unit.replace("/opt/aitbc/bin", str(BIN)))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    about_ours = [line for line in verified.stderr.splitlines() if copy.name in line]
    assert (verified.returncode, about_ours) == (0, [])


def test_container_runs_without_root_and_without_vllm() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    build, final = re.split(r"^FROM .*$", text, flags=re.MULTILINE)[1:]
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", build, re.MULTILINE)
    assert all((ROOT / name).exists() for line in sources for name in line.split())
    assert re.search(r"^USER (?!root|0\b)", final, re.MULTILINE)
    assert "vllm" not in build + final
    assert "AITBC_AUTH=required" in final


@contextmanager
def behind_nginx(
    launcher: Launcher, directory: Path, coordinator: Coordinator, name: str
) -> Iterator[str]:
    """Runs nginx as the example has it, before the coordinator; gives its address."""
    certificate, key = Authority(directory).issue(name, name)
    port = free_port()
    site = (DEPLOY / "nginx.conf").read_text()
    for ours, theirs in (
        ("127.0.0.1:8080", coordinator.http),
        ("127.0.0.1:50051", coordinator.grpc),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("    listen [::]:443 ssl http2;\n", ""),
        ("aitbc.example.org", name),
        ("/etc/ssl/aitbc/fullchain.pem", str(certificate)),
        ("/etc/ssl/aitbc/privkey.pem", str(key)),
    ):
        assert ours in site
        site = site.replace(ours, theirs)
    (directory / "site.conf").write_text(site)
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory))
    program = launcher.own(
        Program([nginx_command(), "-c", config], log=directory / "nginx.log", env=CLEAN_ENV)
    )
    while not is_open(port):
        assert program.exit_status is None, program.tail()
    yield f"{name}:{port}"


def test_nginx_passes_all_protocols_on_one_port(launcher: Launcher, tmp_path: Path) -> None:
    coordinator = launcher.coordinator("--auth", "required", env=proxied())
    key = create_key(coordinator.data, "client")
    launcher.miner(coordinator, "--api-key", create_key(coordinator.data, "miner"))
    with behind_nginx(launcher, tmp_path, coordinator, "localhost") as address:
        ca = tmp_path / "ca.pem"
        trusted = ssl.create_default_context(cafile=ca)
        headers = {"X-Api-Key": key}
        with httpx.Client(
            base_url=f"https://{address}", verify=trusted, headers=headers, timeout=70
        ) as http:
            assert http.get("/api/health").json()["status"] == "ok"
            assert http.get("/metrics").status_code == 404
            assert http.get("/v1/jobs", headers={"X-Api-Key": ""}).status_code == 401
            body = {"prompt": "through nginx", "model": "llama3.2"}
            submitted = http.post("/v1/jobs", json=body, headers={"X-Request-Id": "mine-1"})
            assert submitted.headers["x-request-id"] == "mine-1"
            job_id = submitted.json()["job_id"]
            with http.stream("GET", f"/v1/jobs/{job_id}/stream") as events:
                assert events.headers["content-type"].startswith("text/event-stream")
                assert "event: final" in events.read().decode()
            job = http.get(f"/v1/jobs/{job_id}", params={"wait": 60}).json()
            assert job["result"] == "through nginx"
            asked = jobs_pb2.GetJobRequest(job_id=job_id).SerializeToString()
            for kind, content in (
                ("application/proto", asked),
                ("application/grpc-web+proto", envelope(asked)),
                ("application/connect+proto", envelope(asked)),
            ):
                method = "StreamJob" if "connect" in kind else "GetJob"
                path, typed = f"/aitbc.v1.JobService/{method}", {"content-type": kind}
                over = ended(http.post(path, content=content, headers=typed))
                assert over.code == "ok"
                assert over.messages
            work = http.post("/aitbc.v1.MinerService/Work", json={})
            assert work.json()["code"] == "unimplemented"
        credentials = grpc.ssl_channel_credentials(ca.read_bytes())
        with grpc.secure_channel(address, credentials) as channel:
            get = channel.unary_unary(
                "/aitbc.v1.JobService/GetJob",
                request_serializer=jobs_pb2.GetJobRequest.SerializeToString,
                response_deserializer=jobs_pb2.Job.FromString,
            )
            request = jobs_pb2.GetJobRequest(job_id=job_id)
            job = get(request, metadata=(("x-api-key", key),), timeout=60)
            assert job.result == "through nginx"


def proxied() -> dict[str, str]:
    """Returns the environment of a coordinator behind a proxy on this machine."""
    return {**CLEAN_ENV, "AITBC_LIMIT_TRUSTED_PROXIES": "127.0.0.1/32"}
