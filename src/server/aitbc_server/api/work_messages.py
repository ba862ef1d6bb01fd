"""The messages of the Work stream, to and from what the dispatcher holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_server.api.contents import answered_beside
from aitbc_server.api.convert import usage_details
from aitbc_server.api.statements import Stated
from aitbc_server.api.told import told_by
from aitbc_server.api.unasked import unasked_in
from aitbc_server.api.unfinished import Sender
from aitbc_server.api.validation import validator
from aitbc_server.api.wire import Bounds, parse
from aitbc_server.aside import by_size
from aitbc_server.dispatch.live import CancelReason
from aitbc_server.dispatch.pauses import ToldPause
from aitbc_server.dispatch.transcripts import Transcript
from aitbc_server.domain.asks import PLAIN, Asks
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.domain.ids import job_of_lease
from aitbc_server.domain.jobs import Completion, Fault
from aitbc_server.domain.parts import NO_PARTS, CallPart, Parts
from aitbc_server.domain.plausibility import FINISH_REASONS, NOTHING_BESIDE, Told
from aitbc_server.domain.said import said_code, said_message
from aitbc_server.domain.tasks import Task

Context = grpc.aio.ServicerContext[Any, Any]

_REASONS = {
    reason: work_pb2.CancelReason.Value(f"CANCEL_REASON_{reason.name}") for reason in CancelReason
}

# Probabilities that are copied at once.
_SLICE = 256
# Bytes of updates that are looked at in one turn of the event loop: the smallest parts, of which
# there are most in a byte, take some 20 milliseconds.
SLICE_BYTES = 32 * 1024
# What a completion has beside its text and its usage, and its job under the same names.
_BESIDE = {
    work_pb2.Completion.DESCRIPTOR.fields_by_name[name]: name
    for name in (
        *("tool_calls", "logprobs", "reasoning", "outputs"),
        *("prompt_details", "token_ids", "stop_string", "stop_token_id"),
    )
}

# Smaller messages of miners hold too little to be worth counting.
_COUNTED_FROM_BYTES = 64 * 1024
# What a message of a miner may hold: so many messages, or one for so many of its bytes. Tokens with
# their probabilities, the shortest of which there are many, have 14 bytes; empty messages have two.
_MOST_SMALL = 100_000
_BYTES_EACH = 14


_validate_update = validator(work_pb2.Update.DESCRIPTOR)


async def read_message(context: Context, sender: Sender) -> Any:
    """Returns a miner's next message, or EOF. Raises InvalidArgument for what cannot be one."""
    # Whoever asks for the next one has done with the one before.
    sender.done()
    data = await context.read()
    if data is grpc.aio.EOF:
        return data
    size = len(data)
    sender.came(size)
    bounds = Bounds(max(_MOST_SMALL, size // _BYTES_EACH), "messages", _COUNTED_FROM_BYTES)
    return await by_size(size, parse, work_pb2.MinerMessage, data, bounds)


class Taken(NamedTuple):
    """How large what a miner sends may be."""

    message_bytes: int
    result_bytes: int


class Beside(NamedTuple):
    """What an update has beside its text, in the form in which it is kept."""

    # Of a delta.
    parts: Parts = NO_PARTS
    # Of a completion: a serialised aitbc.v1.Job, and what is held against what its job asks.
    details: bytes = b""
    told: Told = NOTHING_BESIDE
    # The same as receipts cover it, where no hash of it is known.
    answered: bytes = b""


def beside_text(
    update: work_pb2.Update,
    task: Task = Task.GENERATE,
    asks: Asks = PLAIN,
    *,
    is_hashed: bool = False,
) -> Beside:
    """Returns what an update of a job that asks this has beside its text.

    `is_hashed`: whether the hash of a whole answer is known, so that nothing is to be hashed.
    """
    kind = update.WhichOneof("event")
    if kind == "delta":
        return Beside(parts=_parts_of(update.delta))
    if kind != "completion":
        return Beside()
    completion = update.completion
    usage = completion.usage
    details = usage_details(usage)
    beside = {_BESIDE[f]: value for f, value in completion.ListFields() if f in _BESIDE}
    # Most answers are a text and nothing else.
    told = NOTHING_BESIDE
    if beside or usage.HasField("cached_tokens"):
        told = told_by(completion, task, asks)
    if beside:
        plain, logprobs = _details(beside)
        logprob_bytes = len(logprobs) + completion.prompt_details.ByteSize()
        told = told._replace(logprob_bytes=logprob_bytes)
        details = plain + logprobs + details
    answered = b"" if is_hashed else answered_beside(completion, _reason_of(completion))
    return Beside(NO_PARTS, details, told, answered)


def looked_at(update: work_pb2.Update, task: Task, asks: Asks, *, is_hashed: bool) -> Beside | str:
    """Returns what an update has beside its text, or what is wrong with it."""
    # What was not asked for may be much, and is not worth being checked.
    problem = unasked_in(update, asks) or _problem_of(update)
    return problem or beside_text(update, task, asks, is_hashed=is_hashed)


def parents_of(hello: work_pb2.Hello) -> dict[str, str]:
    """Returns the models of adapters. Raises InvalidArgument for names that are not served."""
    served = set(hello.models)
    for adapter, model in hello.parents.items():
        if adapter == model or not {adapter, model} <= served:
            raise InvalidArgument("parents", "must name an adapter and its model of `models`")
    return dict(hello.parents)


def is_long(update: work_pb2.Update) -> bool:
    """Says whether an update is worth being looked at aside."""
    logprobs = len(update.delta.logprobs) + len(update.completion.logprobs)
    return logprobs > _SLICE or update.ByteSize() > SLICE_BYTES


def _problem_of(update: work_pb2.Update) -> str | None:
    """Returns which rule an update breaks, if it breaks one."""
    try:
        _validate_update(update)
    except InvalidArgument as error:
        return str(error)
    return None


FAULTS = {
    work_pb2.FAULT_JOB: Fault.JOB,
    work_pb2.FAULT_MINER: Fault.MINER,
    work_pb2.FAULT_PASSING: Fault.PASSING,
}


def pauses_of(capacity: work_pb2.Capacity) -> list[ToldPause]:
    """Returns the models that a miner cannot serve at present."""
    return [
        ToldPause(
            one.model, said_code(one.code), said_message(one.message), seconds_of(one.duration)
        )
        for one in capacity.pauses
    ]


def seconds_of(duration: Duration) -> float:
    """Returns a Duration as seconds, whatever it holds."""
    return duration.seconds + duration.nanos / 1e9


def completion_of(
    lease_id: str,
    completion: work_pb2.Completion,
    beside: Beside,
    stated: Stated | None,
    now_us: int,
) -> Completion:
    """Returns a result as it is to be stored, with what its miner stated and signed."""
    usage = completion.usage
    return Completion(
        job_id=job_of_lease(lease_id) or "",
        lease_id=lease_id,
        result=completion.result,
        prompt_tokens=usage.prompt_tokens if usage.HasField("prompt_tokens") else None,
        completion_tokens=(
            usage.completion_tokens if usage.HasField("completion_tokens") else None
        ),
        finish_reason=_reason_of(completion),
        completed_us=now_us,
        details=beside.details,
        result_salt=stated.result_salt if stated else None,
        result_hash=stated.result_hash if stated else None,
        answer_hash=stated.answer_hash if stated else None,
        answered=beside.answered,
        miner_signature=stated.signature if stated else None,
    )


def _reason_of(completion: work_pb2.Completion) -> str:
    reason = completion.finish_reason
    is_known = reason in FINISH_REASONS and (reason != "tool_calls" or completion.tool_calls)
    return reason if is_known else "stop"


def _parts_of(delta: work_pb2.Delta) -> Parts:
    """Returns what a piece of an answer has beside its text."""
    if not (delta.tool_calls or delta.logprobs or delta.reasoning or delta.token_ids):
        return NO_PARTS
    return Parts(
        tuple(CallPart(one.index, one.id, one.name, one.arguments) for one in delta.tool_calls),
        tuple(one.SerializeToString() for one in delta.logprobs),
        delta.reasoning.encode(),
        tuple(delta.token_ids),
    )


def resume_of(said: Transcript) -> work_pb2.Resume:
    """Returns the beginning of an answer, for the next miner."""
    logprobs = said.extras.logprobs.items if said.extras is not None else ()
    return work_pb2.Resume(
        text=said.text.decode(),
        tokens=said.tokens,
        logprobs=[jobs_pb2.TokenLogprob.FromString(one) for one in logprobs],
    )


def acks_of(sequences: dict[str, int]) -> list[work_pb2.Ack]:
    """Returns how far leases are stored."""
    return [
        work_pb2.Ack(lease_id=lease_id, next_sequence=next_sequence)
        for lease_id, next_sequence in sequences.items()
    ]


def cancellations_of(reasons: dict[str, CancelReason]) -> work_pb2.Cancellations:
    """Returns which leases to stop, and why."""
    return work_pb2.Cancellations(
        cancellations=[
            work_pb2.Cancellation(lease_id=lease_id, reason=_REASONS[reason])
            for lease_id, reason in reasons.items()
        ]
    )


def duration_of(seconds: float) -> Duration:
    """Returns seconds as a Duration."""
    duration = Duration()
    duration.FromMilliseconds(int(seconds * 1000))
    return duration


def _details(beside: dict[str, Any]) -> tuple[bytes, bytes]:
    # Probabilities apart, to come last. A copy of all of them would be as much memory as they are,
    # which is many times their bytes. Messages that are serialised one after the other read as one.
    logprobs = beside.pop("logprobs", ())
    parts = []
    for begin in range(0, len(logprobs), _SLICE):
        some = jobs_pb2.Job(logprobs=logprobs[begin : begin + _SLICE])
        parts.append(some.SerializeToString())
    return jobs_pb2.Job(**beside).SerializeToString(), b"".join(parts)
