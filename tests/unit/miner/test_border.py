from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aitbc_miner.engines import border
from aitbc_miner.engines.base import (
    Chunk,
    Job,
    Logprob,
    Message,
    PromptDetails,
    Resume,
    Tool,
    ToolCallPart,
)
from aitbc_miner.engines.border import Border
from aitbc_miner.errors import BadRequest, EngineAnswerInvalid, EngineFailed, Fault, ResultTooLarge

JOB = Job(request_id="1", model="m", prompt="a prompt of words", params={})
# One that asks for all there is.
CURIOUS = replace(
    JOB,
    params={"logprobs": 1, "prompt_logprobs": 1, "return_token_ids": True, "stop": ["END"]},
    tools=(Tool("f", "", None), Tool("g", "", None)),
)


def passed(*chunks: Any, job: Job = JOB) -> list[Chunk]:
    entrance = Border(job)
    return [kept for chunk in chunks if (kept := entrance.pass_in(chunk)) is not None]


@pytest.mark.parametrize(
    "chunk",
    [
        None,
        "text",
        {"text": "x"},
        Chunk(text=42),  # type: ignore[arg-type]
        Chunk(text=None),  # type: ignore[arg-type]
        Chunk(reasoning=["x"]),  # type: ignore[arg-type]
        Chunk(tokens=-1),
        Chunk(tokens=2**31),
        Chunk(tokens=1.5),  # type: ignore[arg-type]
        Chunk(prompt_tokens=-1),
        Chunk(finish_reason="stop", completion_tokens=-5),
        Chunk(finish_reason="stop", completion_tokens="7"),  # type: ignore[arg-type]
        Chunk(finish_reason={}),  # type: ignore[arg-type]
        Chunk(tool_calls=(ToolCallPart(1, "a", "f"),)),
        Chunk(tool_calls=(ToolCallPart(-1, "a", "f"),)),
        Chunk(tool_calls=(ToolCallPart(0, "a", ""),)),
        Chunk(tool_calls=(ToolCallPart(0, "a", "f", {}),)),  # type: ignore[arg-type]
        Chunk(logprobs=(Logprob("a", float("nan")),)),
        Chunk(logprobs=(Logprob("a", float("inf")),)),
        Chunk(logprobs=(Logprob("a", "-1"),)),  # type: ignore[arg-type]
        Chunk(logprobs=(Logprob(None, -1.0),)),  # type: ignore[arg-type]
        Chunk(finish_reason="stop", stop_string=7),  # type: ignore[arg-type]
        Chunk(finish_reason="stop", stop_token_id=-1),
        Chunk(finish_reason="stop", cached_tokens=-1),
    ],
)
def test_what_cannot_be_made_sense_of_is_an_invalid_answer(chunk: object) -> None:
    with pytest.raises(EngineAnswerInvalid) as caught:
        passed(chunk, job=CURIOUS)
    assert (caught.value.reason, caught.value.fault) == ("ENGINE_ANSWER_INVALID", Fault.PASSING)


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(token_ids=(-1,)),
        Chunk(token_ids=("1",)),  # type: ignore[arg-type]
        Chunk(token_ids=(2**31,)),
        Chunk(prompt_details=PromptDetails(token_ids=(-1,))),
        Chunk(prompt_details=PromptDetails(text=None)),  # type: ignore[arg-type]
        Chunk(prompt_details=PromptDetails(logprobs=(Logprob("a", float("nan")),))),
    ],
)
def test_tokens_that_are_none_are_an_invalid_answer_to_who_asks_for_them(chunk: Chunk) -> None:
    with pytest.raises(EngineAnswerInvalid):
        passed(chunk, job=replace(JOB, params={"return_token_ids": True, "prompt_logprobs": 1}))
    # Who does not is told none.
    (kept,) = passed(chunk)
    assert (kept.token_ids, kept.prompt_details) == ((), None)


def test_ids_of_tokens_are_told_to_who_asks_for_them() -> None:
    one = Logprob("a", -1.0, (Logprob("b", -2.0, token_id=6, rank=2),), token_id=5, rank=1)
    (unasked,) = passed(Chunk(logprobs=(one,)), job=replace(JOB, params={"logprobs": 1}))
    assert unasked.logprobs == (Logprob("a", -1.0, (Logprob("b", -2.0),)),)
    (asked,) = passed(Chunk(logprobs=(one,)), job=CURIOUS)
    assert asked.logprobs == (one,)


