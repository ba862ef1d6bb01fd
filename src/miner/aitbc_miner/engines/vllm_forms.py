"""Which forms vLLM's engine is given: those that it can hold an answer to, and soon.

The engine compiles each form, beside all jobs that run, and nothing ends that. So another process
compiles all but small ones first, and is ended when it takes too long.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from aitbc_miner.engines import vllm_form_process
from aitbc_miner.engines.base import Form, Job
from aitbc_miner.engines.vllm_refusals import form_refused
from aitbc_miner.errors import EngineFailed

# For one form, when the process is ready; and for it to be.
_MOST_S = 10.0
_READY_S = 120.0
# Forms of which it is remembered what became of them.
_REMEMBERED = 1024
# What a form may have that needs no trial.
_SMALL_SCHEMA, _SMALL_CHOICES, _SMALL_EXPRESSION = 65_536, 8192, 256
_SMALL_NUMBER = 256
# Names in all and of one object, whose time is the square of them; and items of one list.
_FEW_NAMES, _FEW_OF_ONE, _FEW_ITEMS = 2048, 100, 256
# What is compiled to more than it looks like.
_LARGE_WORDS = {"pattern", "patternProperties", "format", "propertyNames", "grammar"}
_BOUNDS = re.compile(r"\{(\d*)(?:,(\d*))?\}")
_MOST_BOUNDS = 4


class Forms:
    """The forms of one engine's jobs."""

    def __init__(
        self, vllm_config: Any, run: Callable[[Connection, Any], None] = vllm_form_process.run
    ) -> None:
        """`run`: what the process does."""
        self._vllm_config = vllm_config
        self._run = run
        # One after the other: each may take all processors.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        # By what they are: why they are refused, if they are.
        self._known: OrderedDict[bytes, str | None] = OrderedDict()

    async def check(self, job: Job, form: Mapping[str, Any] | None) -> None:
        """Raises BadRequest for a form that cannot be compiled, or not soon.

        `form`: arguments of vLLM's StructuredOutputsParams.
        """
        if form is None or _is_small(form):
            return
        key = sha256(json.dumps(form, sort_keys=True).encode("utf-8", "replace")).digest()
        if key not in self._known:
            loop = asyncio.get_running_loop()
            self._known[key] = await loop.run_in_executor(self._thread, self._try, dict(form))
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if (refusal := self._known[key]) is not None:
            raise form_refused(job, refusal)

    def _try(self, form: dict[str, Any]) -> str | None:
        pipe = self._pipe or self._start()
        try:
            pipe.send(form)
            if pipe.poll(_MOST_S):
                refusal: str | None = pipe.recv()
                return refusal
        except (EOFError, OSError):
            self.close()
            return "it takes too much memory to be compiled"
        self.close()
        return f"it takes more than {_MOST_S:g} s to be compiled"

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=self._run, args=(theirs, self._vllm_config), daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            if not pipe.poll(_READY_S):
                raise EOFError
            pipe.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise EngineFailed("the process that compiles forms did not start") from error
        self._pipe = pipe
        return pipe

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def arguments_of(form: Form | None) -> dict[str, Any] | None:
    """Returns a form as arguments of vLLM's StructuredOutputsParams."""
    if form is None:
        return None
    if form.structural_tag is not None:
        return {"structural_tag": json.dumps({**form.structural_tag, "type": "structural_tag"})}
    if form.json_schema is not None:
        return {"json": form.json_schema}
    if form.regex is not None:
        return {"regex": form.regex}
    if form.choices is not None:
        return {"choice": list(form.choices)}
    if form.grammar is not None:
        return {"grammar": form.grammar}
    return {"json_object": True}


def arguments_in(structured_outputs: Any) -> dict[str, Any] | None:
    """Returns the arguments that a StructuredOutputsParams was made of."""
    names = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
    told = {name: getattr(structured_outputs, name, None) for name in names}
    return {name: value for name, value in told.items() if value is not None} or None


def _is_small(form: Mapping[str, Any]) -> bool:
    """Says whether a form is compiled soon, whatever it is."""
    ((kind, value),) = form.items()
    if kind == "json_object":
        return True
    if kind == "choice":
        return len(value) <= _FEW_ITEMS and sum(map(len, value)) <= _SMALL_CHOICES
    if kind == "regex":
        return len(value) <= _SMALL_EXPRESSION and _is_bounded(value)
    if kind == "grammar":
        return False
    text = value if isinstance(value, str) else json.dumps(value)
    return len(text) <= _SMALL_SCHEMA and _is_small_schema(json.loads(text))


def _is_bounded(expression: str) -> bool:
    bounds = [bound for pair in _BOUNDS.findall(expression) for bound in pair if bound]
    return len(bounds) <= _MOST_BOUNDS and all(
        len(bound) < 4 and int(bound) <= _SMALL_NUMBER for bound in bounds
    )


def _is_small_schema(schema: Any) -> bool:
    """Says so of a JSON Schema, or of tags with some."""
    names, bounds, references = 0, 0, 0
    for part in _parts(schema):
        if len(part) > (_FEW_OF_ONE if isinstance(part, dict) else _FEW_ITEMS):
            return False
        for name, value in part.items() if isinstance(part, dict) else ():
            names += 1
            references += name == "$ref"
            if name in _LARGE_WORDS:
                return False
            if name.startswith(("min", "max")) and not isinstance(value, dict):
                bounds += 1
                if not isinstance(value, int) or abs(value) > _SMALL_NUMBER:
                    return False
    # What is repeated that refers to what is repeated, and so on, is large.
    return names <= _FEW_NAMES and not (bounds and references)


def _parts(value: Any) -> Iterator[dict[str, Any] | list[Any]]:
    """Yields the objects and lists within a value, itself among them."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            yield one
            waiting += one.values() if isinstance(one, dict) else one
