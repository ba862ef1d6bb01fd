"""What `vllm serve` tells of itself beside its models: `/version`, `/ping` and `/load`. Public."""

from __future__ import annotations

from aitbc_server import __version__
from aitbc_server.openai.call import Call
from aitbc_server.openai.jobs import Jobs


class ServerCalls:
    """Answers the requests."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def version(self, call: Call, _: str) -> None:
        """Answers with the version of this program."""
        await call.answer({"version": __version__})

    async def ping(self, call: Call, _: str) -> None:
        """Answers, as long as the coordinator serves. Raises Starting and Draining."""
        await self._jobs.check_health(call.client)
        await call.answer({})

    async def load(self, call: Call, _: str) -> None:
        """Answers with how many jobs wait or run."""
        counts = (await self._jobs.stats(call.client)).jobs
        await call.answer({"server_load": counts.pending + counts.running})
