"""The documentation's asynchronous Python client and its usage example.

Usage: async_client.py BASE_URL [PROMPT]
"""

# ruff: noqa: T201 - printing is what it is for
from __future__ import annotations

import asyncio
import sys
from typing import Any

import httpx


class AsyncCoordinatorClient:
    """Submits jobs and polls for their results."""

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        self.base_url = base_url
        self.headers = {"X-Api-Key": api_key} if api_key else {}

    async def submit_job(self, prompt: str, model: str = "llama3.2") -> Any:
        async with httpx.AsyncClient() as client:
            response = await client.post(
                f"{self.base_url}/v1/jobs",
                headers=self.headers,
                json={"prompt": prompt, "model": model},
            )
            response.raise_for_status()
            return response.json()

    async def wait_for_job(self, job_id: str) -> Any:
        async with httpx.AsyncClient() as client:
            while True:
                response = await client.get(
                    f"{self.base_url}/v1/jobs/{job_id}", headers=self.headers
                )
                response.raise_for_status()
                job = response.json()
                if job["status"] in ("completed", "failed", "cancelled"):
                    return job
                await asyncio.sleep(0.2)


async def main() -> None:
    client = AsyncCoordinatorClient(sys.argv[1])
    job = await client.submit_job(sys.argv[2] if len(sys.argv) > 2 else "Hello, how are you?")
    result = await client.wait_for_job(job["job_id"])
    print(result["result"])


asyncio.run(main())
