"""What the client makes of the values that it is given."""

from __future__ import annotations

from aitbc.v1 import jobs_pb2
from aitbc_client.operations import job_request


def test_parameters_may_be_lists_and_maps_by_token() -> None:
    request = job_request(
        "x",
        model="m",
        params={"logit_bias": {5: -1.0, 7: 0.5}, "stop_token_ids": [1], "ignore_eos": True},
        store=False,
    )
    assert request == jobs_pb2.SubmitJobRequest(
        prompt="x",
        model="m",
        params=jobs_pb2.GenerationParams(
            logit_bias={5: -1, 7: 0.5}, stop_token_ids=[1], ignore_eos=True
        ),
        store=False,
    )
