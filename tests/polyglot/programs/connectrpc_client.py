"""Submits a job, waits for it, and prints its answer as it is streamed, over each protocol.

Usage: connectrpc_client.py URL PROMPT
"""

import sys

from connectrpc.client import ConnectClientSync
from connectrpc.compat import google_protobuf_codecs
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType

from aitbc.v1 import jobs_pb2

UNARY, STREAM = StreamType.UNARY, StreamType.SERVER_STREAM


def method(name, asked, answered, kind=UNARY, level=IdempotencyLevel.UNKNOWN):
    return MethodInfo(
        name=name,
        service_name="aitbc.v1.JobService",
        input=asked,
        output=answered,
        idempotency_level=level,
        stream_type=kind,
    )


SUBMIT = method("SubmitJob", jobs_pb2.SubmitJobRequest, jobs_pb2.SubmitJobResponse)
GET = method("GetJob", jobs_pb2.GetJobRequest, jobs_pb2.Job, level=IdempotencyLevel.NO_SIDE_EFFECTS)
FOLLOW = method("StreamJob", jobs_pb2.StreamJobRequest, jobs_pb2.JobEvent, STREAM)


def run(client, prompt, *, by_get):
    request = jobs_pb2.SubmitJobRequest(prompt=prompt, model="llama3.2")
    job_id = client.execute_unary(request=request, method=SUBMIT).job_id
    asked = jobs_pb2.GetJobRequest(job_id=job_id, wait=60)
    job = client.execute_unary(request=asked, method=GET, **by_get)
    events = client.execute_server_stream(
        request=jobs_pb2.StreamJobRequest(job_id=job_id), method=FOLLOW
    )
    text = "".join(event.text for event in events)
    try:
        client.execute_unary(request=jobs_pb2.GetJobRequest(job_id="nothing"), method=GET)
    except ConnectError as error:
        sys.stdout.write(f"{job.result} | {text} | {error.code.value}\n")


url, prompt = sys.argv[1:]
for protocol in (ProtocolType.CONNECT, ProtocolType.GRPC_WEB):
    for codec in google_protobuf_codecs():
        # Requests are packed with gzip, by default.
        with ConnectClientSync(url, codec=codec, protocol=protocol) as client:
            by_get = {"use_get": True} if protocol is ProtocolType.CONNECT else {}
            run(client, prompt, by_get=by_get)
