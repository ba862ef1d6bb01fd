"""Makes the connection to the coordinator."""

from __future__ import annotations

from grpc import aio

from aitbc_miner.tls import Tls

# Largest message that it takes: a job with all that it asks, and what it goes on from.
MAX_MESSAGE_BYTES = 64 * 2**20
_OPTIONS = [
    # NATs forget an idle connection after about a minute; a ping in time keeps it, and finds out
    # when the other side is gone. Idle streams have no data to ping along with.
    ("grpc.keepalive_time_ms", 25_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    # Each attempt connects afresh: channels that share subchannels would share gRPC's own back-off
    # of up to two minutes.
    ("grpc.use_local_subchannel_pool", 1),
]


def open_channel(coordinator: str, tls: Tls | None) -> aio.Channel:
    """Returns a channel to the coordinator at HOST:PORT; without `tls` in plain text.

    Raises Misconfigured when a file of TLS cannot be read.
    """
    if tls is None:
        return aio.insecure_channel(coordinator, options=_OPTIONS)
    return aio.secure_channel(coordinator, tls.credentials(), options=_OPTIONS)
