"""Nothing that a stranger sends on the Work stream harms the coordinator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
import httpx
import psutil
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scripts.processes import Coordinator

from aitbc.v1 import work_pb2
from tests.messages import messages

# A stream that is neither ended nor answered for so long hangs.
PATIENCE_S = 30.0
# What a flood may add to the memory of the process.
MOST_MORE_BYTES = 150 * 1024 * 1024

_message = messages(work_pb2.MinerMessage.DESCRIPTOR).map(lambda one: one.SerializeToString())
_hello = st.builds(
    lambda miner_id, hello: work_pb2.MinerMessage(
        hello=work_pb2.Hello(miner_id=miner_id, models=["fuzz"], held_leases=hello.held_leases)
    ).SerializeToString(),
    st.sampled_from(["fuzz-1", "fuzz-2"]),
    messages(work_pb2.Hello.DESCRIPTOR),
)
_flow = st.lists(st.binary(max_size=100) | _message, max_size=4) | st.builds(
    lambda first, rest: [first, *rest],
    _hello,
    st.lists(st.binary(max_size=40) | _message, max_size=4),
)


def end_of(coordinator: Coordinator, flow: Iterable[bytes]) -> grpc.StatusCode:
    """Sends bytes as messages, half-closes; returns how the stream ends."""
    with grpc.insecure_channel(coordinator.grpc) as channel:
        work: Any = channel.stream_stream("/aitbc.v1.MinerService/Work")
        call = work(iter(flow), timeout=PATIENCE_S)
        try:
            for _ in call:
                pass
        except grpc.RpcError:
            pass
        code: grpc.StatusCode = call.code()
        return code


@pytest.mark.timeout(170)
def test_any_first_messages_end_the_stream_and_nothing_else(coordinator: Coordinator) -> None:
    process = psutil.Process(coordinator.program.pid)
    before = process.memory_info().rss

    @settings(max_examples=120, suppress_health_check=list(HealthCheck))
    @given(_flow)
    @example([])
    @example([b""] * 50)
    @example([b"\xff" * 1000])
    @example([b"\x0a" * 4_000_000])
    def fuzz(flow: list[bytes]) -> None:
        code = end_of(coordinator, flow)
        assert code not in {grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}, code

    fuzz()
    assert process.memory_info().rss - before < MOST_MORE_BYTES
    # It still serves, and the miner that it had goes on working.
    with httpx.Client(base_url=coordinator.url, timeout=70) as http:
        body = {"prompt": "still there", "model": "llama3.2"}
        job_id = http.post("/v1/jobs", json=body).json()["job_id"]
        job = http.get(f"/v1/jobs/{job_id}", params={"wait": 60}).json()
    assert job["status"] == "completed"
