"""Everything that can go wrong in a miner, as one tree.

    MinerError
    +-- EngineError            one job got no answer; becomes the Failure of its lease
    |   +-- BadRequest         the job itself is wrong: no other attempt can succeed
    |   |   +-- ResultTooLarge  the answer does not fit into a message
    |   +-- EngineBusy         no room now; another attempt may succeed
    |   +-- EngineFailed       the engine failed at this job; another attempt may succeed
    |   |   +-- EngineAnswerInvalid  it said what cannot be made sense of
    |   |   +-- EngineUnusable  the miner cannot use it at present: another miner may succeed
    |   +-- EngineDead         the engine serves no job any more
    +-- SessionLost            the stream ended; the miner reconnects
    +-- Fatal                  the process ends, with `exit_code`
        +-- Misconfigured      an option is wrong
        +-- Superseded         another process works under the same miner id
        +-- EngineStopped      an engine died; its leases were handed back
        +-- HandedBack         the second signal came before the jobs were done

The message of a BadRequest goes to the job's own client, and may say what is wrong with the prompt;
it is never logged. Any other message holds no part of a prompt or a result: it goes to logs and
pages.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

# Reason of a BadRequest whose prompt, with what it asks for, is longer than the model's context.
CONTEXT_LENGTH_EXCEEDED = "CONTEXT_LENGTH_EXCEEDED"
# Reason of a BadRequest with a part of a message that the model does not take, such as an image.
UNSUPPORTED_PART = "UNSUPPORTED_PART"


class Fault(Enum):
    """Who is to blame for a job without an answer."""

    #: The job's: no miner can answer it.
    JOB = "job"
    #: The miner's: it cannot serve the model at present.
    MINER = "miner"
    #: Nobody's: it passes.
    PASSING = "passing"


class MinerError(Exception):
    """Base of all errors of the miner. `str(error)` is a sentence for people."""


class EngineError(MinerError):
    """One job got no answer."""

    fault: ClassVar[Fault] = Fault.PASSING
    # UPPER_SNAKE, unless an error says more exactly what it is.
    reason: str = "ENGINE_FAILED"

    def __init__(
        self, message: str, *, reason: str | None = None, retry_after_s: float | None = None
    ) -> None:
        """`retry_after_s`: for how long the engine wants to be spared, if it says so."""
        super().__init__(message)
        if reason is not None:
            self.reason = reason
        self.retry_after_s = retry_after_s


class BadRequest(EngineError):
    """The engine refuses the job for what it asks."""

    fault = Fault.JOB
    reason = "BAD_REQUEST"


class ResultTooLarge(BadRequest):
    """The answer is larger than a message to the coordinator may be."""

    reason = "RESULT_TOO_LARGE"


class EngineBusy(EngineError):
    """The engine has no room for the job now."""

    reason = "ENGINE_BUSY"


class EngineFailed(EngineError):
    """The engine failed at this job and lives."""


class EngineAnswerInvalid(EngineFailed):
    """The engine said what cannot be made sense of."""

    reason = "ENGINE_ANSWER_INVALID"


class EngineUnusable(EngineFailed):
    """The miner cannot use the engine at present, whatever the job."""

    fault = Fault.MINER
    reason = "ENGINE_UNUSABLE"


class EngineDead(EngineError):
    """The engine serves no job any more."""

    fault = Fault.MINER
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
