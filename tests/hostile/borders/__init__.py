"""The borders that strangers' bytes cross, each with who attacks it.

A border is a context, which starts what is attacked, gives one attack, and checks at its end what
became of the attacked. An attack is made of random numbers alone: the same numbers make the same.
"""

from __future__ import annotations

from tests.hostile.borders import (
    connect_bytes,
    damaged_disk,
    grpc_bytes,
    http_bytes,
    json_bodies,
    upstream_events,
    work_messages,
)
from tests.hostile.borders.victim import Border

BORDERS: dict[str, Border] = {
    "grpc": grpc_bytes.border,
    "http": http_bytes.border,
    "json": json_bodies.border,
    "connect": connect_bytes.border,
    "work": work_messages.border,
    "upstream": upstream_events.border,
    "disk": damaged_disk.border,
}