def test_nothing_is_told_that_was_not_asked_for() -> None:
    one = Logprob("a", -1.0, (Logprob("b", -2.0),))
    surplus = Chunk(
        text="x",
        tokens=1,
        tool_calls=(ToolCallPart(0, "a", "f", "{}"),),
        logprobs=(one,),
        token_ids=(5,),
        prompt_details=PromptDetails(text="p", logprobs=(one,)),
        stop_string="END",
        finish_reason="tool_calls",
    )
    (told,) = passed(surplus)
    assert told == Chunk(
        text="x", tokens=1, finish_reason="stop", prompt_tokens=5, is_estimated=True
    )
    (details,) = passed(surplus, job=replace(JOB, params={"return_token_ids": True}))
    assert details.prompt_details == PromptDetails(text="p")
    uncalled = replace(CURIOUS, tool_choice="none")
    assert passed(surplus, job=uncalled)[0].tool_calls == ()
    assert passed(surplus, job=CURIOUS)[0].stop_string == "END"


def test_of_the_likeliest_tokens_as_many_are_told_as_were_asked_for() -> None:
    """Servers that tell one more begin with the one that stands there."""
    top = (Logprob("c", -9.0), Logprob("b", -2.0, (Logprob("d", -3.0),)), Logprob("a", -1.0))
    one = Logprob("c", -9.0, top)
    job = replace(JOB, params={"logprobs": 2, "prompt_logprobs": 0})
    said = Chunk(logprobs=(one,), prompt_details=PromptDetails(logprobs=(one,)))
    (told,) = passed(said, job=job)
    assert told.logprobs == (Logprob("c", -9.0, (Logprob("a", -1.0), Logprob("b", -2.0))),)
    assert told.prompt_details == PromptDetails(logprobs=(Logprob("c", -9.0),))


def test_no_more_tokens_are_told_than_were_asked_for() -> None:
    job = replace(CURIOUS, params={**CURIOUS.params, "max_tokens": 3})
    one = Logprob("a", -1.0)
    piece = Chunk(tokens=1, token_ids=(7, 8), logprobs=(one, one))
    *_, last = told = passed(
        piece, piece, Chunk(finish_reason="stop", completion_tokens=1), job=job
    )
    assert [(chunk.tokens, chunk.token_ids, len(chunk.logprobs)) for chunk in told] == [
        (2, (7, 8), 2),
        (2, (7,), 1),
        (0, (), 0),
    ]
    assert last.completion_tokens == 3


def test_a_call_has_a_name_and_an_id_in_the_form_of_these() -> None:
    call = Chunk(tool_calls=(ToolCallPart(0, "a\x1b", "get wé\x1b\x9bather" + "r" * 300),))
    (told,) = passed(call, job=CURIOUS)
    [part] = told.tool_calls
    assert part.call_id.startswith("call_")
    assert part.name == "get wé__ather" + "r" * 243


def test_what_is_told_of_tokens_counts_for_the_size() -> None:
    job = replace(JOB, params={"return_token_ids": True})
    with pytest.raises(ResultTooLarge):
        Border(job, 100).pass_in(Chunk(token_ids=(1,) * 26))
    with pytest.raises(ResultTooLarge):
        Border(job, 100).pass_in(Chunk(prompt_details=PromptDetails(text="x" * 101)))


def test_no_more_of_the_prompt_was_cached_than_it_has() -> None:
    (told,) = passed(Chunk(finish_reason="stop", prompt_tokens=4, cached_tokens=9))
    assert told.cached_tokens == 4


def test_a_prompt_of_tokens_is_as_long_as_it_says() -> None:
    job = Job(request_id="1", model="m", prompt_token_ids=(1, 2, 3), params={})
    assert passed(Chunk(finish_reason="stop"), job=job)[0].prompt_tokens == 3


def test_counts_that_are_too_large_together_are_invalid() -> None:
    with pytest.raises(EngineAnswerInvalid):
        passed(Chunk(tokens=2**31 - 1), Chunk(tokens=1))


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["\ud83d\ude00"], "\U0001f600"),
        (["a\ud83d", "\ude00b"], "a\U0001f600b"),
        (["\ud83d", "", "\ude00"], "\U0001f600"),
        (["\ud83d", "x"], "\ufffdx"),
        (["\ude00x"], "\ufffdx"),
        (["x\ud83d"], "x\ufffd"),
        (["\u2028\u0085ü"], "\u2028\u0085ü"),
    ],
)
def test_halves_of_characters_are_joined_or_replaced(pieces: list[str], text: str) -> None:
    said = passed(*(Chunk(text=piece) for piece in pieces), Chunk(finish_reason="stop"))
    assert "".join(chunk.text for chunk in said) == text
    said = passed(*(Chunk(reasoning=piece) for piece in pieces), Chunk(finish_reason="stop"))
    assert "".join(chunk.reasoning for chunk in said) == text


