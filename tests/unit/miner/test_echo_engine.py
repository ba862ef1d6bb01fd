from __future__ import annotations

import time
from dataclasses import replace

import pytest

from aitbc_miner.engines.base import Chunk, Job, Message, Params, PromptDetails, Resume
from aitbc_miner.engines.echo import EchoEngine, EchoOptions
from aitbc_miner.engines.options import EngineOptions
from aitbc_miner.errors import Misconfigured


def engine(**options: str) -> EchoEngine:
    return EchoEngine(("m",), options=EchoOptions.parse(EngineOptions("echo", options)))


def job(prompt: str, **params: int) -> Job:
    return Job(request_id="1", model="m", prompt=prompt, params=Params(**params))  # type: ignore[typeddict-item]


def answer(engine: EchoEngine, job: Job) -> Chunk:
    chunk = engine.generate(job)
    assert isinstance(chunk, Chunk)
    return chunk


def test_it_answers_with_the_prompt_at_once() -> None:
    assert answer(engine(), job("  two\n words ")) == Chunk(
        text="  two\n words ", tokens=2, finish_reason="stop", prompt_tokens=2
    )


def test_it_answers_a_conversation_with_its_last_message() -> None:
    messages = (Message(role="system", content="s"), Message(role="user", content="hi"))
    assert (
        answer(engine(), Job(request_id="1", model="m", messages=messages, params={})).text == "hi"
    )


@pytest.mark.parametrize(
    ("tokens", "text"), [("1", "a"), ("2", "a  b"), ("3", "a  b a"), ("5", "a  b a  b a")]
)
def test_it_repeats_or_cuts_the_prompt_to_the_tokens_asked_for(tokens: str, text: str) -> None:
    chunk = answer(engine(tokens=tokens), job("a  b"))
    assert (chunk.text, chunk.tokens, chunk.finish_reason) == (text, int(tokens), "stop")


def test_it_has_words_even_for_an_empty_prompt() -> None:
    assert answer(engine(), job("")).text == ""
    assert len(answer(engine(tokens="3"), job("")).text.split()) == 3


def test_max_tokens_cuts_the_answer() -> None:
    chunk = answer(engine(), job("a b c", max_tokens=2))
    assert (chunk.text, chunk.tokens, chunk.finish_reason) == ("a b", 2, "length")


def test_it_thinks_before_it_answers_when_asked_to() -> None:
    chunk = answer(engine(reasoning="5"), job("a b"))
    assert (chunk.reasoning, chunk.text) == ("hm let me think hm", "a b")
    assert (chunk.tokens, chunk.reasoning_tokens, chunk.finish_reason) == (7, 5, "stop")
    cut = answer(engine(reasoning="5"), job("a b", max_tokens=6))
    assert (cut.reasoning, cut.text, cut.finish_reason) == ("hm let me think hm", "a", "length")
    cut = answer(engine(reasoning="5"), job("a b", max_tokens=2))
    assert (cut.reasoning, cut.text, cut.tokens) == ("hm let", "", 2)
    assert not engine(reasoning="5").can_resume(replace(job("a b"), resume=Resume("a", 1)))


async def test_slowly_it_thinks_the_same() -> None:
    chunks = engine(reasoning="5", tokens_per_second="2000").generate(job("a b"))
    assert not isinstance(chunks, Chunk)
    said = [chunk async for chunk in chunks]
    assert "".join(chunk.reasoning for chunk in said) == "hm let me think hm"
    assert "".join(chunk.text for chunk in said) == "a b"
    assert sum(chunk.tokens for chunk in said) == 7
    assert said[-1].reasoning_tokens == 5


