"""Everything that can go wrong in a miner, as one tree.

    MinerError
    +-- EngineError            one job got no answer; becomes the Failure of its lease
    |   +-- BadRequest         the job itself is wrong: no other attempt can succeed
    |   +-- EngineBusy         no room now; another attempt may succeed
    |   +-- EngineFailed       the engine failed at this job; another attempt may succeed
    |   +-- EngineDead         the engine serves no job any more
    +-- SessionLost            the stream ended; the miner reconnects
    +-- Fatal                  the process ends, with `exit_code`
        +-- Misconfigured      an option is wrong
        +-- Superseded         another process works under the same miner id
        +-- EngineStopped      an engine died; its leases were handed back
        +-- HandedBack         the second signal came before the jobs were done

A message never holds any part of a prompt or a result: it goes to the coordinator and to logs.
"""

from __future__ import annotations

from typing import ClassVar


class MinerError(Exception):
    """Base of all errors of the miner. `str(error)` is a sentence for people."""


class EngineError(MinerError):
    """One job got no answer."""

    reason: ClassVar[str] = "ENGINE_FAILED"
    is_retryable: ClassVar[bool] = True


class BadRequest(EngineError):
    """The engine refuses the job for what it asks."""

    reason = "BAD_REQUEST"
    is_retryable = False


class EngineBusy(EngineError):
    """The engine has no room for the job now."""

    reason = "ENGINE_BUSY"


class EngineFailed(EngineError):
    """The engine failed at this job and lives."""


class EngineDead(EngineError):
    """The engine serves no job any more."""

    reason = "ENGINE_DEAD"


class SessionLost(MinerError):
    """The stream to the coordinator ended."""


class Fatal(MinerError):
    """The process cannot go on."""

    exit_code: ClassVar[int] = 1


class HandedBack(Fatal):
    """The miner was told twice to stop, and gave its unfinished jobs back."""


class Misconfigured(Fatal):
    """An option is wrong. The message names it and says what to do."""

    exit_code = 2


class Superseded(Fatal):
    """Another process opened a session under this miner id."""

    exit_code = 3


class EngineStopped(Fatal):
    """An engine died while the miner ran."""

    exit_code = 4
