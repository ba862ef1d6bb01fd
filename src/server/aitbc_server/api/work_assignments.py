"""What a session's stream says of the jobs that its miner was given."""

from __future__ import annotations

import asyncio

from aitbc.v1 import work_pb2
from aitbc_server.api.convert import NOT_FOR_MINERS, set_timestamp
from aitbc_server.api.work_messages import resume_of
from aitbc_server.dispatch.live import Lease, Now, Session
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.cache_salts import CacheSaltOf
from aitbc_server.domain.errors import StorageUnavailable

# Bytes of assignments in one message: below the 4 MiB that receivers allow by default.
_MESSAGE_BYTES = 2 * 1024 * 1024
# Beside an assignment in its message.
_MESSAGE_OVERHEAD = 64
# Time until prompts that could not be read are read again.
_FETCH_AGAIN_S = 1.0


class Assigner:
    """Makes the messages of assignments of one session."""

    def __init__(self, dispatcher: Dispatcher, session: Session, salt_of: CacheSaltOf) -> None:
        self._dispatcher = dispatcher
        self._session = session
        self._salt_of = salt_of

    async def next(self) -> work_pb2.Assignments | None:
        """Returns the next message of assignments, or None.

        What is not in memory is read now, for one message: a miner that does not read cannot have
        all that waits for it in memory.
        """
        outbox = self._session.outbox
        outbox.assignments = [lease for lease in outbox.assignments if lease.is_held]
        try:
            await self._dispatcher.fetch(outbox.assignments, _MESSAGE_BYTES)
        except StorageUnavailable:
            asyncio.get_running_loop().call_later(_FETCH_AGAIN_S, self._session.wake)
            return None
        # As it is now: leases may have ended meanwhile, and so may the session.
        leases = self._session.outbox.assignments
        assignments, size, taken = work_pb2.Assignments(), 0, 0
        most = min(_MESSAGE_BYTES, self._session.max_message_bytes) - _MESSAGE_OVERHEAD
        too_large: list[Lease] = []
        now = self._dispatcher.now()
        for lease in leases:
            if size >= most or (lease.is_held and lease.job.spec is None):
                break
            taken += 1
            if lease.is_held:
                assignment = self._assignment(lease, now)
                assignment_bytes = assignment.ByteSize()
                if assignment_bytes + _MESSAGE_OVERHEAD > self._session.max_message_bytes:
                    too_large.append(lease)
                    continue
                if assignments.assignments and size + assignment_bytes > most:
                    taken -= 1
                    break
                assignments.assignments.append(assignment)
                size += assignment_bytes
        del leases[:taken]
        for lease in too_large:
            self._dispatcher.cannot_take(self._session, lease)
        if taken and not assignments.assignments:
            # All of them had ended meanwhile, or do not fit: an empty message says nothing.
            return await self.next()
        return assignments if taken else None

    def _assignment(self, lease: Lease, now: Now) -> work_pb2.Assignment:
        spec = self._dispatcher.hand_over(lease, now)
        assignment = work_pb2.Assignment(lease_id=lease.lease_id, attempt=lease.attempt)
        job = assignment.job
        job.MergeFromString(spec)
        for name in NOT_FOR_MINERS:
            job.ClearField(name)
        job.cache_salt = self._salt_of(lease.job.owner, job.cache_salt)
        if lease.job.deadline_us is not None:
            set_timestamp(assignment.deadline, lease.job.deadline_us)
        said = self._dispatcher.transcripts.find(lease.job.job_id)
        most = lease.job.max_tokens
        if said is not None and said.is_resumable and (most is None or said.tokens < most):
            assignment.resume.CopyFrom(resume_of(said))
        return assignment
