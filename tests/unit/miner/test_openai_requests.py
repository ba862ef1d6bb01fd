"""What an OpenAI-compatible server is asked for a job."""

from __future__ import annotations

from typing import Any

import pytest

from aitbc_miner.engines.base import Form, Job, Message, Params, PromptOptions, Resume, Tool
from aitbc_miner.engines.openai_requests import body_of

_SCHEMA = {"type": "object"}


def body(*, is_raw: bool = False, params: Params | None = None, **fields: Any) -> dict[str, Any]:
    if not fields.keys() & {"messages", "prompt_token_ids"}:
        fields["prompt"] = "p"
    job = Job(request_id="1", model="m", params=params or {}, **fields)
    return body_of(job, "up", is_raw=is_raw, reasoning_word=None)


def test_parameters_are_asked_by_the_names_of_vllms_server() -> None:
    params = Params(
        min_tokens=1,
        ignore_eos=True,
        stop_token_ids=[2],
        include_stop_str_in_output=True,
        bad_words=["b"],
        allowed_token_ids=[3],
        logit_bias={5: 1.0},
        skip_special_tokens=False,
        spaces_between_special_tokens=False,
        return_token_ids=True,
        extra_args={"x": 1},
    )
    asked = body(params=params)
    assert asked.pop("vllm_xargs") == {"x": 1}
    expected: dict[str, Any] = {
        name: value for name, value in params.items() if name != "extra_args"
    }
    assert {name: asked.get(name) for name in expected} == expected
    assert asked["return_prompt_text"] is True


def test_options_of_the_prompt_are_asked_where_they_mean_something() -> None:
    options = PromptOptions(
        chat_template_kwargs={"enable_thinking": False},
        documents=[{"text": "d"}],
        continue_final_message=True,
        add_special_tokens=False,
        truncate_prompt_tokens=5,
        reasoning_effort="low",
    )
    chat = body(options=options)
    assert chat["chat_template_kwargs"] == {"enable_thinking": False}
    assert chat["documents"] == [{"text": "d"}]
    assert (chat["continue_final_message"], chat["add_generation_prompt"]) == (True, False)
    assert chat["reasoning_effort"] == "low"
    raw = body(options=options, is_raw=True)
    for asked in (chat, raw):
        assert (asked["add_special_tokens"], asked["truncate_prompt_tokens"]) == (False, 5)
    assert raw.keys() == {
        *("model", "prompt", "stream", "stream_options"),
        *("add_special_tokens", "truncate_prompt_tokens"),
    }


@pytest.mark.parametrize(
    ("form", "asked"),
    [
        (Form(), {"response_format": {"type": "json_object"}}),
        (
            Form(json_schema=_SCHEMA),
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": _SCHEMA},
                }
            },
        ),
        (Form(regex="a"), {"structured_outputs": {"regex": "a"}}),
        (Form(choices=("a", "b")), {"structured_outputs": {"choice": ["a", "b"]}}),
        (Form(grammar="g"), {"structured_outputs": {"grammar": "g"}}),
        (
            Form(structural_tag={"format": {}}),
            {"response_format": {"type": "structural_tag", "format": {}}},
        ),
    ],
)
def test_a_form_goes_together_with_tools(form: Form, asked: dict[str, Any]) -> None:
    told = body(form=form, tools=(Tool("f", "", {}),))
    assert told["tools"]
    assert {name: told[name] for name in asked} == asked


def test_tokens_go_as_they_are() -> None:
    assert body(prompt_token_ids=(5, 6), is_raw=True)["prompt"] == [5, 6]


def test_probabilities_of_a_prompt_come_with_a_whole_answer() -> None:
    asked = body(params={"prompt_logprobs": 1})
    assert asked["stream"] is False
    assert "stream_options" not in asked
    assert asked["return_token_ids"] is True


def test_what_was_said_counts_for_what_is_still_to_be_said() -> None:
    resume = Resume("a b", 2)
    asked = body(params={"max_tokens": 5, "min_tokens": 4}, is_raw=True, resume=resume)
    assert (asked["prompt"], asked["max_tokens"], asked["min_tokens"]) == ("pa b", 3, 2)
    spent = body(params={"max_tokens": 2, "min_tokens": 1}, is_raw=True, resume=resume)
    assert (spent["max_tokens"], spent["min_tokens"]) == (1, 0)
    # No server takes 0.
    assert body(params={"max_tokens": 0})["max_tokens"] == 1


def test_parts_of_a_message_are_passed_on() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://a/b.png"}}
    (turn,) = body(messages=(Message(role="user", content="", parts=[part]),))["messages"]
    assert turn == {"role": "user", "content": [part]}
