"""The gateway measures what it is asked, and nothing else."""

from __future__ import annotations

from collections import Counter

import httpx

from aitbc_server.rest.site import Site
from aitbc_server.supervisor import Supervisor
from aitbc_server.telemetry.metrics import HttpMetrics
from aitbc_server.telemetry.site import metrics_mount, nothing_else
from aitbc_server.telemetry.watchdog import LoopWatch


class Calls:
    """What the REST layer counts."""

    def __init__(self) -> None:
        self.calls = Counter({("SubmitJob", "201"): 3})


async def test_calls_and_the_process_are_measured() -> None:
    supervisor = Supervisor()
    supervisor.broke("http-sweep", RuntimeError("a bug"))
    metrics = HttpMetrics(Calls(), Counter(), LoopWatch(30), supervisor)
    site = Site([metrics_mount(metrics, None)], nothing_else)
    transport = httpx.ASGITransport(site)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        text = (await client.get("/metrics")).text
        # Asked for again, it is told again.
        assert (await client.get("/metrics")).status_code == 200
    assert 'aitbc_http_requests_total{method="SubmitJob",status="201"} 3.0' in text
    assert 'aitbc_task_restarts_total{task="http-sweep"} 1.0' in text
    assert "aitbc_build_info" in text
    assert "aitbc_loop_longest_turn_seconds 0.0" in text
    assert "aitbc_loop_stalls_total 0.0" in text
    assert "process_resident_memory_bytes" in text
