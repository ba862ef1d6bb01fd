"""Models: `GET /v1/models` and `GET /v1/models/{model}`."""

from __future__ import annotations

import time
from typing import Any

from aitbc.v1 import network_pb2
from aitbc_server.openai.call import Call
from aitbc_server.openai.errors import model_not_found
from aitbc_server.openai.jobs import Jobs

# Nobody knows when a model was made. OpenAI's clients want a time: since when it may be served.
_CREATED = int(time.time())
# As vLLM tells it: all that OpenAI's first clients asked about.
_PERMISSION: dict[str, Any] = {
    "object": "model_permission",
    "created": _CREATED,
    "allow_create_engine": False,
    "allow_sampling": True,
    "allow_logprobs": True,
    "allow_search_indices": False,
    "allow_view": True,
    "allow_fine_tuning": False,
    "organization": "*",
    "group": None,
    "is_blocking": False,
}


async def list_models(call: Call, jobs: Jobs) -> None:
    """Answers with the models that are served now."""
    call.pass_over(call.query.model_fields_set, "as OpenAI has it, the list has one page")
    await jobs.check_key(call.client)
    served = await jobs.served(call.client)
    await call.answer({"object": "list", "data": [_model(model) for model in served.values()]})


async def get_model(call: Call, jobs: Jobs, model: str) -> None:
    """Answers with one of them. Raises OpenAIError."""
    await jobs.check_key(call.client)
    served = await jobs.served(call.client)
    if model not in served:
        raise model_not_found(model, served)
    await call.answer(_model(served[model]))


def _model(model: network_pb2.ModelStats) -> dict[str, Any]:
    name = model.model
    return {
        "id": name,
        "object": "model",
        "created": _CREATED,
        "owned_by": "aitbc",
        # What it is made of, only its miners know.
        "root": name,
        # As vLLM tells adapters from models.
        "parent": model.parent or None,
        "max_model_len": model.max_model_len if model.HasField("max_model_len") else None,
        "permission": [{"id": f"modelperm-{name}", **_PERMISSION}],
    }
