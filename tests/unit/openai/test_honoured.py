"""What becomes of vLLM's own parameters: the fields of a job."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aitbc.v1 import jobs_pb2
from aitbc_server.api.generation import check_generation
from aitbc_server.api.validation import validator
from aitbc_server.openai.chat_request import ChatRequest
from aitbc_server.openai.completion_request import CompletionRequest
from aitbc_server.openai.errors import OpenAIError
from aitbc_server.openai.parameters import Policy, section
from aitbc_server.openai.schema import read

USER: dict[str, Any] = {"role": "user", "content": "hi"}
BASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "chat": (ChatRequest, {"model": "m", "messages": [USER]}),
    "completions": (CompletionRequest, {"model": "m", "prompt": "hi"}),
}
SCHEMA = {"type": "object"}
TAG = {"type": "structural_tag", "format": {"type": "any_text"}}
LEGACY_TAG = {
    "type": "structural_tag",
    "structures": [{"begin": "<a>", "schema": {}, "end": "</a>"}],
    "triggers": ["<a"],
}
FORMS = jobs_pb2.ResponseFormatType
# Of both operations: what is asked, and the fields of the job that it becomes.
BOTH: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"min_tokens": 2}, {"params": {"min_tokens": 2}}),
    ({"ignore_eos": True}, {"params": {"ignore_eos": True}}),
    ({"stop_token_ids": [2, 3]}, {"params": {"stop_token_ids": [2, 3]}}),
    (
        {"stop": ["a"], "include_stop_str_in_output": True},
        {"params": {"stop": ["a"], "include_stop_str_in_output": True}},
    ),
    ({"bad_words": ["x"]}, {"params": {"bad_words": ["x"]}}),
    ({"allowed_token_ids": [1, 2]}, {"params": {"allowed_token_ids": [1, 2]}}),
    (
        {"logit_bias": {"5": 1, "7": -900, "8": "2.5"}},
        {"params": {"logit_bias": {5: 1.0, 7: -100.0, 8: 2.5}}},
    ),
    ({"skip_special_tokens": False}, {"params": {"skip_special_tokens": False}}),
    ({"skip_special_tokens": True}, {}),
    (
        {"spaces_between_special_tokens": "false"},
        {"params": {"spaces_between_special_tokens": False}},
    ),
    ({"prompt_logprobs": 1}, {"params": {"prompt_logprobs": 1}}),
    ({"return_token_ids": True}, {"params": {"return_token_ids": True}}),
    ({"return_tokens_as_token_ids": True}, {}),
    ({"vllm_xargs": {"a": [1, "b"]}}, {"params": {"extra_args": '{"a":[1,"b"]}'}}),
    ({"truncate_prompt_tokens": -1}, {"prompt_options": {"truncate_prompt_tokens": -1}}),
    ({"add_special_tokens": False}, {"prompt_options": {"add_special_tokens": False}}),
    ({"thinking_token_budget": 0}, {"params": {"thinking_token_budget": 0}}),
    ({"thinking_token_budget": -1}, {}),
    (
        {"repetition_detection": {"max_pattern_size": 4, "min_count": 2}},
        {"params": {"repetition_detection": {"max_pattern_size": 4, "min_count": 2}}},
    ),
    ({"repetition_detection": {}}, {}),
    (
        {"truncate_prompt_tokens": 3, "truncation_side": "right"},
        {"prompt_options": {"truncate_prompt_tokens": 3, "truncation_side": "right"}},
    ),
    ({"cache_salt": "salt"}, {"cache_salt": "salt"}),
    ({"session_id": "s"}, {"conversation_id": "s"}),
    ({"session_id": "s", "prompt_cache_key": "k"}, {"conversation_id": "k"}),
    ({"seed": "4", "top_p": "0.5"}, {"params": {"seed": 4, "top_p": 0.5}}),
    ({"response_format": {"type": "text"}}, {}),
    (
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": FORMS.RESPONSE_FORMAT_TYPE_JSON_OBJECT}},
    ),
    *(
        (
            asked,
            {
                "response_format": {
                    "type": FORMS.RESPONSE_FORMAT_TYPE_JSON_SCHEMA,
                    "json_schema": '{"type":"object"}',
                }
            },
        )
        for asked in (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": SCHEMA},
                }
            },
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            {"structured_outputs": {"json": SCHEMA}},
            {"structured_outputs": {"json": '{"type":"object"}'}},
            {"guided_json": SCHEMA},
            {"guided_json": '{"type":"object"}'},
        )
    ),
    *(
        (asked, {"response_format": {"type": FORMS.RESPONSE_FORMAT_TYPE_REGEX, "regex": "a+"}})
        for asked in ({"structured_outputs": {"regex": "a+"}}, {"guided_regex": "a+"})
    ),
    *(
        (
            asked,
            {"response_format": {"type": FORMS.RESPONSE_FORMAT_TYPE_CHOICE, "choices": ["a", "b"]}},
        )
        for asked in ({"structured_outputs": {"choice": ["a", "b"]}}, {"guided_choice": ["a", "b"]})
    ),
    *(
        (
            asked,
            {
                "response_format": {
                    "type": FORMS.RESPONSE_FORMAT_TYPE_GRAMMAR,
                    "grammar": "root ::= 'a'",
                }
            },
        )
        for asked in (
            {"structured_outputs": {"grammar": "root ::= 'a'"}},
            {"guided_grammar": "root ::= 'a'"},
        )
    ),
    (
        {"structured_outputs": {"json_object": True}},
        {"response_format": {"type": FORMS.RESPONSE_FORMAT_TYPE_JSON_OBJECT}},
    ),
    *(
        (
            asked,
            {
                "response_format": {
                    "type": FORMS.RESPONSE_FORMAT_TYPE_STRUCTURAL_TAG,
                    "structural_tag": json.dumps(tag, separators=(",", ":")),
                }
            },
        )
        for asked, tag in (
            ({"response_format": TAG}, TAG),
            ({"response_format": LEGACY_TAG}, LEGACY_TAG),
            ({"structured_outputs": {"structural_tag": TAG}}, TAG),
            (
                {"structured_outputs": {"structural_tag": json.dumps(TAG, separators=(",", ":"))}},
                TAG,
            ),
        )
    ),
]
CHAT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"add_generation_prompt": True}, {}),
    ({"add_generation_prompt": False}, {"prompt_options": {"add_generation_prompt": False}}),
    (
        {"continue_final_message": True, "add_generation_prompt": False},
        {"prompt_options": {"continue_final_message": True, "add_generation_prompt": False}},
    ),
    (
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"prompt_options": {"chat_template_kwargs": '{"enable_thinking":false}'}},
    ),
    (
        {"documents": [{"title": "a", "text": "b"}]},
        {"prompt_options": {"documents": '[{"title":"a","text":"b"}]'}},
    ),
    ({"reasoning_effort": "low"}, {"prompt_options": {"reasoning_effort": "low"}}),
    ({"return_prompt_text": True}, {"params": {"return_token_ids": True}}),
    (
        {"logprobs": True, "top_logprobs": 20, "return_tokens_as_token_ids": True},
        {"params": {"logprobs": 20, "return_token_ids": True}},
    ),
    ({"max_completion_tokens": 5, "max_tokens": 7}, {"params": {"max_tokens": 5}}),
    ({"top_logprobs": 0}, {}),
]
COMPLETIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"logprobs": 20}, {"params": {"logprobs": 20}}),
    ({"logprobs": True}, {"params": {"logprobs": 1}}),
    ({"prompt": [1, 2]}, {"prompt": None, "raw_prompt": False, "prompt_token_ids": [1, 2]}),
    ({"prompt": [[1, 2]]}, {"prompt": None, "raw_prompt": False, "prompt_token_ids": [1, 2]}),
    ({"prompt": "\n"}, {"prompt": "\n"}),
    ({"echo": True}, {}),
    ({"echo": True, "max_tokens": 0}, {"params": {"max_tokens": 1}}),
    (
        {"echo": True, "logprobs": 2},
        {"params": {"logprobs": 2, "prompt_logprobs": 2, "return_token_ids": True}},
    ),
    (
        {"echo": True, "logprobs": 2, "prompt_logprobs": 0},
        {"params": {"logprobs": 2, "prompt_logprobs": 0, "return_token_ids": True}},
    ),
]
CASES = [
    *(("chat", *case) for case in (*BOTH, *CHAT)),
    *(("completions", *case) for case in (*BOTH, *COMPLETIONS)),
]


async def jobs_of(operation: str, asked: dict[str, Any]) -> list[jobs_pb2.SubmitJobRequest]:
    schema, base = BASES[operation]
    request = await read(schema, json.dumps({**base, **asked}).encode())
    jobs: list[jobs_pb2.SubmitJobRequest] = request.submissions()
    return jobs


@pytest.mark.parametrize(("operation", "asked", "fields"), CASES, ids=str)
async def test_a_parameter_becomes_fields_of_the_job(
    operation: str, asked: dict[str, Any], fields: dict[str, Any]
) -> None:
    expected: Any
    [expected] = await jobs_of(operation, {})
    for name, value in fields.items():
        if name == "params":
            expected.params.MergeFrom(jobs_pb2.GenerationParams(**value))
        elif value is None:
            expected.ClearField(name)
        else:
            expected.MergeFrom(jobs_pb2.SubmitJobRequest(**{name: value}))
            if value is False:
                expected.ClearField(name)
    if "prompt" in fields and fields["prompt"] is not None:
        expected.prompt = fields["prompt"]
    assert await jobs_of(operation, asked) == [expected]


@pytest.mark.parametrize("operation", BASES)
def test_every_honoured_parameter_of_vllm_has_a_case(operation: str) -> None:
    asked = {name for one, case, _ in CASES if one == operation for name in case}
    shared = section("shared").keys() | {"n", "stream_options", "messages", "prompt"}
    elsewhere = {"tools", "tool_choice", "parallel_tool_calls", "include_reasoning", "max_tokens"}
    honoured = {
        row.name for row in section(operation).values() if row.policy is Policy.HONOURED
    } - {"echo"}
    assert honoured - asked <= shared | elsewhere


async def test_each_prompt_is_answered_by_jobs_of_its_own() -> None:
    asked = {"prompt": [[1], [2, 3]], "n": 2, "seed": 2**63 - 1}
    jobs = await jobs_of("completions", asked)
    assert [list(job.prompt_token_ids) for job in jobs] == [[1], [1], [2, 3], [2, 3]]
    assert [job.params.seed for job in jobs] == [2**63 - 1, -(2**63)] * 2


@pytest.mark.parametrize(
    ("operation", "asked", "param"),
    [
        ("chat", {"guided_json": SCHEMA, "guided_regex": "a"}, "guided_regex"),
        ("chat", {"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
        (
            "chat",
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "structured_outputs",
        ),
        ("chat", {"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        (
            "chat",
            {"structured_outputs": {"regex": "a", "whitespace_pattern": " "}},
            "structured_outputs.whitespace_pattern",
        ),
        ("chat", {"response_format": {"type": "structural_tag"}}, "response_format.format"),
        ("chat", {"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        *(
            (
                operation,
                {"response_format": {"type": "json_schema", "json_schema": {"name": "x", **more}}},
                "response_format.json_schema.schema",
            )
            for operation in BASES
            for more in ({}, {"schema": None}, {"json_schema": SCHEMA})
        ),
        ("chat", {"structured_outputs": {"json": ""}}, "structured_outputs.json"),
        (
            "chat",
            {"structured_outputs": {"structural_tag": ""}},
            "structured_outputs.structural_tag",
        ),
        ("chat", {"guided_json": ""}, "guided_json"),
        ("chat", {"top_logprobs": 2}, "top_logprobs"),
        ("chat", {"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ("chat", {"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ("chat", {"prompt_logprobs": -1}, "prompt_logprobs"),
        ("chat", {"reasoning_effort": "utmost"}, "reasoning_effort"),
        ("chat", {"thinking_token_budget": -2}, "thinking_token_budget"),
        ("chat", {"truncation_side": "middle"}, "truncation_side"),
        ("chat", {"use_beam_search": True}, "use_beam_search"),
        (
            "completions",
            {"repetition_detection": {"max_pattern_size": 4097, "min_count": 2}},
            "repetition_detection.max_pattern_size",
        ),
        ("chat", {"cache_salt": "a/b"}, "cache_salt"),
        ("chat", {"cache_salt": ""}, "cache_salt"),
        ("chat", {"logit_bias": {"word": 1}}, "logit_bias.word"),
        ("chat", {"max_tokens": 0}, "max_tokens"),
        ("chat", {"documents": ["text"]}, "documents[0]"),
        ("completions", {"max_tokens": 0}, "max_tokens"),
        ("completions", {"prompt": ["a", 1]}, "prompt[1]"),
        ("completions", {"prompt": [1, "a"]}, "prompt[1]"),
        ("completions", {"prompt": 1}, "prompt"),
        ("completions", {"prompt": ""}, "prompt"),
        ("completions", {"prompt": ["a", ""], "n": 2}, "prompt[1]"),
        ("completions", {"suffix": "x"}, "suffix"),
        ("completions", {"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    ],
    ids=str,
)
async def test_what_cannot_be_kept_is_refused_by_name(
    operation: str, asked: dict[str, Any], param: str
) -> None:
    with pytest.raises(OpenAIError) as caught:
        await jobs_of(operation, asked)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("message", "turn"),
    [
        ({"role": "critic", "content": "hm"}, {"role": "critic", "content": "hm"}),
        ({"role": "developer", "content": "hm"}, {"role": "system", "content": "hm"}),
        ({"role": "user", "content": None}, {"role": "user", "content": ""}),
        (
            {"role": "user", "content": ["a", {"text": "b"}, {"type": "input_text", "text": "c"}]},
            {"role": "user", "content": "a\nb\nc"},
        ),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
            },
            {"role": "user", "content": "a"},
        ),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "content": "no"},
        ),
        (
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "assistant", "content": "no"},
        ),
        (
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}],
            },
            {"role": "assistant", "content": "a", "reasoning": "hm"},
        ),
        (
            {"role": "assistant", "content": "a", "reasoning_content": "hm"},
            {"role": "assistant", "content": "a", "reasoning": "hm"},
        ),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "call_f", "name": "f", "arguments": "{}"}],
            },
        ),
        (
            {"role": "function", "name": "f", "content": "5"},
            {"role": "tool", "name": "f", "content": "5", "tool_call_id": "call_f"},
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is"},
                    {"type": "image_url", "image_url": {"url": "https://a/b", "detail": "low"}},
                    {"image_url": "data:image/png;base64,AA=="},
                    {"type": "video_url", "video_url": {"url": "https://a/v"}},
                    {"type": "audio_url", "audio_url": {"url": "https://a/s"}},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                    {"type": "text", "text": " this?"},
                ],
            },
            {
                "role": "user",
                "content": "what is this?",
                "parts": [
                    {"type": "text", "text": "what is"},
                    {"type": "image_url", "url": "https://a/b", "detail": "low"},
                    {"type": "image_url", "url": "data:image/png;base64,AA=="},
                    {"type": "video_url", "url": "https://a/v"},
                    {"type": "audio_url", "url": "https://a/s"},
                    {"type": "input_audio", "data": "AAAA", "format": "wav"},
                    {"type": "text", "text": " this?"},
                ],
            },
        ),
    ],
    ids=str,
)
async def test_a_message_becomes_a_turn(message: dict[str, Any], turn: dict[str, Any]) -> None:
    [job] = await jobs_of("chat", {"messages": [message]})
    assert list(job.messages) == [jobs_pb2.ChatMessage(**turn)]


@pytest.mark.parametrize("name", ["look up", "größe/x", "a" * 256, "a.b"])
async def test_a_tool_has_any_name_and_several_may_have_the_same(name: str) -> None:
    tools = [
        {"type": "function", "function": {"name": name, "description": which}}
        for which in ("one", "other")
    ]
    choice = {"type": "function", "function": {"name": name}}
    [job] = await jobs_of("chat", {"tools": tools, "tool_choice": choice})
    validator(job.DESCRIPTOR)(job)
    check_generation(job)
    assert [(tool.name, tool.description) for tool in job.tools] == [(name, "one"), (name, "other")]
    assert job.tool_choice == name


async def test_allowed_tools_are_those_that_the_model_is_told_of() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b", "c")]
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [tools[0], tools[2]]},
    }
    [job] = await jobs_of("chat", {"tools": tools, "tool_choice": choice})
    assert ([tool.name for tool in job.tools], job.tool_choice) == (["a", "c"], "required")
    with pytest.raises(OpenAIError) as caught:
        await jobs_of("chat", {"tools": tools[:2], "tool_choice": choice})
    assert caught.value.param == "tool_choice.allowed_tools.tools[1].function.name"
