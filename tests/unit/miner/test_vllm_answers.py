"""How vLLM's answers are read, with a parser that the test scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aitbc_miner.engines.base import Chunk, Job, Logprob, Params, PromptDetails
from aitbc_miner.engines.vllm_answers import AnswerReader
from aitbc_miner.engines.vllm_parsing import AnswerParser
from aitbc_miner.errors import EngineFailed


class ScriptedParser:
    """Answers each delta with the next of a script, and all together with a text and calls."""

    def __init__(
        self,
        *script: Any,
        whole: tuple[str | None, list[Any]] = (None, []),
        reasoning_tokens: int = 0,
    ) -> None:
        self.script = list(script)
        self.whole = whole
        self.reasoning_tokens = reasoning_tokens
        self.told: list[tuple[str, list[int], bool]] = []

    def parse_delta(
        self,
        delta_text: str,
        delta_token_ids: list[int],
        request: Any,
        prompt_token_ids: list[int] | None,
        *,
        finished: bool,
    ) -> Any:
        """Notes what it was told."""
        assert prompt_token_ids == [7, 8]
        self.told.append((delta_text, delta_token_ids, finished))
        return self.script.pop(0)

    def parse(
        self,
        model_output: str,
        request: Any,
        enable_auto_tools: bool,
        model_output_token_ids: Sequence[int],
    ) -> tuple[str | None, str | None, list[Any] | None]:
        """Says what the test says."""
        assert enable_auto_tools
        assert model_output == "".join(text for text, _, _ in self.told)
        assert model_output_token_ids == [one for _, ids, _ in self.told for one in ids]
        content, calls = self.whole
        return None, content, calls

    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """Counts as the test says."""
        assert token_ids == [one for _, ids, _ in self.told for one in ids]
        return self.reasoning_tokens


def said(
    content: str | None = None,
    *calls: tuple[int, str | None, str | None, str | None],
    reasoning: str | None = None,
) -> Any:
    """Returns a message like vLLM's DeltaMessage."""
    return SimpleNamespace(
        content=content,
        reasoning=reasoning,
        tool_calls=[
            SimpleNamespace(
                index=index, id=call_id, function=SimpleNamespace(name=name, arguments=arguments)
            )
            for index, call_id, name, arguments in calls
        ],
    )


def output(
    text: str,
    ids: Sequence[int],
    reason: str | None = None,
    logprobs: Any = None,
    stop: int | str | None = None,
    prompt: str | None = None,
    prompt_logprobs: Any = None,
) -> Any:
    """Returns an output like vLLM's RequestOutput."""
    completion = SimpleNamespace(
        text=text, token_ids=list(ids), finish_reason=reason, logprobs=logprobs, stop_reason=stop
    )
    return SimpleNamespace(
        outputs=[completion],
        prompt=prompt,
        prompt_token_ids=[7, 8],
        prompt_logprobs=prompt_logprobs,
        num_cached_tokens=1,
    )


