"""Writes of jobs and miners: each kind as one set. Runs on the writer's thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from aitbc_server.domain.errors import IdempotencyKeyReused, TooMuchStored
from aitbc_server.domain.job_errors import ABANDONED
from aitbc_server.domain.jobs import Completion, JobStatus, NewJob, Submission, Submitted
from aitbc_server.domain.receipts import Work
from aitbc_server.domain.tasks import Task
from aitbc_server.ledger.contents import salted_hash
from aitbc_server.store.connection import sqlite3
from aitbc_server.store.ledger_writes import LedgerWrites
from aitbc_server.store.operations import (
    BeginLeases,
    Complete,
    Drain,
    End,
    FlagCancels,
    NoteMiners,
    Register,
    RemoveMiners,
    Submit,
)
from aitbc_server.store.rows import json_rows, packed
from aitbc_server.store.statements import statements
from aitbc_server.store.stored import StoredCounts
from aitbc_server.store.usage import UsageCounts
from aitbc_server.store.writer import Writes

_SQL = statements("job_writes.sql") | statements("job_reads.sql")
_PARTLY_FORGOTTEN = "some of the jobs that this request_id made are no longer kept"


class JobWrites:
    """The part of the writer that jobs and miners are."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        ledger: LedgerWrites,
        usage: UsageCounts,
        stored: StoredCounts,
    ) -> None:
        """In the same commit the ledger takes receipts, and usage and bytes are counted."""
        self._connection = connection
        self._ledger = ledger
        self._usage = usage
        self._stored = stored
        self.writes: Writes = {
            Submit: self._submit,
            BeginLeases: self._begin,
            Complete: self._complete,
            End: self._end,
            FlagCancels: self._flag_cancels,
            # First, so that a miner which registers again after it was removed is there.
            RemoveMiners: self._remove_miners,
            Register: self._register,
            NoteMiners: self._note_miners,
            Drain: self._drain,
        }

    def _submit(self, operations: Sequence[Submit]) -> Sequence[Any]:
        results: list[Submitted | IdempotencyKeyReused | TooMuchStored] = []
        fresh: list[tuple[NewJob, str | None]] = []
        # Names that this very batch takes: the same request may have come twice at once.
        taken: dict[tuple[str, str], tuple[bytes, Submitted]] = {}
        coming: Counter[str] = Counter()
        for operation in operations:
            submission = operation.submission
            found: Submitted | IdempotencyKeyReused | TooMuchStored | None = None
            if submission.request_id:
                found = self._find(submission, taken)
            if found is None:
                owner, size = submission.jobs[0].owner, submission.size
                found = self._stored.refusal(owner, coming[owner] + size, submission.most_bytes)
            if found is None:
                coming[owner] += size
                fresh.extend((job, submission.request_id) for job in submission.jobs)
                made = tuple((j.job_id, JobStatus.PENDING, j.created_us) for j in submission.jobs)
                found = Submitted(jobs=made, is_new=True)
                self._name(submission, found, taken)
            results.append(found)
        if fresh:
            self._insert(fresh)
            self._stored.add(coming)
        return results

    def _find(
        self, submission: Submission, taken: dict[tuple[str, str], tuple[bytes, Submitted]]
    ) -> Submitted | IdempotencyKeyReused | None:
        owner, request_id = submission.jobs[0].owner, submission.request_id or ""
        first = taken.get((owner, request_id))
        if first is not None:
            fingerprint, jobs = first[0], first[1].jobs
            is_same = fingerprint == submission.fingerprint
            return Submitted(jobs=jobs, is_new=False) if is_same else IdempotencyKeyReused()
        row = self._connection.execute(_SQL["request"], (owner, request_id)).fetchone()
        if row is None:
            return None
        fingerprint, job_ids = row
        if fingerprint != submission.fingerprint:
            return IdempotencyKeyReused(None if fingerprint else _PARTLY_FORGOTTEN)
        # All of them are there: the first that is forgotten takes the fingerprint with it.
        rows = [
            self._connection.execute(_SQL["submitted"], (made,)).fetchone()
            for made in orjson.loads(job_ids)
        ]
        if any(error_code == ABANDONED for *_, error_code in rows):
            # A client that lost its connection wants an answer.
            self._connection.execute(_SQL["unname_request"], (owner, request_id))
            self._connection.execute(_SQL["unname_jobs"], (job_ids,))
            return None
        jobs = tuple([(made, JobStatus(status), at_us) for made, status, at_us, _ in rows])
        return Submitted(jobs=jobs, is_new=False)

    def _name(
        self,
        submission: Submission,
        made: Submitted,
        taken: dict[tuple[str, str], tuple[bytes, Submitted]],
    ) -> None:
        if submission.request_id is None:
            return
        first = submission.jobs[0]
        taken[first.owner, submission.request_id] = (submission.fingerprint, made)
        job_ids = orjson.dumps([job_id for job_id, _, _ in made.jobs]).decode()
        self._connection.execute(
            _SQL["insert_request"],
            (first.owner, submission.request_id, submission.fingerprint, job_ids, first.created_us),
        )

    def _insert(self, named: Sequence[tuple[NewJob, str | None]]) -> None:
        jobs = [job for job, _ in named]
        self._connection.execute(
            _SQL["insert_jobs"],
            (
                json_rows(
                    [
                        (
                            job.job_id,
                            job.owner,
                            job.model,
                            job.priority,
                            job.max_attempts,
                            job.max_tokens,
                            job.created_us,
                            job.deadline_us,
                            None if job.task is Task.GENERATE else job.task,
                            job.asks.stored(),
                            int(job.is_kept),
                        )
                        for job in jobs
                    ]
                ),
            ),
        )
        offsets, heap = packed(job.spec for job in jobs)
        specs = [
            (
                job.job_id,
                *offset,
                job.prompt_salt.hex() if job.prompt_salt else None,
                job.prompt_hash.hex() if job.prompt_hash else None,
                request_id,
                job.request_hash.hex() if job.request_hash else None,
            )
            for (job, request_id), offset in zip(named, offsets, strict=True)
        ]
        self._connection.execute(_SQL["insert_specs"], (json_rows(specs), heap))
        self._usage.submitted(jobs)

    def _begin(self, operations: Sequence[BeginLeases]) -> Sequence[frozenset[str]]:
        rows = [
            (b.job_id, b.lease_id, b.attempt, b.miner_id, b.started_us, b.claim_s)
            for operation in operations
            for b in operation.leases
        ]
        text = json_rows(rows)
        changed = self._connection.execute(_SQL["begin_jobs"], (text,)).rowcount
        done = None if changed == len(rows) else self._job_ids("begun_jobs", text)
        return [_done(done, operation.leases) for operation in operations]

    def _complete(self, operations: Sequence[Complete]) -> Sequence[frozenset[str]]:
        completions = [c for operation in operations for c in operation.completions]
        execute = self._connection.execute
        leases = json_rows([(c.job_id, c.lease_id) for c in completions])
        facts = orjson.loads(execute(_SQL["completable_jobs"], (leases,)).fetchone()[0])
        completions = [completions[place] for place, *_ in facts]
        attempts = [
            (c.job_id, attempt, miner_id, started_us, c.completed_us, c.statement.hex() or None)
            for c, (_, _, _, miner_id, attempt, started_us, *_) in zip(
                completions, facts, strict=True
            )
        ]
        execute(_SQL["insert_completed_attempts"], (json_rows(attempts),))
        # Not as text in the rows, which would be parsed: they may be megabytes.
        offsets, heap = packed(part for c in completions for part in (c.result.encode(), c.details))
        salts = [c.result_salt or self._ledger.salt() for c in completions]
        results = [
            (c.job_id, *result, *details, salt.hex())
            for c, result, details, salt in zip(
                completions, offsets[::2], offsets[1::2], salts, strict=True
            )
        ]
        execute(_SQL["insert_results"], (json_rows(results), heap))
        ends = [
            (
                c.job_id,
                c.prompt_tokens,
                c.completion_tokens,
                c.finish_reason,
                c.completed_us,
            )
            for c in completions
        ]
        execute(_SQL["complete_jobs"], (json_rows(ends),))
        works = [
            self._work(c, salt, *of_job)
            for c, salt, (_, *of_job) in zip(completions, salts, facts, strict=True)
        ]
        self._ledger.append(works)
        self._usage.completed(works)
        added: Counter[str] = Counter()
        for at, (_, owner, *_) in enumerate(facts):
            added[owner] += offsets[2 * at][1] + offsets[2 * at + 1][1]
        self._stored.add(added)
        done = frozenset(work.job_id for work in works)
        return [_done(done, operation.completions) for operation in operations]

    def _work(
        self,
        completion: Completion,
        result_salt: bytes,
        client: str,
        model: str,
        miner_id: str,
        attempt: int,
        started_us: int,
        prompt_hash: str,
        request_hash: str,
    ) -> Work:
        """Returns what the receipt of a job tells."""
        asked = bytes.fromhex(prompt_hash), bytes.fromhex(request_hash)
        if not all(asked):
            asked = self._ledger.hash_request(completion.job_id)
        result_hash = completion.result_hash or salted_hash(result_salt, completion.result)
        return Work(
            job_id=completion.job_id,
            client=client,
            model=model,
            miner_id=miner_id,
            attempt=attempt,
            started_us=started_us,
            completed_us=completion.completed_us,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            characters=len(completion.result),
            prompt_hash=asked[0],
            result_hash=result_hash,
            request_hash=asked[1],
            answer_hash=completion.answer_hash
            or self._ledger.hash_answer(result_salt, result_hash, completion),
            miner_signature=completion.miner_signature,
            resumed=completion.resumed,
        )

    def _end(self, operations: Sequence[End]) -> Sequence[frozenset[str]]:
        rows = [
            (
                e.job_id,
                e.lease_id,
                e.status,
                e.error_code,
                e.error_message,
                e.ended_us,
                e.not_before_us,
                int(e.is_free),
                e.vanishes,
                e.job_code,
                e.job_message,
            )
            for operation in operations
            for e in operation.endings
        ]
        text = json_rows(rows)
        done = self._job_ids("endable_jobs", text)
        self._usage.ended(text)
        self._connection.execute(_SQL["insert_ended_attempts"], (text,))
        self._connection.execute(_SQL["end_jobs"], (text,))
        return [_done(done, operation.endings) for operation in operations]

    def _flag_cancels(self, operations: Sequence[FlagCancels]) -> Sequence[None]:
        rows = [job for operation in operations for job in operation.jobs]
        self._connection.execute(_SQL["flag_cancels"], (json_rows(rows),))
        return [None] * len(operations)

    def _register(self, operations: Sequence[Register]) -> Sequence[bool]:
        answers = []
        for operation in operations:
            miner = operation.miner
            done = self._connection.execute(
                _SQL["upsert_miners"],
                (
                    miner.miner_id,
                    orjson.dumps(miner.models).decode(),
                    miner.gpu_info,
                    miner.public_key,
                    miner.agent_version,
                    miner.registered_us,
                    miner.owner,
                    miner.seen_us,
                    miner.has_proved,
                ),
            )
            answers.append(done.rowcount == 1)
        return answers

    def _remove_miners(self, operations: Sequence[RemoveMiners]) -> Sequence[None]:
        miner_ids = [one for operation in operations for one in operation.miner_ids]
        self._connection.execute(_SQL["remove_miners"], (json_rows(miner_ids),))
        return [None] * len(operations)

    def _note_miners(self, operations: Sequence[NoteMiners]) -> Sequence[None]:
        rows = [row for operation in operations for row in operation.seen_us.items()]
        self._connection.execute(_SQL["note_miners"], (json_rows(rows),))
        return [None] * len(operations)

    def _drain(self, operations: Sequence[Drain]) -> Sequence[None]:
        for operation in operations:
            self._connection.execute(_SQL["drain_miner"], (operation.miner_id, operation.since_us))
        return [None] * len(operations)

    def _job_ids(self, statement: str, rows: str) -> frozenset[str]:
        # One row that holds them all: each row that is fetched takes the GIL anew.
        return frozenset(
            orjson.loads(self._connection.execute(_SQL[statement], (rows,)).fetchone()[0])
        )


def _done(job_ids: frozenset[str] | None, items: Sequence[Any]) -> frozenset[str]:
    """Returns which jobs of an operation changed; None stands for all of the batch."""
    asked = frozenset(item.job_id for item in items)
    return asked if job_ids is None else asked & job_ids
