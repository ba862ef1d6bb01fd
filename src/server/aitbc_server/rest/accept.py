"""Which of several media types an `Accept` header asks for: RFC 9110, section 12.5.1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


def asks_for(accept: str, wanted: Iterable[str], *, over: Iterable[str]) -> bool:
    """Says whether the header asks for a wanted type by its name, and as much as for the others.

    The others count where a range such as `*/*` covers them, too. A weight of 0 refuses a type.
    """
    weights = _weights(accept)
    best = max(weights.get(kind, 0.0) for kind in wanted)
    return best > 0 and best >= max(_weight(weights, kind) for kind in over)


def _weights(accept: str) -> Mapping[str, float]:
    weights: dict[str, float] = {}
    for item in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                # What is no weight asks for nothing.
                weight = float(value) if _WEIGHT.fullmatch(value := value.strip()) else 0.0
        # Of a type that is named twice, with different parameters, the best counts.
        weights[kind] = max(weight, weights.get(kind, 0.0))
    return weights


def _weight(weights: Mapping[str, float], kind: str) -> float:
    # The range that says most about the type is the one that counts.
    for name in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        if name in weights:
            return weights[name]
    return 0.0
