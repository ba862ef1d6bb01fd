"""The messages of the Work stream, to and from what the dispatcher holds."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_server.api.statements import Stated
from aitbc_server.dispatch.live import CancelReason
from aitbc_server.dispatch.transcripts import Transcript
from aitbc_server.domain.ids import job_of_lease
from aitbc_server.domain.jobs import Completion
from aitbc_server.domain.parts import NO_PARTS, CallPart, Parts

_REASONS = {
    reason: work_pb2.CancelReason.Value(f"CANCEL_REASON_{reason.name}") for reason in CancelReason
}


def completion_of(
    lease_id: str, completion: work_pb2.Completion, stated: Stated | None, now_us: int
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
        finish_reason=completion.finish_reason,
        completed_us=now_us,
        details=_details(completion),
        result_salt=stated.result_salt if stated else None,
        result_hash=stated.result_hash if stated else None,
        miner_signature=stated.signature if stated else None,
    )


def parts_of(delta: work_pb2.Delta) -> Parts:
    """Returns what a piece of an answer has beside its text."""
    if not delta.tool_calls and not delta.logprobs:
        return NO_PARTS
    return Parts(
        tuple(CallPart(one.index, one.id, one.name, one.arguments) for one in delta.tool_calls),
        tuple(one.SerializeToString() for one in delta.logprobs),
    )


def resume_of(said: Transcript) -> work_pb2.Resume:
    """Returns the beginning of an answer, for the next miner."""
    logprobs = said.extras.logprobs if said.extras is not None else ()
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


def _details(completion: work_pb2.Completion) -> bytes:
    if not completion.tool_calls and not completion.logprobs:
        return b""
    return jobs_pb2.Job(
        tool_calls=completion.tool_calls, logprobs=completion.logprobs
    ).SerializeToString()
