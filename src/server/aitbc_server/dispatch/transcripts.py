"""What running jobs have said so far, and the readers who follow it.

The text of a job is kept once, however many follow it; a reader keeps its place in it. A reader
that is slow finds more when it looks again, and so costs no memory. When there are many readers
they are woken together, so that each is given the news of some tens of milliseconds at once.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from aitbc_server.dispatch.extras import Extras, Place, size_of
from aitbc_server.dispatch.live import LiveJob
from aitbc_server.domain.parts import NO_PARTS, CallPart, Parts
from aitbc_server.domain.positions import START, Bytes, Position

# Longest time that news waits for company, and how much longer than the work of passing it on it
# waits: one reader gets its news at once, and a thousand do not take the whole event loop.
_LONGEST_WAIT_S = 0.04
_WAIT_FOR_WORK = 1.0
# Text given to a reader at once: it is a copy, which a reader that takes nothing keeps.
_MOST_NEWS = 128 * 1024
_NONE = b""
# Text that another miner is given to go on from: the whole of it travels with the assignment.
_MOST_RESUMED = 1024 * 1024


class Transcript:
    """What one job has said."""

    __slots__ = (
        "authors",
        "extras",
        "followers",
        "is_kept",
        "is_trusted",
        "miner_id",
        "text",
        "tokens",
        "version",
        "waiting",
    )

    def __init__(self) -> None:
        # As UTF-8.
        self.text = bytearray()
        self.tokens = 0
        # Most jobs have none.
        self.extras: Extras | None = None
        # Counts how often the text began anew.
        self.version = 0
        # False when memory did not allow it, or a part is missing: then only the result tells.
        self.is_kept = True
        # Who says it, and whether it did not end in that miner's own failure.
        self.miner_id = ""
        self.is_trusted = True
        # Who said what of the text: each with the number of characters up to the end of its part.
        self.authors: list[tuple[str, int]] = []
        self.followers = 0
        self.waiting: list[Future[None]] = []

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.text) + (self.extras.size if self.extras is not None else 0)

    @property
    def is_resumable(self) -> bool:
        """Whether another miner may go on from it.

        A call that is begun is not begun again, nor is a text taken from the reasoning before it.
        Another miner may have other tokens than those whose ids are told. A miner that failed at
        the job is not believed what it said before.
        """
        extras = self.extras
        if extras is not None and (extras.calls or extras.reasoning or extras.token_ids.items):
            return False
        return bool(self.text) and self.is_trusted and self.size <= _MOST_RESUMED

    def beyond(self, said: bytes, parts: Parts) -> tuple[bytes, Parts] | None:
        """Returns what an answer told from its beginning has more; None when it is another one."""
        if not said.startswith(self.text):
            return None
        rest = parts if self.extras is None else self.extras.beyond(parts)
        return None if rest is None else (said[len(self.text) :], rest)

    def note_author(self, miner_id: str, text: str, *, is_whole: bool) -> None:
        """Notes who says this text: the whole of what is said so far, or what comes next."""
        begin = self.authors[-1][1] if self.authors and not is_whole else 0
        if is_whole:
            self.authors.clear()
        elif self.authors and self.authors[-1][0] == miner_id:
            self.authors.pop()
        self.authors.append((miner_id, begin + len(text)))

    def before(self, miner_id: str, result: str) -> tuple[tuple[str, int], ...]:
        """Returns which beginning of its result a miner had from others, as (miner, characters)."""
        others = self.authors
        while others and others[-1][0] == miner_id:
            others = others[:-1]
        if not others:
            return ()
        length = others[-1][1]
        if result[:length] != self.text.decode()[:length]:
            return ()
        begins = [0, *(end for _, end in others)]
        return tuple((who, end - begin) for (who, end), begin in zip(others, begins, strict=False))

    def wake(self) -> None:
        """Has those who wait look again."""
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class News(NamedTuple):
    """What a reader does not have yet."""

    text: bytes
    # Where it begins.
    position: Position
    # Whether what it had before is void.
    is_restarted: bool
    # Calls, probabilities and ids that come with it.
    parts: Parts = NO_PARTS
    # What comes before the text.
    reasoning: bytes = b""


class Transcripts:
    """The transcripts of jobs that run or are followed."""

    def __init__(self, budget: int, jobs: Container[str]) -> None:
        """`budget`: bytes of text kept; `jobs`: those that are not final."""
        self._left = budget
        # Bytes by the miner that said them.
        self._said: Counter[str] = Counter()
        self._jobs = jobs
        self._loop = asyncio.get_running_loop()
        self._by_job: dict[str, Transcript] = {}
        # Those with news whose readers are not woken yet.
        self._due: dict[Transcript, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._woken_at = 0.0
        self._wait_s = 0.0
        self.is_closed = False

    def find(self, job_id: str) -> Transcript | None:
        """Returns what a job has said, if it is kept and the job is not final."""
        transcript = self._by_job.get(job_id)
        return transcript if transcript is not None and transcript.is_kept else None

    def extend(
        self,
        job_id: str,
        sequence: int,
        text: str,
        tokens: int,
        parts: Parts = NO_PARTS,
        *,
        miner_id: str = "",
    ) -> None:
        """Takes in an update. The one numbered 0 tells the answer from its beginning.

        `miner_id`: who says it.
        """
        transcript = self._by_job.get(job_id)
        if transcript is None:
            transcript = self._by_job[job_id] = Transcript()
        if transcript.miner_id != miner_id:
            self._move(transcript, miner_id)
        said = text.encode()
        if sequence == 0:
            transcript.is_trusted = True
            rest = transcript.beyond(said, parts)
            if rest is None:
                self._clear(transcript)
                transcript.version += 1
            else:
                # A miner that goes on, told again after a reconnection.
                said, parts = rest
                tokens -= transcript.tokens
        size = len(said) if parts is NO_PARTS else len(said) + size_of(parts)
        if not transcript.is_kept or (size > self._left and not self._make_room(miner_id, size)):
            self.drop(job_id)
            return
        self._take(transcript, size)
        if text or sequence == 0:
            transcript.note_author(miner_id, text, is_whole=sequence == 0)
        is_first = not transcript.text and transcript.extras is None
        transcript.text += said
        transcript.tokens += tokens
        if parts is not NO_PARTS:
            if transcript.extras is None:
                transcript.extras = Extras()
            transcript.extras.add(parts, len(transcript.text), has_text=bool(said))
        if transcript.waiting:
            if is_first:
                transcript.wake()
            else:
                self._wake_soon(transcript)

    def follows(self, job_id: str, sequence: int, calls: Sequence[CallPart]) -> bool:
        """Says whether parts of calls follow what was said, as far as that is kept.

        A call begins with its name, and after those before it.
        """
        transcript = self._by_job.get(job_id)
        begun = 0
        if transcript is not None and sequence:
            if not transcript.is_kept:
                return True
            begun = len(transcript.extras.calls) if transcript.extras is not None else 0
        for part in calls:
            if part.number > begun or (part.number == begun and not part.name):
                return False
            begun += part.number == begun
        return True

    def resumed(self, job_id: str, miner_id: str, result: str) -> tuple[tuple[str, int], ...]:
        """Returns which beginning of its result a miner had from others."""
        transcript = self.find(job_id)
        return transcript.before(miner_id, result) if transcript is not None else ()

    def drop(self, job_id: str) -> None:
        """Keeps a job's text no longer: whoever follows it gets the rest with the result."""
        transcript = self._by_job.get(job_id)
        if transcript is not None:
            self._clear(transcript)
            transcript.is_kept = False

    def tell(self, job_ids: Iterable[str]) -> None:
        """Has the readers of jobs look at what became of them; lets go of what is over."""
        for job_id in job_ids:
            transcript = self._by_job.get(job_id)
            if transcript is None:
                continue
            if job_id not in self._jobs:
                del self._by_job[job_id]
                self._take(transcript, -transcript.size)
            transcript.wake()

    def close(self) -> None:
        """Wakes every reader: the process is about to end."""
        self.is_closed = True
        self.tell(list(self._by_job))

    def follow(self, job: LiveJob, position: Position) -> Follower:
        """Returns a reader of a job, which is to be closed."""
        transcript = self._by_job.get(job.job_id)
        if transcript is None:
            transcript = self._by_job[job.job_id] = Transcript()
        return Follower(self, job, transcript, position)

    def leave(self, job_id: str, transcript: Transcript) -> None:
        """Forgets a transcript that says nothing and that nobody follows."""
        is_said = transcript.tokens or transcript.extras is not None
        is_needed = transcript.followers or is_said or not transcript.is_kept
        if not is_needed and self._by_job.get(job_id) is transcript:
            del self._by_job[job_id]

    def distrust(self, job_id: str) -> None:
        """Has no other miner go on from what a job has said so far."""
        transcript = self._by_job.get(job_id)
        if transcript is not None:
            transcript.is_trusted = False

    def _take(self, transcript: Transcript, size: int) -> None:
        self._left -= size
        self._said[transcript.miner_id] += size
        if not self._said[transcript.miner_id]:
            del self._said[transcript.miner_id]

    def _move(self, transcript: Transcript, miner_id: str) -> None:
        """Counts what was said for the miner that goes on from it."""
        size = transcript.size
        self._take(transcript, -size)
        transcript.miner_id = miner_id
        self._take(transcript, size)

    def _make_room(self, miner_id: str, size: int) -> bool:
        """Drops texts of the miner that has most, unless that is the one that needs the room.

        So each miner has its share, and one that talks without end silences its own jobs alone.
        """
        while size > self._left:
            greatest, most = self._said.most_common(1)[0] if self._said else ("", 0)
            if greatest == miner_id or most <= self._said[miner_id] + size:
                return False
            longest = max(
                (job_id for job_id, one in self._by_job.items() if one.miner_id == greatest),
                key=lambda job_id: self._by_job[job_id].size,
            )
            self.drop(longest)
        return True

    def _clear(self, transcript: Transcript) -> None:
        self._take(transcript, -transcript.size)
        transcript.text, transcript.tokens, transcript.extras = bytearray(), 0, None

    def _wake_soon(self, transcript: Transcript) -> None:
        self._due[transcript] = None
        if self._timer is None:
            wait_s = self._woken_at + self._wait_s - self._loop.time()
            self._timer = self._loop.call_later(max(0.0, wait_s), self._wake_all)

    def _wake_all(self) -> None:
        self._timer = None
        self._woken_at = self._loop.time()
        due, self._due = self._due, {}
        for transcript in due:
            transcript.wake()
        # Runs after everything that was woken has taken its turn.
        self._loop.call_soon(self._measure)

    def _measure(self) -> None:
        worked_s = self._loop.time() - self._woken_at
        self._wait_s = min(_LONGEST_WAIT_S, worked_s * (1 + _WAIT_FOR_WORK))


