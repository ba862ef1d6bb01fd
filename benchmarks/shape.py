"""What the load looks like; the same for every server that is compared."""

from __future__ import annotations

MODEL = "llama3.2"
PROMPT = "Explain quantum computing in one paragraph, for a reader who knows no physics."
# Concurrent gRPC calls, and HTTP connections.
CALLERS = 64
# Jobs in one BatchSubmitJobs.
BATCH = 64
MINERS = 4
SLOTS = 64
