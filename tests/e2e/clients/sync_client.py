"""The documentation's synchronous Python client and its usage example.

Usage: sync_client.py BASE_URL [PROMPT]
"""

# ruff: noqa: T201 - printing is what it is for
from __future__ import annotations

import sys
import time
from typing import Any

import httpx


class CoordinatorClient:
    """Submits jobs and polls for their results."""

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        self.base_url = base_url
        self.headers = {"X-Api-Key": api_key} if api_key else {}
        self.client = httpx.Client()

    def submit_job(self, prompt: str, model: str = "llama3.2", **params: Any) -> Any:
        response = self.client.post(
            f"{self.base_url}/v1/jobs",
            headers=self.headers,
            json={"prompt": prompt, "model": model, "params": params},
        )
        response.raise_for_status()
        return response.json()

    def get_job(self, job_id: str) -> Any:
        response = self.client.get(f"{self.base_url}/v1/jobs/{job_id}", headers=self.headers)
        response.raise_for_status()
        return response.json()

    def wait_for_job(self, job_id: str, timeout: float = 120) -> Any:
        began = time.monotonic()
        while time.monotonic() - began < timeout:
            job = self.get_job(job_id)
            if job["status"] in ("completed", "failed", "cancelled"):
                return job
            time.sleep(0.2)
        raise TimeoutError(f"job {job_id} did not complete in {timeout} s")


if __name__ == "__main__":
    client = CoordinatorClient(sys.argv[1])
    job = client.submit_job(sys.argv[2] if len(sys.argv) > 2 else "Hello, how are you?")
    result = client.wait_for_job(job["job_id"])
    print(result["result"])
