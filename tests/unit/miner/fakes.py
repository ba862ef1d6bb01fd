"""An engine that says what a test tells it to, and a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator

from aitbc_miner.engines.base import Answer, Chunk, EngineLoad, Job
from aitbc_miner.engines.tasks import Made, ModelInfo
from aitbc_miner.errors import EngineDead


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Returns the time."""
        return self.now


class FakeEngine:
    """Streams, for each job, the chunks that the test says; an exception ends the answer."""

    def __init__(self, *models: str, slots: int = 4) -> None:
        self.models = models or ("m",)
        self.slots = slots
        self.jobs: dict[str, Job] = {}
        # Set when the generation of a request was stopped before its end.
        self.stopped: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.is_dead = False
        self.resumes = True
        self.info = ModelInfo()
        self.made: dict[str, asyncio.Queue[Made | BaseException]] = defaultdict(asyncio.Queue)
        # A test may speak before the job has arrived.
        self._chunks: dict[str, asyncio.Queue[Chunk | BaseException]] = defaultdict(asyncio.Queue)

    async def start(self) -> None:
        """Is always ready."""

    def generate(self, job: Job) -> Answer:
        """Begins an answer."""
        self.jobs[job.request_id] = job
        return self._stream(job.request_id)

    async def perform(self, job: Job) -> Made:
        """Makes what the test says."""
        self.jobs[job.request_id] = job
        try:
            made = await self.made[job.request_id].get()
        except asyncio.CancelledError:
            self.stopped[job.request_id].set()
            raise
        if isinstance(made, BaseException):
            raise made
        return made

    def describe(self, model: str) -> ModelInfo:
        """Says what the test says."""
        return self.info

    async def _stream(self, request_id: str) -> AsyncGenerator[Chunk, None]:
        is_over = False
        try:
            while not is_over:
                chunk = await self._chunks[request_id].get()
                if isinstance(chunk, BaseException):
                    raise chunk
                is_over = chunk.finish_reason is not None
                yield chunk
        finally:
            if not is_over:
                self.stopped[request_id].set()

    def say(self, request_id: str, text: str, *, tokens: int = 1) -> None:
        """Goes on with an answer."""
        self._chunks[request_id].put_nowait(Chunk(text=text, tokens=tokens))

    def finish(self, request_id: str, text: str = "", *, reason: str = "stop") -> None:
        """Ends an answer."""
        chunk = Chunk(text=text, tokens=bool(text), finish_reason=reason, prompt_tokens=7)
        self._chunks[request_id].put_nowait(chunk)

    def put(self, request_id: str, chunk: Chunk) -> None:
        """Goes on with an answer, or with something that is none."""
        self._chunks[request_id].put_nowait(chunk)

    def crash(self, request_id: str, error: BaseException) -> None:
        """Ends an answer with an error."""
        self._chunks[request_id].put_nowait(error)

    def can_resume(self, job: Job) -> bool:
        """Can as the test says."""
        return self.resumes

    def load(self) -> EngineLoad:
        """Says how busy it is."""
        if self.is_dead:
            raise EngineDead("the engine is dead")
        return EngineLoad(waiting_jobs=0, kv_cache_usage=0.5)

    async def close(self) -> None:
        """Has nothing to free."""
