"""What tests of responses share."""

from __future__ import annotations

from typing import Any

from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from aitbc.v1 import jobs_pb2, work_pb2
from tests.integration.server.harness import FakeMiner
from tests.integration.server.test_openai_api import (
    WEATHER,
    answer,
    both,
)

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


TOOL: Any = {"type": "function", "strict": False, **WEATHER}
SHELL: Any = {"type": "custom", "name": "shell", "description": "Runs a script."}
ENCRYPTED, LOGPROBS = "reasoning.encrypted_content", "message.output_text.logprobs"
ASKED: dict[str, Any] = {"model": "m", "input": "hi"}


SAID = (
    "assistant",
    "I look.",
    "hm",
    [("call_0", "weather", "{}"), ("call_1", "shell", '{"input":"ls"}')],
)


OUTPUTS: list[Any] = [
    {"type": "function_call_output", "call_id": "call_0", "output": "5"},
    {"type": "custom_tool_call_output", "call_id": "call_1", "output": "x"},
]


SECOND_TURN = [("user", "hi"), SAID, ("tool", "5", "call_0"), ("tool", "x", "call_1")]


def call(number: int, arguments: str, name: str = "weather") -> jobs_pb2.ToolCall:
    return jobs_pb2.ToolCall(id=f"call_{number}", name=name, arguments=arguments)


def part(number: int, arguments: str = "", name: str = "") -> jobs_pb2.ToolCallPart:
    """Returns a part of a call: the first one when it has a name."""
    call_id = f"call_{number}" if name else ""
    return jobs_pb2.ToolCallPart(index=number, id=call_id, name=name, arguments=arguments)


def turns(assignment: work_pb2.Assignment) -> list[tuple[Any, ...]]:
    """Returns what a miner was given: of each turn the role, the text, and what else it has."""
    told = []
    for turn in assignment.job.messages:
        calls = [(one.id, one.name, one.arguments) for one in turn.tool_calls]
        more = (turn.reasoning, calls, turn.tool_call_id)
        told.append((turn.role, turn.content, *[one for one in more if one]))
    return told


async def asked(api: Any, miner: FakeMiner, **request: Any) -> work_pb2.Assignment:
    """Has a response answered; returns what its miner was given."""
    asking = api.responses.create(**{**ASKED, **request})
    answering = answer(miner, "fine")
    _, assignment = await both(asking, answering)
    assert isinstance(assignment, work_pb2.Assignment)
    return assignment


async def with_everything(api: Any, miner: FakeMiner, **request: Any) -> Any:
    """Returns a response with reasoning, text and calls of both kinds."""
    asking = api.responses.create(**ASKED, tools=[TOOL, SHELL], **request)
    calls = [call(0, "{}"), call(1, '{"input":"ls"}', "shell")]
    made, _ = await both(
        asking, answer(miner, "I look.", reason="tool_calls", reasoning="hm", tool_calls=calls)
    )
    return made


async def whole(events: Any) -> list[dict[str, Any]]:
    """Returns the events of a stream, each of which the client's own types take."""
    told = [event.to_dict() async for event in events]
    for event in told:
        EVENT.validate_python(event)
    return told


def put_together(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Returns what the deltas of each item say, by the kind of the delta."""
    told: dict[int, tuple[str, str]] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            place, kind = event["output_index"], event["type"].removesuffix(".delta")
            before = told.get(place, (kind, ""))[1]
            told[place] = (kind.removeprefix("response."), before + event["delta"])
    return [told[place] for place in sorted(told)]
