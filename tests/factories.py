"""Small makers of domain values, with a default for everything a test does not care about."""

from __future__ import annotations

import random
import secrets
from itertools import count
from typing import Any

from aitbc_server.dispatch.live import LiveJob, Now, Session
from aitbc_server.domain.caller import ANONYMOUS, Role
from aitbc_server.domain.ids import IdSource, lease_id_of
from aitbc_server.domain.jobs import Begin, Completion, Ending, JobStatus, NewJob, Submission
from aitbc_server.domain.keys import KeyRecord, digest_of, key_id_of, new_key

START_US = 1_769_266_800_000_000
_IDS = IdSource(random.Random(7).randbytes)
_TICKS = count()


def instant(seconds: float = 0.0) -> Now:
    """Returns the instant so many seconds after the start of the test's time."""
    return Now(1000.0 + seconds, START_US + int(seconds * 1e6))


def new_job(**fields: Any) -> NewJob:
    """Returns a job to submit, each newer than the one before."""
    created_us = fields.pop("created_us", START_US + next(_TICKS))
    values: dict[str, Any] = {
        "job_id": _IDS.job_id(created_us),
        "owner": ANONYMOUS,
        "model": "m",
        "priority": 0,
        "max_attempts": 3,
        "max_tokens": None,
        "created_us": created_us,
        "deadline_us": None,
        "spec": b"spec",
    }
    return NewJob(**(values | fields))


def submission(*jobs: NewJob, **fields: Any) -> Submission:
    """Returns a submission of these jobs, or of one."""
    return Submission(jobs=jobs or (new_job(),), **fields)


def live_job(**fields: Any) -> LiveJob:
    """Returns a job as the dispatcher knows it."""
    new = new_job()
    values: dict[str, Any] = {
        "job_id": new.job_id,
        "owner": new.owner,
        "model": new.model,
        "priority": new.priority,
        "created_us": new.created_us,
        "max_attempts": new.max_attempts,
        "max_tokens": new.max_tokens,
    }
    return LiveJob(**(values | fields))


def begin(job_id: str, attempt: int = 1, miner_id: str = "miner-1", **fields: Any) -> Begin:
    """Returns the beginning of a lease."""
    return Begin(
        job_id=job_id,
        lease_id=lease_id_of(job_id, attempt),
        attempt=attempt,
        miner_id=miner_id,
        started_us=START_US + 1_000_000,
        **fields,
    )


def completion(job_id: str, attempt: int = 1, **fields: Any) -> Completion:
    """Returns a result."""
    values: dict[str, Any] = {
        "job_id": job_id,
        "lease_id": lease_id_of(job_id, attempt),
        "result": "the result",
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "finish_reason": "stop",
        "completed_us": START_US + 2_000_000,
    }
    return Completion(**(values | fields))


def ending(job_id: str, status: JobStatus, attempt: int | None = 1, **fields: Any) -> Ending:
    """Returns an end without a result; `attempt=None` ends the wait of a pending job."""
    values: dict[str, Any] = {
        "job_id": job_id,
        "lease_id": None if attempt is None else lease_id_of(job_id, attempt),
        "status": status,
        "error_code": "CODE",
        "error_message": "message",
        "ended_us": START_US + 2_000_000,
    }
    return Ending(**(values | fields))


def key_record(text: str | None = None, **fields: Any) -> KeyRecord:
    """Returns what is stored of a key: of this one, or of a new one."""
    text = text or new_key(secrets.randbelow)
    values: dict[str, Any] = {
        "key_id": key_id_of(text),
        "digest": digest_of(text),
        "role": Role.CLIENT,
        "name": "",
        "created_us": START_US,
    }
    return KeyRecord(**(values | fields))


def session(miner_id: str = "miner-1", **fields: Any) -> Session:
    """Returns a Work session that wakes nobody."""
    values: dict[str, Any] = {
        "miner_id": miner_id,
        "models": ("m",),
        "window": 4,
        "heard_at": instant().mono,
        "wake": lambda: None,
    }
    return Session(**(values | fields))