class Follower:
    """One reader of one job that was not final."""

    def __init__(
        self, transcripts: Transcripts, job: LiveJob, transcript: Transcript, position: Position
    ) -> None:
        self.job = job
        self.position = position
        self.place = Place()
        self._transcripts = transcripts
        self._transcript = transcript
        self._loop = asyncio.get_running_loop()
        transcript.followers += 1
        self._version = transcript.version
        # A reader that comes back is believed when the text is there to compare.
        self._is_checked = not position.is_begun

    def news(self) -> News | None:
        """Returns what the reader does not have, and counts it as had. Raises ValueError."""
        transcript, position = self._transcript, self.position
        extras = transcript.extras
        if not transcript.is_kept or not (transcript.text or extras is not None):
            return None
        reasoning = extras.reasoning if extras is not None else _NONE
        is_restarted = False
        if self._version != transcript.version:
            is_restarted = position.is_begun or self.place.is_begun
        elif not self._is_checked:
            is_short = not transcript.text and position.reasoning_offset > len(reasoning)
            if is_short or position.offset > len(transcript.text):
                return None  # its miner may be about to tell the answer again
            found = position.within(transcript.text, reasoning)
            is_restarted = found is None
            position = found or START
            if extras is not None:
                self.place.skip_to(extras, position.reasoning_offset + position.offset)
        self._version, self._is_checked = transcript.version, True
        if is_restarted:
            position, self.place = START, Place()
        thought, text = _after(position, reasoning, transcript.text)
        self.position = position.advanced(text, thought)
        parts = NO_PARTS
        if extras is not None:
            end = self.position.reasoning_offset + self.position.offset
            parts = self.place.take(extras, end)
        if not (text or thought) and not is_restarted and parts is NO_PARTS:
            return None
        return News(text, position, is_restarted, parts, thought)

    async def wait(self) -> None:
        """Returns when there may be news, or the job's status changed."""
        if self._transcripts.is_closed:
            return
        future: Future[None] = self._loop.create_future()
        self._transcript.waiting.append(future)
        try:
            await future
        finally:
            if not future.done() or future.cancelled():
                self._transcript.waiting = [
                    one for one in self._transcript.waiting if one is not future
                ]

    def close(self) -> None:
        """Ends the reading."""
        self._transcript.followers -= 1
        self._transcripts.leave(self.job.job_id, self._transcript)


def _after(position: Position, reasoning: Bytes, text: Bytes) -> tuple[bytes, bytes]:
    """Returns the next of the reasoning and, where that is all of it, of the text."""
    thought = b""
    if position.reasoning_offset < len(reasoning):
        thought = _piece(reasoning, position.reasoning_offset)
        if position.reasoning_offset + len(thought) < len(reasoning):
            return thought, b""
    return thought, _piece(text, position.offset)


def _piece(text: Bytes, begin: int) -> bytes:
    """Returns as much as one reader is given at once, cut between two characters."""
    end = begin + _MOST_NEWS
    while end < len(text) and text[end] & 0xC0 == 0x80:
        end -= 1
    return bytes(memoryview(text)[begin:end])
