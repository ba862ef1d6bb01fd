"""How busy the engines of a miner are, together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from aitbc.v1.work_pb2 import Load
from aitbc_miner.engines.base import Engine
from aitbc_miner.errors import EngineDead

log = structlog.get_logger()

# Waiting jobs that are told at most.
_MOST_WAITING = 2**31 - 1


def load_of(engines: Iterable[Engine], bury: Callable[[Engine, EngineDead], None]) -> Load:
    """Returns the jobs that wait in the engines, and how full their caches are.

    `bury`: told of one that is dead.
    """
    load = Load()
    for engine in engines:
        try:
            reported = engine.load()
            waiting_jobs = max(0, int(reported.waiting_jobs or 0))
            load.waiting_jobs = min(load.waiting_jobs + waiting_jobs, _MOST_WAITING)
            if reported.kv_cache_usage is not None:
                usage = min(1.0, max(0.0, float(reported.kv_cache_usage)))
                load.kv_cache_usage = max(load.kv_cache_usage, usage)
        except EngineDead as error:
            bury(engine, error)
        except Exception as error:
            log.error("engine.load_unknown", error=type(error).__name__)
    return load