def test_arguments_are_joined_for_each_call() -> None:
    parts = [
        ToolCallPart(0, "a", "f", '"\ud83d'),
        ToolCallPart(1, "b", "g", '"\ud83d'),
        ToolCallPart(0, arguments='\ude00"'),
        ToolCallPart(1, arguments='x"'),
    ]
    said = passed(*(Chunk(tool_calls=(part,)) for part in parts), job=CURIOUS)
    told = ["", ""]
    for chunk in said:
        told[chunk.tool_calls[0].index] += chunk.tool_calls[0].arguments
    assert told == ['"\U0001f600"', '"\ufffdx"']


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("COMPLETE", "stop"),
        ("nobody knows \x1b]0;", "stop"),
        ("", "stop"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("max_output_tokens", "length"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("FinishReason.SAFETY", "content_filter"),
        ("content-filter", "content_filter"),
        ("sensitive", "content_filter"),
        ("tool_calls", "stop"),
    ],
)
def test_the_words_for_an_end_are_understood(word: str, reason: str) -> None:
    assert passed(Chunk(finish_reason=word))[0].finish_reason == reason


@pytest.mark.parametrize(
    ("word", "reason"), [("stop", "tool_calls"), ("function_call", "tool_calls"), ("length",) * 2]
)
def test_an_answer_with_calls_ends_by_them(word: str, reason: str) -> None:
    call = Chunk(tool_calls=(ToolCallPart(0, "", "f"),))
    said, last = passed(call, Chunk(finish_reason=word), job=CURIOUS)
    assert said.tool_calls[0].call_id.startswith("call_")
    assert last.finish_reason == reason


@pytest.mark.parametrize("word", ["error", "abort", "Cancelled", "insufficient_system_resource"])
def test_an_end_that_is_none_is_a_failure(word: str) -> None:
    with pytest.raises(EngineFailed):
        passed(Chunk(finish_reason=word))


def test_nothing_follows_the_last_chunk() -> None:
    assert len(passed(Chunk(finish_reason="stop"), Chunk(text="more", tokens=1))) == 1


def test_a_prompt_that_nobody_counted_is_estimated_and_marked() -> None:
    (last,) = passed(Chunk(finish_reason="stop"))
    assert (last.prompt_tokens, last.is_estimated) == (5, True)
    _early, last = passed(Chunk(prompt_tokens=9), Chunk(finish_reason="stop"))
    assert (last.prompt_tokens, last.is_estimated) == (9, False)
    chat = Job(
        request_id="1", model="m", messages=(Message(role="user", content="ab"),) * 8, params={}
    )
    assert passed(Chunk(finish_reason="stop"), job=chat)[0].prompt_tokens == 8


def test_a_probability_of_nought_is_told_as_openai_does() -> None:
    one = Logprob("a", float("-inf"), (Logprob("\ud800", -1),), b"\xf0")
    (said,) = passed(Chunk(logprobs=(one,)), job=CURIOUS)
    assert said.logprobs == (Logprob("a", -9999.0, (Logprob("\ufffd", -1.0),), b"\xf0"),)


def test_an_answer_without_end_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(border, "_MOST_BYTES", 100)
    with pytest.raises(BadRequest) as caught:
        passed(*[Chunk(text="0123456789")] * 11)
    assert caught.value.reason == "RESULT_TOO_LARGE"


def test_nobody_is_told_more_tokens_than_were_asked_for() -> None:
    job = replace(JOB, params={"max_tokens": 3})
    *_, told = passed(Chunk(text="a", finish_reason="stop", completion_tokens=300), job=job)
    assert (told.completion_tokens, told.is_estimated) == (3, True)
    *_, counted = passed(*[Chunk(text="a", tokens=1)] * 9, Chunk(finish_reason="stop"), job=job)
    assert (counted.completion_tokens, counted.is_estimated) == (3, True)
    *_, fits = passed(
        Chunk(text="a", finish_reason="stop", prompt_tokens=4, completion_tokens=3), job=job
    )
    assert (fits.completion_tokens, fits.is_estimated) == (3, False)


def test_a_prompt_that_cannot_be_so_long_is_estimated() -> None:
    (told,) = passed(Chunk(text="a", finish_reason="stop", prompt_tokens=5_000_000))
    assert told.prompt_tokens is not None
    assert told.prompt_tokens < 100
    assert told.is_estimated


def test_what_an_answer_goes_on_from_counts_for_its_size() -> None:
    job = replace(JOB, resume=Resume("x" * 900, 1))
    entrance = Border(job, 1_000)
    entrance.pass_in(Chunk(text="y" * 90))
    with pytest.raises(ResultTooLarge):
        entrance.pass_in(Chunk(text="ü" * 6))
