"""The floors: servers that do nothing but carry the messages, on the libraries that we use.

`python -m benchmarks.bare grpc|http` prints `ready HOST:PORT` and serves until it is killed.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import grpc
import orjson
import uvicorn
import uvloop

from aitbc.v1 import jobs_pb2

HOST = "127.0.0.1"

_ANSWER = {
    "job_id": "job-01m85yht0y2ms01gd3xc59pr0r",
    "status": "pending",
    "created_at": "2026-01-24T15:00:00.000000Z",
}


async def serve_grpc() -> None:
    """Answers SubmitJob with a fixed response."""
    response = jobs_pb2.SubmitJobResponse(
        job_id=_ANSWER["job_id"], status=jobs_pb2.JOB_STATUS_PENDING
    )

    async def submit_job(_request: object, _context: object) -> jobs_pb2.SubmitJobResponse:
        return response

    handler = grpc.unary_unary_rpc_method_handler(
        submit_job,
        request_deserializer=jobs_pb2.SubmitJobRequest.FromString,
        response_serializer=jobs_pb2.SubmitJobResponse.SerializeToString,
    )
    server = grpc.aio.server()
    # Generic only, as the coordinator does: what generated code registers beside is slower.
    service = grpc.method_handlers_generic_handler("aitbc.v1.JobService", {"SubmitJob": handler})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    print(f"ready {HOST}:{port}", flush=True)
    await server.wait_for_termination()


def serve_http() -> None:
    """Parses the JSON of any request and answers 201 with JSON of our answer's size."""
    listener = socket.create_server((HOST, 0))
    config = uvicorn.Config(
        _echo, http="httptools", loop="uvloop", log_level="error", access_log=False, lifespan="off"
    )
    print(f"ready {HOST}:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


async def _echo(
    _scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body += message["body"]
        is_more = message["more_body"]
    orjson.loads(body)
    answer = orjson.dumps(_ANSWER)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["grpc"]:
            uvloop.run(serve_grpc())
        case ["http"]:
            serve_http()
        case _:
            sys.exit(__doc__)
