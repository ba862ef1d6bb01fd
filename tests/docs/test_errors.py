"""Every code that a caller may be told is in the reference of errors, with cause and remedy."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

from scripts.docs import REFERENCE

import aitbc_miner
import aitbc_server
from aitbc_server.domain.job_errors import JOB_ERRORS
from aitbc_server.rest.catalogue import error_rows

_CODE = re.compile(
    r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|ABANDONED|CANCELLED|INTERNAL|DRAINING|POISON|STARTING"
)
_REASONS = {row.reason for row in error_rows()}
_JOB_CODES = {row.code for row in JOB_ERRORS}
# Upper-case words that are no codes.
_OTHER_WORDS = re.compile(
    r"AITBC_\w+|OTEL_\w+|VLLM_\w+|XDG_\w+|HF_\w+|CUDA_\w+|TORCH_\w+"  # variables
    r"|NOT_SERVING|WEBHOOK_STATUS_\w+|CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER"
)


def _kinds() -> Iterator[type[BaseException]]:
    """Yields every class of errors that any module of the server defines."""
    for module in pkgutil.walk_packages(aitbc_server.__path__, "aitbc_server."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, BaseException):
                yield value


def _words(package: str) -> Iterator[tuple[str, str]]:
    """Yields what looks like a code in the source of a package, and where it stands."""
    for file in sorted(Path(package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                word = node.value
                if _CODE.fullmatch(word) and not _OTHER_WORDS.fullmatch(word):
                    yield word, f"{file}:{node.lineno}"


def test_every_error_with_a_reason_is_in_the_table() -> None:
    missing = {
        kind.__name__
        for kind in _kinds()
        if isinstance(reason := vars(kind).get("reason"), str) and reason not in _REASONS
    }
    assert missing == set()


def test_every_code_in_the_source_is_in_a_table() -> None:
    places = [*aitbc_server.__path__, *aitbc_miner.__path__]
    found = {word: where for place in places for word, where in _words(place)}
    unknown = {word: where for word, where in found.items() if word not in _REASONS | _JOB_CODES}
    assert unknown == {}
    # And nothing is told of that cannot happen.
    assert set(found) | _REASONS >= _JOB_CODES


def test_the_reference_has_every_code_with_cause_and_remedy() -> None:
    page = (REFERENCE / "errors.md").read_text()
    for row in error_rows():
        assert f"| `{row.reason}` | " in page
        assert row.cause.endswith(".")
        assert row.remedy.endswith(".")
    for job_error in JOB_ERRORS:
        assert f"| `{job_error.code}` | " in page


def test_a_reason_means_one_status() -> None:
    statuses: dict[str, set[int]] = {}
    for row in error_rows():
        statuses.setdefault(row.reason, set()).add(row.status)
    assert {reason: found for reason, found in statuses.items() if len(found) > 1} == {}
