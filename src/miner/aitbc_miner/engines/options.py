"""Reads the `--engine-opt KEY=VALUE` options of an engine."""

from __future__ import annotations

from collections.abc import Mapping

from aitbc_miner.errors import Misconfigured


class EngineOptions:
    """The options of one engine, taken one by one; `finish` refuses what nobody took."""

    def __init__(self, engine: str, values: Mapping[str, str]) -> None:
        self._engine = engine
        self._values = dict(values)
        self._known: list[str] = []

    def text(self, key: str) -> str | None:
        """Returns the option's text, or None when it is not given."""
        self._known.append(key)
        return self._values.pop(key, None)

    def number(self, key: str, *, minimum: float = 0.0) -> float | None:
        """Returns the option as a number, or None when it is not given."""
        text = self.text(key)
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            raise Misconfigured(f"--engine-opt {key}={text}: give a number") from None
        # Written so that NaN is refused too.
        if not minimum <= number < float("inf"):
            raise Misconfigured(f"--engine-opt {key}={text}: give a number from {minimum:g}")
        return number

    def count(self, key: str) -> int | None:
        """Returns the option as a whole number from 1, or None when it is not given."""
        number = self.number(key, minimum=1)
        if number is None:
            return None
        if number != int(number):
            raise Misconfigured(f"--engine-opt {key}={number:g}: give a whole number")
        return int(number)

    def choice(self, key: str, *choices: str) -> str:
        """Returns the option, which must be one of the choices; the first is the default."""
        text = self.text(key)
        if text is None:
            return choices[0]
        if text not in choices:
            raise Misconfigured(f"--engine-opt {key}={text}: give one of {', '.join(choices)}")
        return text

    def finish(self) -> None:
        """Raises Misconfigured when an option is left that the engine does not have."""
        if self._values:
            unknown = ", ".join(sorted(self._values))
            raise Misconfigured(
                f"--engine-opt {unknown}: the {self._engine} engine has no such option; it has"
                f" {', '.join(sorted(self._known))}"
            )