async def outputs(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def chunks(parser: ScriptedParser | None, *items: Any, **params: Any) -> list[Chunk]:
    job = Job(request_id="r", model="m", prompt="p", params=cast("Params", params))
    reading = None
    if parser is not None:
        reading = AnswerParser(
            lambda: parser,
            None,
            (7, 8),
            variables={},
            is_calling=True,
            is_reasoning=False,
            is_parallel=True,
        )
    tokenizer = SimpleNamespace(decode=lambda ids: "".join(f"<{one}>" for one in ids))
    reader = AnswerReader(tokenizer, job)
    return [chunk async for chunk in reader.read(outputs(*items), reading)]


async def test_text_flows_as_the_parser_lets_it_and_calls_follow_in_parts() -> None:
    parser = ScriptedParser(
        said("I look"),
        None,
        said(None, (0, "a", "look_up", None)),
        said(None, (0, None, None, '{"x"')),
        said("", (0, None, None, ": 1}"), (1, "b", "other", "{}")),
    )
    told = await chunks(
        parser,
        output("I look<", [1, 2]),
        output("tool_call>", [3]),
        output("look_up", [4]),
        output("x", [5]),
        output("", [6], "stop"),
    )
    assert [chunk.text for chunk in told] == ["I look", "", "", "", ""]
    assert [chunk.tokens for chunk in told] == [2, 1, 1, 1, 1]
    assert [chunk.finish_reason for chunk in told] == [None] * 4 + ["tool_calls"]
    arguments = ["", ""]
    for part in (part for chunk in told for part in chunk.tool_calls):
        arguments[part.index] += part.arguments
    assert arguments == ['{"x": 1}', "{}"]
    assert parser.told[0] == ("I look<", [1, 2], False)
    assert parser.told[-1] == ("", [6], True)


@pytest.mark.parametrize(
    ("calls", "reason", "finish"),
    [
        (False, "stop", "stop"),
        (True, "stop", "tool_calls"),
        (True, "length", "length"),
        (False, "repetition", "repetition"),
    ],
)
async def test_only_a_call_that_is_complete_ends_an_answer_as_one(
    calls: bool, reason: str, finish: str
) -> None:
    message = said("text", (0, "a", "f", "{")) if calls else said("text")
    (chunk,) = await chunks(ScriptedParser(message), output("text", [1], reason))
    assert (chunk.text, chunk.finish_reason, len(chunk.tool_calls)) == ("text", finish, int(calls))


async def test_a_call_that_only_the_whole_answer_shows_is_told_at_its_end() -> None:
    call = SimpleNamespace(id=None, name="look_up", arguments="{}")
    parser = ScriptedParser(said("I"), None, None, whole=("I look. ", [call]))
    told = await chunks(
        parser, output("I", [1]), output(" look. ", [2]), output("functools[...]", [3], "stop")
    )
    assert "".join(chunk.text for chunk in told) == "I look. "
    [part] = told[-1].tool_calls
    assert (part.index, part.name, part.arguments) == (0, "look_up", "{}")
    assert told[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize(("counted", "told_tokens"), [(0, None), (3, 3)])
async def test_what_is_thought_is_told_apart_from_the_text(
    counted: int, told_tokens: int | None
) -> None:
    parser = ScriptedParser(
        said(reasoning="hm "),
        None,
        said("A", reasoning="yes"),
        said("B"),
        whole=("AB", []),
        reasoning_tokens=counted,
    )
    told = await chunks(
        parser,
        output("hm ", [1]),
        output("</think", [2]),
        output(">A", [3, 4]),
        output("B", [5], "stop"),
    )
    assert [(chunk.reasoning, chunk.text) for chunk in told] == [
        *(("hm ", ""), ("", ""), ("yes", "A"), ("", "B"))
    ]
    assert [chunk.reasoning_tokens for chunk in told] == [None, None, None, told_tokens]


@pytest.mark.parametrize(
    ("whole", "text"),
    [("I <tool_call> nothing", "I <tool_call> nothing"), ("Else", "I "), (None, "I ")],
)
async def test_what_was_held_back_and_is_no_call_is_text_in_the_end(
    whole: str | None, text: str
) -> None:
    parser = ScriptedParser(said("I "), None, whole=(whole, []))
    told = await chunks(parser, output("I <tool", [1]), output("_call> nothing", [2], "stop"))
    assert "".join(chunk.text for chunk in told) == text
    assert told[-1].finish_reason == "stop"


def one(logprob: float, rank: int, text: str | None) -> Any:
    """Returns a probability like vLLM's Logprob."""
    return SimpleNamespace(logprob=logprob, rank=rank, decoded_token=text)


async def test_probabilities_are_those_of_the_tokens_of_the_chunk() -> None:
    ranked = {3: one(-0.5, 2, None), 4: one(-0.1, 1, "four"), 5: one(-0.9, 3, "five")}
    (chunk,) = await chunks(None, output("x", [3], logprobs=[ranked]), logprobs=2)
    (told,) = chunk.logprobs
    assert (told.token, told.logprob) == ("<3>", -0.5)
    assert [(top.token, top.logprob) for top in told.top] == [("four", -0.1), ("<3>", -0.5)]
    (chunk,) = await chunks(None, output("x", [3], logprobs=[ranked]))
    assert chunk.logprobs == ()


async def test_an_answer_that_vllm_gave_up_failed() -> None:
    with pytest.raises(EngineFailed, match="abort"):
        await chunks(None, output("x", [1], "abort"))


async def test_tokens_are_told_to_who_asks() -> None:
    items = [output("a", [1, 2]), output("b", [3], "stop")]
    told = await chunks(None, *items, return_token_ids=True)
    assert [chunk.token_ids for chunk in told] == [(1, 2), (3,)]
    assert [chunk.token_ids for chunk in await chunks(None, *items)] == [(), ()]


async def test_the_prompt_is_told_once_to_who_asks_for_its_tokens_or_probabilities() -> None:
    ranked = [None, {8: one(-0.5, 2, "eight"), 9: one(-0.1, 1, "nine")}]
    first = output("a", [1], prompt="seven eight", prompt_logprobs=ranked)
    items = [first, output("b", [3], "stop", prompt="seven eight")]
    one_told, nothing = await chunks(None, *items, prompt_logprobs=1)
    assert nothing.prompt_details is None
    assert one_told.prompt_details == PromptDetails(
        text="seven eight",
        token_ids=(7, 8),
        logprobs=(
            Logprob("<7>", 0.0, token_id=7),
            Logprob(
                "eight", -0.5, (Logprob("nine", -0.1, token_id=9, rank=1),), token_id=8, rank=2
            ),
        ),
    )
    (of_tokens,) = await chunks(None, output("a", [1], "stop"), return_token_ids=True)
    assert of_tokens.prompt_details == PromptDetails(text="<7><8>", token_ids=(7, 8))
    (unasked,) = await chunks(None, output("a", [1], "stop"), logprobs=1)
    assert unasked.prompt_details is None


@pytest.mark.parametrize(
    ("stop", "told"), [("End", ("End", None)), (4, ("", 4)), (None, ("", None))]
)
async def test_what_ended_the_answer_is_told(stop: Any, told: tuple[str, int | None]) -> None:
    (chunk,) = await chunks(None, output("a", [1], "stop", stop=stop))
    assert (chunk.stop_string, chunk.stop_token_id) == told
    assert chunk.cached_tokens == 1
