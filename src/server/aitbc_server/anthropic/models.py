"""Models in Anthropic's words, for clients that say which version of its API they speak."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aitbc.v1 import network_pb2
from aitbc_server.openai.call import Call
from aitbc_server.openai.errors import model_not_found
from aitbc_server.openai.jobs import Jobs
from aitbc_server.openai.query import ModelsQuery

# Nobody knows when a model was made.
_CREATED = "1970-01-01T00:00:00Z"


async def list_models(call: Call, jobs: Jobs) -> None:
    """Answers with a page of the models that are served now."""
    await jobs.check_key(call.client)
    served = await jobs.served(call.client)
    names, has_more = _page(served, call.query)
    await call.answer(
        {
            "data": [_model(served[name]) for name in names],
            "first_id": names[0] if names else None,
            "last_id": names[-1] if names else None,
            "has_more": has_more,
        }
    )


async def get_model(call: Call, jobs: Jobs, model: str) -> None:
    """Answers with one of them. Raises OpenAIError."""
    await jobs.check_key(call.client)
    models = await jobs.served(call.client)
    if model not in models:
        raise model_not_found(model, models)
    await call.answer(_model(models[model]))


def _page(served: Iterable[str], query: ModelsQuery) -> tuple[list[str], bool]:
    """Returns the names on a page, and whether there are more beyond it.

    Models come and go: a page is found by the order of names, whether or not its end is there.
    """
    after, before, limit = query.after_id, query.before_id, query.limit
    names = [name for name in sorted(served) if name > after and (not before or name < before)]
    # The page is beside what it comes after or, without that, beside what it comes before.
    is_last = bool(before) and not after
    return names[-limit:] if is_last else names[:limit], len(names) > limit


def _model(stats: network_pb2.ModelStats) -> dict[str, Any]:
    # Prompt and answer share the context.
    most = stats.max_model_len if stats.HasField("max_model_len") else None
    return {
        "type": "model",
        "id": stats.model,
        "display_name": stats.model,
        "created_at": _CREATED,
        "lifecycle": "active",
        "max_input_tokens": most,
        "max_tokens": most,
    }
