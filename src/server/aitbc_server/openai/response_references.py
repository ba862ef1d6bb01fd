"""What a request names instead of telling it again: items, and the response before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

import orjson
from pydantic import TypeAdapter

from aitbc.v1 import jobs_pb2
from aitbc_server.aside import by_size
from aitbc_server.openai.errors import OpenAIError
from aitbc_server.openai.jobs import Client, Jobs
from aitbc_server.openai.response_ids import job_id_of, job_id_of_item, response_not_found
from aitbc_server.openai.response_input import Item, ItemReference, PlainItem
from aitbc_server.openai.response_items import Item as Told
from aitbc_server.openai.response_items import input_items, output_items
from aitbc_server.openai.response_notes import notes_of

_ITEM: TypeAdapter[PlainItem] = TypeAdapter(PlainItem)
# Responses that the items of one request may be of: each is read from the store.
_MOST_RESPONSES = 200
_PREVIOUS = "previous_response_id"


async def resolved(items: Sequence[Item], jobs: Jobs, client: Client) -> list[PlainItem]:
    """Returns the items with those that are named in place of their names. Raises OpenAIError.

    They are those of the caller's responses that are kept, and of what these were asked.
    """
    wanted: dict[str, Counter[str]] = {}
    for item in items:
        if isinstance(item, ItemReference) and (job_id := job_id_of_item(item.id)):
            wanted.setdefault(job_id, Counter())[item.id] += 1
    if len(wanted) > _MOST_RESPONSES:
        raise OpenAIError(
            400,
            f"Invalid 'input': names items of more than {_MOST_RESPONSES} responses: "
            "use 'previous_response_id', or send the items themselves.",
            code="invalid_value",
            param="input",
        )
    found: dict[str, Told] = {}
    # Of what is named: again, each time that it is named.
    size = 0
    for job_id, names in wanted.items():
        job = await jobs.find(job_id, client)
        if job is None:
            continue
        some, its_size = await by_size(job.ByteSize(), _named, job, names)
        size += its_size
        if size > jobs.max_message_bytes:
            raise OpenAIError(
                400,
                f"Invalid 'input': the items that it names have more than"
                f" {jobs.max_message_bytes:,} bytes together: name fewer.",
                code="invalid_value",
                param="input",
            )
        found |= some
    return await by_size(size, _all_resolved, items, found)


async def conversation_before(
    response_id: str | None, jobs: Jobs, client: Client
) -> tuple[list[jobs_pb2.ChatMessage], str]:
    """Returns the conversation up to a response, and its name. Raises OpenAIError."""
    if response_id is None:
        return [], ""
    job = await jobs.find(job_id_of(response_id, _PREVIOUS), client)
    if job is None:
        raise response_not_found(response_id, _PREVIOUS)
    if job.status != jobs_pb2.JOB_STATUS_COMPLETED:
        raise OpenAIError(
            400,
            f"The response '{response_id}' is not completed.",
            code="previous_response_not_completed",
            param=_PREVIOUS,
        )
    # Instructions are those of one response alone.
    turns = list(job.messages)[notes_of(job).has_instructions :]
    if job.HasField("prompt"):
        turns.append(jobs_pb2.ChatMessage(role="user", content=job.prompt))
    turns.append(
        jobs_pb2.ChatMessage(
            role="assistant",
            content=job.result,
            tool_calls=job.tool_calls,
            reasoning=job.reasoning,
        )
    )
    return turns, job.conversation_id or job.job_id


def _named(job: jobs_pb2.Job, times: Mapping[str, int]) -> tuple[dict[str, Told], int]:
    """Returns the items of a response that are named so often, and the bytes of all of these."""
    notes = notes_of(job)
    items = chain(input_items(job, notes), output_items(job, notes, frozenset()))
    found = {item["id"]: item for item in items if item["id"] in times}
    return found, sum(len(orjson.dumps(item)) * times[name] for name, item in found.items())


def _all_resolved(items: Sequence[Item], found: Mapping[str, Told]) -> list[PlainItem]:
    return [_resolved(item, place, found) for place, item in enumerate(items)]


def _resolved(item: Item, place: int, found: Mapping[str, Told]) -> PlainItem:
    if not isinstance(item, ItemReference):
        return item
    if item.id not in found:
        raise OpenAIError(
            404,
            f"Item with id '{item.id}' not found. Items are kept as long as their response, and "
            "not with 'store' set to false.",
            code="item_not_found",
            param=f"input[{place}]",
        )
    return _ITEM.validate_python(found[item.id])
