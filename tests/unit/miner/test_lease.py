from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aitbc.v1 import jobs_pb2
from aitbc.v1.work_pb2 import Update
from aitbc_miner.engines.base import Chunk, Logprob, PromptDetails, Resume, ToolCallPart
from aitbc_miner.lease import Lease


def said(*texts: str, finish: str | None = None) -> Lease:
    """Returns a lease whose engine said these texts, each told before the next."""
    lease = Lease("l")
    for text in texts:
        lease.add(Chunk(text=text, tokens=1))
        lease.take_updates()
    if finish is not None:
        end(lease, finish)
    return lease


def end(lease: Lease, text: str = "") -> None:
    lease.add(Chunk(text=text, tokens=bool(text), finish_reason="stop", prompt_tokens=5))
    lease.complete()


def told(updates: list[Update]) -> list[tuple[int, str]]:
    """Returns number and text of each update."""
    return [
        (update.sequence, update.delta.text or update.completion.result or update.failure.code)
        for update in updates
    ]


def test_deltas_are_numbered_from_zero_and_hold_what_came_since_the_one_before() -> None:
    lease = Lease("l")
    lease.add(Chunk(text="a", tokens=1))
    lease.add(Chunk(text="b", tokens=2))
    (first,) = lease.take_updates()
    lease.add(Chunk(text="c", tokens=1))
    (second,) = lease.take_updates()
    assert (first.sequence, first.delta.text, first.delta.tokens) == (0, "ab", 3)
    assert (second.sequence, second.delta.text, second.delta.tokens) == (1, "c", 1)
    assert lease.take_updates() == []
    assert lease.next_sequence == 2


def test_an_answer_that_ends_before_its_first_delta_is_one_completion() -> None:
    lease = Lease("l")
    lease.add(Chunk(text="a", tokens=1))
    end(lease, "b")
    (update,) = lease.take_updates()
    assert update.sequence == 0
    assert update.completion.result == "ab"
    assert update.completion.finish_reason == "stop"
    assert update.completion.usage.prompt_tokens == 5
    assert update.completion.usage.completion_tokens == 2


def test_who_follows_an_answer_gets_its_last_delta_before_the_completion() -> None:
    assert told(said("a", finish="b").take_updates()) == [(1, "b"), (2, "ab")]


def test_an_exact_token_count_of_the_engine_replaces_the_sum() -> None:
    lease = Lease("l")
    lease.add(Chunk(text="a", tokens=1))
    lease.add(Chunk(finish_reason="length", completion_tokens=9))
    lease.complete()
    (update,) = lease.take_updates()
    assert update.completion.usage.completion_tokens == 9
    assert not update.completion.usage.HasField("prompt_tokens")


def test_a_failure_follows_without_the_text_that_waited() -> None:
    lease = said("a")
    lease.add(Chunk(text="b", tokens=1))
    lease.fail("CANCELLED", "cancelled", fault=None)
    assert told(lease.take_updates()) == [(1, "CANCELLED")]


def test_a_coordinator_that_forgot_all_gets_the_text_so_far_as_one_delta() -> None:
    lease = said("a", "b", "c")
    assert lease.rewind(0)
    assert told(lease.take_updates()) == [(0, "abc")]
    lease.add(Chunk(text="d", tokens=1))
    (update,) = lease.take_updates()
    assert (update.sequence, update.delta.text, update.delta.tokens) == (1, "d", 1)


def test_a_coordinator_that_forgot_some_gets_the_rest() -> None:
    lease = said("a", "b", "c")
    assert lease.rewind(1)
    (update,) = lease.take_updates()
    assert (update.sequence, update.delta.text, update.delta.tokens) == (1, "bc", 2)


def test_a_coordinator_that_has_all_gets_nothing() -> None:
    lease = said("a", "b")
    assert not lease.rewind(2)
    assert lease.take_updates() == []


def test_a_coordinator_ahead_of_the_miner_moves_the_numbers_on() -> None:
    lease = said("a")
    assert not lease.rewind(3)
    lease.add(Chunk(text="b", tokens=1))
    assert told(lease.take_updates()) == [(3, "b")]


