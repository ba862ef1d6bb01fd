"""A job's stream over as many calls as it takes: where the reader is, and what it asks next."""

from __future__ import annotations

from aitbc.v1 import jobs_pb2
from aitbc_client.answers import job_of
from aitbc_client.models import EventType, JobEvent

PATH = "/aitbc.v1.JobService/StreamJob"


class Reading:
    """How far the stream of a job was read."""

    def __init__(self, job_id: str, after_event_id: str = "") -> None:
        self._job_id = job_id
        self._after = after_event_id
        # Whether the job's end was read.
        self.is_over = False

    @property
    def request(self) -> jobs_pb2.StreamJobRequest:
        """What to ask next."""
        return jobs_pb2.StreamJobRequest(job_id=self._job_id, after_event_id=self._after)

    def take(self, message: jobs_pb2.JobEvent) -> JobEvent:
        """Reads an event."""
        event = JobEvent(
            type=_TYPES[message.type],
            event_id=message.event_id,
            text=message.text,
            offset=message.offset,
            job=job_of(message.job) if message.HasField("job") else None,
            reasoning=message.reasoning or None,
        )
        self._after = event.event_id
        self.is_over = event.type is EventType.FINAL
        return event


_TYPES = {
    number: EventType(name.removeprefix("JOB_EVENT_TYPE_").lower())
    for name, number in jobs_pb2.JobEventType.items()
    if number
}
