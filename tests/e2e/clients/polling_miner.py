"""A miner as the documentation shows it: polls, works, and signs its receipts in its own way.

Usage: polling_miner.py BASE_URL MINER_ID MODEL
"""

# ruff: noqa: T201 - printing is what it is for
from __future__ import annotations

import hashlib
import hmac
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import httpx

SECRET = b"known to nobody but this miner"


class Miner:
    """Works on what the coordinator has for it."""

    def __init__(self, base_url: str, miner_id: str, model: str) -> None:
        self.base_url = base_url
        self.miner_id = miner_id
        self.client = httpx.Client(timeout=30)
        self.client.post(
            f"{base_url}/v1/miners/register",
            json={
                "miner_id": miner_id,
                "capabilities": [model],
                "gpu_info": {"name": "NVIDIA RTX 4090", "memory": "24GB"},
            },
        ).raise_for_status()

    def work_on_one_job(self) -> None:
        """Waits for a job, claims it, and delivers its result with a receipt."""
        while (job := self.next_job()) is None:
            time.sleep(0.1)
        url = f"{self.base_url}/v1/jobs/{job['job_id']}"
        self.client.post(f"{url}/claim", json={"miner_id": self.miner_id}).raise_for_status()
        result = f"You said: {job['prompt']}"
        receipt = self.receipt(job["job_id"], result)
        response = self.client.post(f"{url}/complete", json={"result": result, "receipt": receipt})
        response.raise_for_status()
        print(json.dumps({"receipt_id": response.json()["receipt_id"], "receipt": receipt}))

    def next_job(self) -> dict[str, Any] | None:
        """Returns the next job, if there is one."""
        response = self.client.get(
            f"{self.base_url}/v1/jobs/available", params={"miner_id": self.miner_id}
        )
        response.raise_for_status()
        return response.json() if response.status_code == 200 else None

    def receipt(self, job_id: str, result: str) -> dict[str, str]:
        """Returns what this miner states of its work."""
        receipt = {
            "job_id": job_id,
            "miner_id": self.miner_id,
            "result_hash": hashlib.sha256(result.encode()).hexdigest(),
            "completed_at": datetime.now(UTC).replace(tzinfo=None).isoformat(),
        }
        stated = json.dumps(receipt, sort_keys=True).encode()
        receipt["signature"] = hmac.new(SECRET, stated, hashlib.sha256).hexdigest()
        return receipt


if __name__ == "__main__":
    Miner(*sys.argv[1:]).work_on_one_job()
