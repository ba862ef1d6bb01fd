"""What an OpenAI-compatible server tells of tokens."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from aitbc_miner.engines.base import Chunk, Job, Logprob, Params, PromptDetails
from aitbc_miner.engines.openai_answers import AnswerReader
from aitbc_miner.errors import EngineAnswerInvalid


def read(*events: dict[str, Any], **params: Any) -> list[Chunk]:
    reader = AnswerReader(Job(request_id="1", model="m", prompt="p", params=cast("Params", params)))
    lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    told = [chunk for line in lines for chunk in reader.feed(line)]
    return [*told, *reader.end()]


def said(text: str = "", **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, **choice}]}


STOP = said(finish_reason="stop")


def test_tokens_come_with_their_text_to_who_asks() -> None:
    events = [said("ab", token_ids=[1, 2]), said("c", token_ids=[3]), STOP]
    first, second, last = read(*events, return_token_ids=True)
    assert [one.token_ids for one in (first, second, last)] == [(1, 2), (3,), ()]
    assert (first.tokens, second.tokens) == (2, 1)
    assert all(one.token_ids == () for one in read(*events))


@pytest.mark.parametrize("of_choice", [True, False])
def test_the_prompt_is_told_where_chats_and_completions_tell_it(of_choice: bool) -> None:
    told = {"prompt_token_ids": [7, 8]}
    first = {**said("a", **(told if of_choice else {})), **({} if of_choice else told)}
    *_, last = read(first, STOP, return_token_ids=True)
    assert last.prompt_details == PromptDetails(text="p", token_ids=(7, 8))
    *_, unasked = read(first, STOP)
    assert unasked.prompt_details is None


def test_probabilities_of_the_prompt_are_read() -> None:
    likely = {"logprob": -0.1, "rank": 1, "decoded_token": "nine"}
    own = {"logprob": -0.5, "rank": 2, "decoded_token": "eight"}
    whole = {
        "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}],
        "prompt_token_ids": [7, 8],
        "prompt_text": "seven eight",
        "prompt_logprobs": [None, {"9": likely, "8": own}],
    }
    reader = AnswerReader(Job(request_id="1", model="m", prompt="p", params={"prompt_logprobs": 1}))
    assert list(reader.feed(json.dumps(whole).encode())) == []
    _, last = reader.end()
    nine = Logprob("nine", -0.1, token_id=9, rank=1)
    eight = Logprob("eight", -0.5, token_id=8, rank=2)
    assert last.prompt_details == PromptDetails(
        text="seven eight",
        token_ids=(7, 8),
        logprobs=(
            Logprob("", 0.0, token_id=7),
            Logprob("eight", -0.5, (nine, eight), token_id=8, rank=2),
        ),
    )


@pytest.mark.parametrize("ranked", [[7], [{}], [{"x": {}}], [{"7": {"logprob": "1"}}], [{"7": 1}]])
def test_probabilities_of_a_prompt_that_are_none_are_an_invalid_answer(ranked: Any) -> None:
    with pytest.raises(EngineAnswerInvalid):
        read(said("a", prompt_logprobs=ranked), STOP, prompt_logprobs=1)


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("End", ("End", None)),
        (0, ("", 0)),
        (None, ("", None)),
        (True, ("", None)),
        ([], ("", None)),
    ],
)
def test_what_ended_an_answer_is_told(reason: Any, stop: tuple[str, int | None]) -> None:
    *_, last = read(said("a"), said(finish_reason="stop", stop_reason=reason))
    assert (last.stop_string, last.stop_token_id) == stop


@pytest.mark.parametrize(
    ("details", "cached"), [({"cached_tokens": 4}, 4), ({"cached_tokens": "x"}, None), ([], None)]
)
def test_what_of_the_prompt_was_cached_is_told(details: Any, cached: int | None) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": details}
    *_, last = read(said("a"), STOP, {"choices": [], "usage": usage})
    assert last.cached_tokens == cached