def test_an_ending_that_is_not_stored_is_told_again() -> None:
    lease = said("a", finish="")
    assert told(lease.take_updates()) == [(1, "a")]
    assert lease.rewind(1)
    assert told(lease.take_updates()) == [(1, "a")]


def test_an_ending_is_told_alone_to_a_coordinator_that_forgot_all() -> None:
    lease = said("a", "b", finish="c")
    lease.take_updates()
    assert lease.rewind(0)
    assert told(lease.take_updates()) == [(0, "abc")]
    assert lease.is_settled_by(1)


def test_only_an_acknowledgement_of_the_ending_settles_a_lease() -> None:
    lease = said("a")
    assert not lease.is_settled_by(1)
    end(lease)
    assert not lease.is_settled_by(2)
    lease.take_updates()
    assert not lease.is_settled_by(1)
    assert lease.is_settled_by(2)


@given(st.lists(st.one_of(st.text(max_size=3), st.just(None), st.integers(0, 5)), max_size=20))
def test_whatever_is_forgotten_the_deltas_make_the_text_without_gaps(
    steps: list[str | int | None],
) -> None:
    """Text is said, None flushes, and a number is how many updates the coordinator remembers."""
    lease, stored, text = Lease("l"), list[str](), ""
    for step in steps:
        if isinstance(step, str):
            lease.add(Chunk(text=step, tokens=len(step)))
            text += step
        elif step is None:
            store(stored, lease.take_updates())
        else:
            del stored[step:]
            lease.rewind(len(stored))
    end(lease)
    *deltas, completion = lease.take_updates()
    store(stored, deltas)
    assert completion.completion.result == text
    assert completion.completion.usage.completion_tokens == len(text)
    assert completion.sequence == len(stored)
    assert not stored or "".join(stored) == text


def store(stored: list[str], updates: list[Update]) -> None:
    for update in updates:
        assert update.sequence == len(stored)
        assert update.delta.tokens == len(update.delta.text)
        stored.append(update.delta.text)


def test_a_resumed_answer_goes_on_after_what_was_told_and_counts_it() -> None:
    lease = Lease("l", resume=Resume("ab", 3))
    assert lease.next_sequence == 1
    lease.add(Chunk(text="c", tokens=1))
    (delta,) = lease.take_updates()
    assert (delta.sequence, delta.delta.text, delta.delta.tokens) == (1, "c", 1)
    end(lease, "d")
    completion = lease.take_updates()[-1].completion
    assert completion.result == "abcd"
    assert completion.usage.completion_tokens == 5


def test_a_coordinator_that_forgot_a_resumed_answer_is_told_it_from_the_beginning() -> None:
    lease = Lease("l", resume=Resume("ab", 3))
    lease.add(Chunk(text="c", tokens=1))
    lease.take_updates()
    assert lease.rewind(0)
    (delta,) = lease.take_updates()
    assert (delta.sequence, delta.delta.text, delta.delta.tokens) == (0, "abc", 4)


def test_tokens_without_a_text_are_told_while_the_answer_is_made_and_not_before_its_end() -> None:
    lease = Lease("l")
    lease.add(Chunk(tokens=2))
    (delta,) = lease.take_updates()
    assert (delta.delta.text, delta.delta.tokens) == ("", 2)
    assert lease.take_updates() == []
    lease.add(Chunk(tokens=1, finish_reason="stop"))
    lease.complete()
    assert [update.WhichOneof("event") for update in lease.take_updates()] == ["completion"]


def test_probabilities_wait_for_the_text_of_their_tokens() -> None:
    lease = Lease("l")
    lease.add(Chunk(text="a", tokens=1, logprobs=(Logprob("a", -1),)))
    lease.add(Chunk(tokens=1, logprobs=(Logprob("", -2),)))
    (first,) = lease.take_updates()
    lease.add(Chunk(tokens=1, logprobs=(Logprob("", -3),)))
    (second,) = lease.take_updates()
    lease.add(Chunk(text="🙂", tokens=1, logprobs=(Logprob("🙂", -4, (Logprob("x", -5),)),)))
    (third,) = lease.take_updates()
    assert [
        [one.logprob for one in update.delta.logprobs] for update in (first, second, third)
    ] == [[-1, -2], [], [-3, -4]]
    assert [one.token for one in third.delta.logprobs[1].top] == ["x"]


