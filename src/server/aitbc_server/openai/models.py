"""Models: `GET /v1/models` and `GET /v1/models/{model}`."""

from __future__ import annotations

from typing import Any

from aitbc_server.openai.call import Call
from aitbc_server.openai.errors import model_not_found
from aitbc_server.openai.jobs import Jobs

# Nobody knows when a model was made; OpenAI's clients want a time.
_CREATED = 0


async def list_models(call: Call, jobs: Jobs) -> None:
    """Answers with the models that are served now."""
    models = await jobs.models(call.client)
    await call.answer({"object": "list", "data": [_model(*item) for item in models.items()]})


async def get_model(call: Call, jobs: Jobs, model: str) -> None:
    """Answers with one of them. Raises OpenAIError."""
    models = await jobs.models(call.client)
    if model not in models:
        raise model_not_found(model, models)
    await call.answer(_model(model, models[model]))


def _model(model: str, parent: str) -> dict[str, Any]:
    told = {"id": model, "object": "model", "created": _CREATED, "owned_by": "aitbc"}
    # As vLLM tells adapters from models.
    return {**told, "parent": parent} if parent else told
