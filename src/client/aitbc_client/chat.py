"""A conversation in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aitbc_client import shown
from aitbc_client.errors import AitbcError, Conflict
from aitbc_client.models import EventType, Job, JobStatus, Message, Params

if TYPE_CHECKING:
    from aitbc_client.client import Client

HELP = "/reset forgets the conversation, /exit or Ctrl-D ends; Ctrl-C stops an answer"


class Chat:
    """Asks a model with the whole conversation so far, and prints the answers as they are made."""

    def __init__(self, client: Client, *, model: str, params: Params, system: str | None) -> None:
        self._client = client
        self._model = model
        self._params = params
        self._beginning: list[Message] = [Message(role="system", content=system)] if system else []
        self._messages = list(self._beginning)

    def run(self, read_line: Callable[[], str]) -> None:
        """Takes turns until the user ends it. `read_line` raises EOFError at the end."""
        while True:
            try:
                line = read_line().strip()
            except EOFError:
                return
            except KeyboardInterrupt:
                # At the prompt it drops the line, as shells do.
                shown.text("")
                continue
            if line == "/exit":
                return
            if line == "/reset":
                self._messages = list(self._beginning)
            elif line.startswith("/"):
                shown.note(HELP)
            elif line:
                self._turn(line)

    def _turn(self, line: str) -> None:
        messages = [*self._messages, Message(role="user", content=line)]
        try:
            answer = self._answer(messages)
        except AitbcError as error:
            shown.note(f"{error} ({error.error_code})")
            return
        self._messages = [*messages, Message(role="assistant", content=answer)]

    def _answer(self, messages: list[Message]) -> str:
        """Prints and returns an answer, or as much of it as there was when the user stopped it."""
        submitted = self._client.submit(messages, model=self._model, params=self._params)
        parts: list[str] = []
        answer = shown.Answer()
        try:
            for event in self._client.stream(submitted.job_id):
                answer.show(event)
                if event.type is EventType.DELTA:
                    parts.append(event.text)
                elif event.type is EventType.RESTARTED:
                    parts.clear()
                elif event.type is EventType.FINAL and event.job is not None:
                    _end(event.job)
        except KeyboardInterrupt:
            shown.text("")
            self._cancel(submitted.job_id)
        return "".join(parts)

    def _cancel(self, job_id: str) -> None:
        try:
            self._client.cancel(job_id)
        except Conflict:
            pass  # it ended meanwhile
        shown.note("stopped")


def _end(job: Job) -> None:
    shown.text("")
    if job.status is not JobStatus.COMPLETED:
        shown.note(f"{job.status}: {job.error.message}" if job.error else job.status.value)
    elif job.finish_reason == "length":
        shown.note("cut short: --max-tokens allows no more")
