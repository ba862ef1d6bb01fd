"""Which models a key may serve: names, and beginnings of names that end with `*`."""

from __future__ import annotations

from collections.abc import Iterable

from aitbc_server.domain.errors import ModelNotAllowed

# As many as a miner may have, and as long.
_MOST = 256
_MOST_LENGTH = 256
_ANY_END = "*"


def parse_models(text: str) -> tuple[str, ...]:
    """Returns the names in a list such as `llama3.2,code*`. Raises ValueError."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if len(names) > _MOST:
        raise ValueError(f"a key names at most {_MOST} models")
    for name in names:
        if not name or len(name) > _MOST_LENGTH or not name.isprintable() or " " in name:
            raise ValueError(f"{name!r} is no name of a model: give names, separated by commas")
        if _ANY_END in name[:-1]:
            raise ValueError(f"{name!r}: a `*` stands for any end of a name, and only there")
    return names


def is_allowed(allowed: tuple[str, ...], model: str) -> bool:
    """Says whether the names allow a model. No names allow all."""
    if not allowed or model in allowed:
        return True
    return any(name[-1] == _ANY_END and model.startswith(name[:-1]) for name in allowed)


def check_allowed(allowed: tuple[str, ...], models: Iterable[str]) -> None:
    """Raises ModelNotAllowed for the first model that the names do not allow."""
    if not allowed:
        return
    for model in models:
        if not is_allowed(allowed, model):
            raise ModelNotAllowed(
                f"the key does not allow the model {model!r}: serve only models that it names, or "
                "ask the operator to add this one with `aitbc-coordinator keys models`"
            )
