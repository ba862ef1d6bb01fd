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
    await call.answer({"object": "list", "data": [_model(model) for model in models]})


async def get_model(call: Call, jobs: Jobs, model: str) -> None:
    """Answers with one of them. Raises OpenAIError."""
    models = await jobs.models(call.client)
    if model not in models:
        raise model_not_found(model, models)
    await call.answer(_model(model))


def _model(model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": _CREATED, "owned_by": "aitbc"}