@pytest.mark.parametrize("options", [{"latency": "0.001"}, {"tokens_per_second": "2000"}])
async def test_slowly_it_says_the_same(options: dict[str, str]) -> None:
    prompt = " ".join(map(str, range(50))) + " \n"
    chunks = engine(**options).generate(job(prompt))
    assert not isinstance(chunks, Chunk)
    said = [chunk async for chunk in chunks]
    assert "".join(chunk.text for chunk in said) == prompt
    assert sum(chunk.tokens for chunk in said) == 50
    assert [chunk.finish_reason for chunk in said if chunk.finish_reason] == ["stop"]
    assert said[-1].prompt_tokens == 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": "many"}, "tokens=many: give a number"),
        ({"tokens": "0"}, "from 1"),
        ({"tokens": "1.5"}, "whole"),
        ({"latency": "-1"}, "from 0"),
        ({"latency": "nan"}, "from 0"),
        ({"latncy": "1"}, "latncy: the echo engine has no such option; it has latency, reasoning"),
    ],
)
def test_a_wrong_option_is_named_with_its_remedy(options: dict[str, str], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        engine(**options)


def resumed(text: str, tokens: int) -> Job:
    return replace(job("a b c"), resume=Resume(text, tokens))


def test_it_goes_on_with_its_own_text_at_once() -> None:
    assert engine().can_resume(resumed("a b", 2))
    chunk = answer(engine(), resumed("a b", 2))
    assert (chunk.text, chunk.tokens, chunk.prompt_tokens) == (" c", 1, 3)


async def test_it_goes_on_with_its_own_text_slowly() -> None:
    slow = engine(tokens_per_second="2000").generate(resumed("a b", 2))
    assert not isinstance(slow, Chunk)
    chunks = [chunk async for chunk in slow]
    assert "".join(chunk.text for chunk in chunks) == " c"
    assert sum(chunk.tokens for chunk in chunks) == 1


def test_it_does_not_go_on_with_another_text() -> None:
    assert not engine().can_resume(resumed("x", 1))


async def test_it_tells_when_each_word_was_said() -> None:
    before = int(time.monotonic() * 1000)
    slow = engine(tokens_per_second="500", stamps="true").generate(job("a b c"))
    assert not isinstance(slow, Chunk)
    stamps = "".join([chunk.text async for chunk in slow]).split()
    assert len(stamps) == 3
    assert before <= int(stamps[0]) <= int(stamps[2]) <= time.monotonic() * 1000 + 1


def test_there_are_no_times_without_a_rate() -> None:
    with pytest.raises(Misconfigured, match="tokens_per_second"):
        engine(stamps="true")


def test_it_echoes_tokens_and_tells_them_to_who_asks() -> None:
    asked = Job(
        request_id="1",
        model="m",
        prompt_token_ids=(7, 8, 9),
        params={"return_token_ids": True, "max_tokens": 2},
    )
    chunk = answer(engine(), asked)
    assert (chunk.text, chunk.token_ids, chunk.prompt_tokens) == ("7 8", (7, 8), 3)
    assert chunk.prompt_details == PromptDetails(text="7 8 9", token_ids=(7, 8, 9))


@pytest.mark.parametrize(("is_included", "text"), [(False, "a "), (True, "a b")])
def test_a_string_that_ends_answers_ends_the_echo(is_included: bool, text: str) -> None:
    params = Params(stop=["c", "b"], include_stop_str_in_output=is_included)
    chunk = answer(engine(), Job(request_id="1", model="m", prompt="a b c", params=params))
    assert (chunk.text, chunk.stop_string, chunk.finish_reason) == (text, "b", "stop")


def test_it_goes_on_for_as_long_as_it_must() -> None:
    assert answer(engine(), job("a b", min_tokens=3)).text == "a b a"
    endless = answer(engine(), job("a b", ignore_eos=True, max_tokens=5))
    assert (endless.text, endless.tokens, endless.finish_reason) == ("a b a b a", 5, "stop")


def test_what_means_nothing_to_an_echo_does_not_disturb_it() -> None:
    params = Params(
        bad_words=["a"],
        logit_bias={1: 1.0},
        allowed_token_ids=[1],
        skip_special_tokens=False,
        extra_args={"x": 1},
        prompt_logprobs=1,
    )
    assert answer(engine(), Job(request_id="1", model="m", prompt="a", params=params)).text == "a"