_CHUNKS = st.builds(
    lambda text, call, likely: Chunk(
        text=text,
        tokens=len(text),
        tool_calls=() if call is None else (ToolCallPart(call[0], arguments=call[1]),),
        logprobs=tuple(Logprob(one, -1.0) for one in text) if likely else (),
    ),
    st.text(max_size=3),
    st.none() | st.tuples(st.integers(0, 2), st.text(max_size=3)),
    st.booleans(),
)


@given(st.lists(st.one_of(_CHUNKS, st.none(), st.integers(0, 5)), max_size=25))
def test_whatever_is_forgotten_the_deltas_make_the_calls_and_the_probabilities(
    steps: list[Chunk | int | None],
) -> None:
    """Chunks are said, None flushes, and a number is how many updates are remembered."""
    lease, stored = Lease("l"), list[Update]()
    begun = 0
    for step in steps:
        if isinstance(step, Chunk):
            for part in step.tool_calls:
                # Calls begin in order.
                number = min(part.index, begun)
                named = ToolCallPart(number, f"id{number}", f"f{number}", part.arguments)
                begun = max(begun, number + 1)
                lease.add(Chunk(tool_calls=(named,)))
            lease.add(Chunk(text=step.text, tokens=step.tokens, logprobs=step.logprobs))
        elif step is None:
            stored += lease.take_updates()
        else:
            del stored[step:]
            lease.rewind(len(stored))
    end(lease)
    *deltas, last = lease.take_updates()
    stored += deltas
    completion = last.completion
    assert [update.sequence for update in [*stored, last]] == list(range(len(stored) + 1))
    text, calls, logprobs = "", list[jobs_pb2.ToolCall](), list[jobs_pb2.TokenLogprob]()
    for update in stored:
        text += update.delta.text
        logprobs += update.delta.logprobs
        for told in update.delta.tool_calls:
            assert bool(told.id) == (told.index == len(calls))
            if told.id:
                calls.append(jobs_pb2.ToolCall(id=told.id, name=told.name))
            calls[told.index].arguments += told.arguments
    if stored:
        assert text == completion.result
        assert calls == list(completion.tool_calls)
    assert logprobs == list(completion.logprobs[: len(logprobs)])


def test_a_resumed_answer_keeps_the_probabilities_that_were_told() -> None:
    lease = Lease("l", resume=Resume("a", 1, (Logprob("a", -1),)))
    lease.add(Chunk(text="b", tokens=1, logprobs=(Logprob("b", -2),)))
    (delta,) = lease.take_updates()
    assert [one.token for one in delta.delta.logprobs] == ["b"]
    end(lease)
    completion = lease.take_updates()[-1].completion
    assert [one.token for one in completion.logprobs] == ["a", "b"]


def thinking(*thoughts: str) -> Lease:
    """Returns a lease whose engine thought this, each told before the next."""
    lease = Lease("l")
    for thought in thoughts:
        lease.add(Chunk(reasoning=thought, tokens=1))
        lease.take_updates()
    return lease


def test_reasoning_is_told_as_it_comes_and_stands_whole_beside_the_text() -> None:
    lease = Lease("l")
    lease.add(Chunk(reasoning="hm ", tokens=1))
    (first,) = lease.take_updates()
    lease.add(Chunk(reasoning="yes", text="A", tokens=4))
    lease.add(Chunk(text="B", tokens=1))
    (second,) = lease.take_updates()
    end(lease)
    (ending,) = lease.take_updates()
    assert (first.sequence, first.delta.reasoning, first.delta.text) == (0, "hm ", "")
    assert first.delta.tokens == 1
    assert (second.sequence, second.delta.reasoning, second.delta.text) == (1, "yes", "AB")
    completion = ending.completion
    assert (completion.reasoning, completion.result) == ("hm yes", "AB")
    # The tokens of the chunk in which the answer begins are divided as its characters are.
    usage = completion.usage
    assert (usage.completion_tokens, usage.reasoning_tokens) == (6, 4)


def test_an_answer_without_reasoning_says_nothing_of_it() -> None:
    (update,) = said(finish="a").take_updates()
    assert not update.completion.usage.HasField("reasoning_tokens")
    assert update.completion.reasoning == ""


def test_a_count_of_the_engine_replaces_that_of_the_reasoning_too() -> None:
    for thought, exact, told_tokens in (("hm", 7, 7), ("", 7, 7), ("hm", 90, 9), ("hm", None, 1)):
        lease = Lease("l")
        lease.add(Chunk(reasoning=thought, tokens=1))
        lease.add(Chunk(finish_reason="stop", completion_tokens=9, reasoning_tokens=exact))
        lease.complete()
        assert lease.take_updates()[-1].completion.usage.reasoning_tokens == told_tokens


def test_a_coordinator_that_forgot_reasoning_is_told_it_again() -> None:
    lease = thinking("a", "b", "c")
    assert lease.rewind(1)
    (update,) = lease.take_updates()
    assert (update.sequence, update.delta.reasoning, update.delta.tokens) == (1, "bc", 2)
    assert not lease.rewind(2)
    lease.add(Chunk(text="A", tokens=1))
    lease.take_updates()
    assert lease.rewind(0)
    (update,) = lease.take_updates()
    assert (update.sequence, update.delta.reasoning, update.delta.text) == (0, "abc", "A")
    lease.add(Chunk(text="B", tokens=1))
    (update,) = lease.take_updates()
    assert (update.sequence, update.delta.reasoning, update.delta.text) == (1, "", "B")


def test_the_probabilities_of_reasoning_come_with_it() -> None:
    lease = Lease("l")
    lease.add(Chunk(reasoning="hm", tokens=1, logprobs=(Logprob("hm", -0.5),)))
    (update,) = lease.take_updates()
    assert [one.token for one in update.delta.logprobs] == ["hm"]


def test_tokens_are_told_with_their_deltas_and_all_of_them_at_the_end() -> None:
    lease = Lease("l")
    lease.add(Chunk(text="a", tokens=2, token_ids=(1, 2)))
    (first,) = lease.take_updates()
    lease.add(Chunk(text="b", tokens=1, token_ids=(3,)))
    (second,) = lease.take_updates()
    end(lease)
    (last,) = lease.take_updates()
    assert (list(first.delta.token_ids), list(second.delta.token_ids)) == ([1, 2], [3])
    assert list(last.completion.token_ids) == [1, 2, 3]
    # Told again from the second on.
    lease.rewind(1)
    again, _ = lease.take_updates()
    assert (again.delta.text, list(again.delta.token_ids)) == ("b", [3])


def test_the_completion_says_what_ended_it_and_what_the_prompt_was() -> None:
    lease = Lease("l")
    details = PromptDetails(text="p", token_ids=(7, 8), logprobs=(Logprob("p", 0.0),))
    lease.add(Chunk(text="a", tokens=1, prompt_details=details, cached_tokens=2))
    lease.add(Chunk(finish_reason="stop", prompt_tokens=2, stop_string="End", stop_token_id=0))
    lease.complete()
    completion = lease.take_updates()[-1].completion
    assert (completion.stop_string, completion.stop_token_id) == ("End", 0)
    assert completion.usage.cached_tokens == 2
    told = completion.prompt_details
    assert (told.text, list(told.token_ids), told.logprobs[0].token) == ("p", [7, 8], "p")
    plain = Lease("l")
    end(plain, "a")
    (update,) = plain.take_updates()
    assert not update.completion.HasField("prompt_details")
    assert not update.completion.HasField("stop_token_id")
    assert not update.completion.usage.HasField("cached_tokens")
