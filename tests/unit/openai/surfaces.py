"""Every API that makes jobs, and requests that have all that it takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from aitbc.v1 import jobs_pb2
from aitbc_server.anthropic.request import CountRequest, MessagesRequest
from aitbc_server.openai.chat_request import ChatRequest
from aitbc_server.openai.completion_request import CompletionRequest
from aitbc_server.openai.embeddings import EmbeddingRequest
from aitbc_server.openai.input_tokens import InputTokensRequest
from aitbc_server.openai.response_items import with_sealed
from aitbc_server.openai.response_request import ResponseRequest
from aitbc_server.openai.schema import Asked, read
from aitbc_server.openai.scores import RerankRequest, ScoreRequest
from aitbc_server.openai.tokens import DetokenizeRequest, TokenizeRequest

Body = dict[str, Any]
Jobs = Sequence[jobs_pb2.SubmitJobRequest]


class Surface(NamedTuple):
    """An API."""

    path: str
    schema: type[Asked]
    submissions: Callable[[Any], Jobs]
    bodies: Sequence[Body]


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
PIXEL = "data:image/png;base64,QQ=="
IMAGE = {"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": "low"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}}
SAMPLED = {
    "max_tokens": 64,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "min_p": 0.1,
    "seed": 3,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.25,
    "repetition_penalty": 1.5,
    "stop": ["", "END", "", "FIN"],
    "min_tokens": 2,
    "ignore_eos": True,
    "stop_token_ids": [2, 3],
    "include_stop_str_in_output": True,
    "bad_words": ["drat", "blast"],
    "allowed_token_ids": [1, 2],
    "logit_bias": {"5": 1.5, "7": -2},
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "vllm_xargs": {"a": 1},
    "thinking_token_budget": 5,
    "repetition_detection": {"max_pattern_size": 4, "min_pattern_size": 2, "min_count": 3},
    "cache_salt": "salt",
    "session_id": "of-a-session",
    "priority": 2,
    "metadata": {"purpose": "test", "user": "me"},
}
PROMPTED = {
    "prompt_logprobs": 1,
    "add_special_tokens": True,
    "truncate_prompt_tokens": 5,
    "truncation_side": "right",
    "return_token_ids": True,
}
FUNCTION = {"name": "weather", "description": "Tells it.", "parameters": SCHEMA, "strict": True}
CUSTOM = {"name": "shell", "description": "Runs it.", "format": {"type": "text"}}
CHAT_TOOLS = [
    {"type": "function", "function": {"name": "other"}},
    {"type": "function", "function": FUNCTION},
    {"type": "custom", "custom": CUSTOM},
]
FORMS: list[Body] = [
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "description": "y", "schema": SCHEMA, "strict": True},
        }
    },
    {"response_format": {"type": "json_object", "schema": SCHEMA}},
    {"response_format": {"type": "structural_tag", "format": {"type": "any_text"}}},
    {
        "response_format": {
            "type": "structural_tag",
            "structures": [{"begin": "<a>"}],
            "triggers": ["<a"],
        }
    },
    {"response_format": {"type": "text"}, "guided_json": SCHEMA},
    {"guided_json": json.dumps(SCHEMA)},
    {"guided_regex": "a+"},
    {"guided_choice": ["yes", "no"]},
    {"guided_grammar": "root ::= 'a'"},
    {"structured_outputs": {"json": SCHEMA}},
    {"structured_outputs": {"regex": "a+"}},
    {"structured_outputs": {"choice": ["yes", "no"]}},
    {"structured_outputs": {"grammar": "root ::= 'a'"}},
    {"structured_outputs": {"structural_tag": {"format": {"type": "any_text"}}}},
    {"structured_outputs": {"json_object": True}},
]
TURNS = [
    {"role": "system", "content": "be brief"},
    {
        "role": "user",
        "name": "me",
        "content": [
            "what",
            {"type": "thinking", "thinking": "hm"},
            {"type": "reasoning", "text": "hm"},
            {"type": "text", "text": "is"},
            IMAGE,
            {"image_url": PIXEL},
            {"type": "video_url", "video_url": {"url": "https://a.example/v"}},
            {"type": "audio_url", "audio_url": "https://a.example/s"},
            SOUND,
            {"type": "refusal", "refusal": "no"},
        ],
    },
    {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "aha"}, {"type": "text", "text": "so"}],
        "reasoning": "hm",
        "tool_calls": [
            {"id": "zero", "function": {"name": "weather", "arguments": "{}"}},
            {
                "id": "one",
                "type": "function",
                "function": {"name": "weather", "arguments": "{}"},
            },
            {"id": "two", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
        ],
    },
    {"role": "tool", "tool_call_id": "one", "content": [{"type": "text", "text": "5"}, "6"]},
    {"role": "assistant", "function_call": {"name": "weather", "arguments": "{}"}},
    {"role": "function", "name": "weather", "content": "5"},
    {"role": "assistant", "content": None, "refusal": "no", "reasoning_content": "hm"},
]
HI = [{"role": "user", "content": "hi"}]
CHATS: list[Body] = [
    {
        **SAMPLED,
        **PROMPTED,
        "messages": TURNS,
        "tools": CHAT_TOOLS,
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required",
                "tools": [
                    {"type": "function", "function": {"name": "weather"}},
                    {"type": "custom", "custom": {"name": "shell"}},
                ],
            },
        },
        "parallel_tool_calls": False,
        "logprobs": True,
        "top_logprobs": 3,
        "chat_template_kwargs": {"a": 1},
        "documents": [{"text": "one"}, {"text": "two"}],
        "reasoning_effort": "low",
    },
    {
        "messages": [*HI, {"role": "assistant", "content": "so"}],
        "max_completion_tokens": 5,
        "user": "me",
        "prompt_cache_key": "of-a-cache",
        "stop": "END",
        "add_generation_prompt": False,
        "continue_final_message": True,
        "return_prompt_text": True,
        "tools": CHAT_TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
    },
    {
        "messages": HI,
        "safety_identifier": "me",
        "logprobs": True,
        "return_tokens_as_token_ids": True,
        "tools": CHAT_TOOLS,
        "tool_choice": "required",
    },
    {"messages": HI, "tools": CHAT_TOOLS, "tool_choice": {"type": "custom", "custom": CUSTOM}},
    *({"messages": HI, **form} for form in FORMS),
]
COMPLETIONS: list[Body] = [
    {**SAMPLED, **PROMPTED, "prompt": "hi", "logprobs": 2},
    {"prompt": "hi", "user": "me", "echo": True, "logprobs": 1},
    {"prompt": ["one", "two"], "n": 2, "seed": 3},
    {"prompt": ["one"], "safety_identifier": "me", "prompt_cache_key": "of-a-cache"},
    {"prompt": [1, 2, 3], "stop": "END", "logprobs": 1, "return_tokens_as_token_ids": True},
    {"prompt": [[1, 2], [3]], "n": 2},
    *({"prompt": "hi", **form} for form in FORMS),
]
RESPONSE_TOOLS = [
    {"type": "web_search"},
    {"type": "function", **FUNCTION},
    {
        "type": "namespace",
        "name": "sky",
        "description": "What is above.",
        "tools": [{"type": "custom", "name": "x"}, {"type": "function", **FUNCTION}],
    },
    {"type": "custom", **CUSTOM},
]
ITEMS = [
    {"role": "user", "content": "hi"},
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "what"},
            {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "low"},
            SOUND,
        ],
    },
    {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "content": [{"type": "reasoning_text", "text": "so"}],
    },
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "well"}]},
    with_sealed({"type": "reasoning", "summary": []}, "deep"),
    {"role": "assistant", "content": [{"type": "output_text", "text": "let me see"}]},
    {"type": "function_call", "call_id": "one", "name": "weather", "arguments": "{}"},
    {"type": "function_call", "call_id": "x", "namespace": "sky", "name": "n", "arguments": "{}"},
    {"type": "custom_tool_call", "call_id": "two", "name": "shell", "input": "ls"},
    {"type": "function_call_output", "call_id": "one", "output": "5"},
    {
        "type": "custom_tool_call_output",
        "call_id": "two",
        "output": [{"type": "input_text", "text": "a"}, {"type": "refusal", "refusal": "b"}],
    },
    {"type": "function_call", "call_id": "three", "name": "weather", "arguments": "{}"},
]
UNFINISHED = [*ITEMS[:1], {"role": "assistant", "content": "so", "status": "incomplete"}]
CHOSEN = {"type": "function", "name": "weather"}
RESPONDED = {
    "instructions": "be brief",
    "input": ITEMS,
    "tools": RESPONSE_TOOLS,
    "tool_choice": {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"name": "sky__weather"}, {"type": "custom", "name": "shell"}],
    },
    "parallel_tool_calls": False,
    "reasoning": {"effort": "low"},
    "truncation": "auto",
    "chat_template_kwargs": {"a": 1},
}
TEXT_FORM = {
    "format": {
        "type": "json_schema",
        "name": "x",
        "description": "y",
        "schema": SCHEMA,
        "strict": True,
    }
}
RESPONSES: list[Body] = [
    {
        **{name: value for name, value in SAMPLED.items() if name != "max_tokens"},
        **RESPONDED,
        "max_output_tokens": 64,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 3,
        "store": False,
    },
    {
        "input": "hi",
        "text": TEXT_FORM,
        "user": "me",
        "prompt_cache_key": "of-a-cache",
        "stop": "END",
        "tools": RESPONSE_TOOLS,
        "tool_choice": CHOSEN,
    },
    {"input": "hi", "text": {"format": {"type": "json_object"}}, "safety_identifier": "me"},
    {"input": UNFINISHED},
    *(
        {"input": "hi", "text": {"format": {"type": "text"}}, **form}
        for form in FORMS
        if "structured_outputs" in form
    ),
]
PROMPTING = {"user": "me", "priority": 2, "add_special_tokens": True}
POOLING = {
    **PROMPTING,
    "truncate_prompt_tokens": 5,
    "truncation_side": "right",
    "use_activation": False,
    "cache_salt": "salt",
}
SCORING = {**POOLING, "max_tokens_per_query": 5, "max_tokens_per_doc": 6}
TOKENIZED: list[Body] = [
    {**PROMPTING, "prompt": "hi", "return_token_strs": True},
    {
        **PROMPTING,
        "messages": [*TURNS, {"role": "assistant", "content": "so"}],
        "tools": CHAT_TOOLS,
        "continue_final_message": True,
        "chat_template_kwargs": {"a": 1},
    },
    {"messages": HI, "add_generation_prompt": False},
]
EMBEDDED: list[Body] = [
    {**POOLING, "input": "hi", "dimensions": 5},
    {"input": [f"word {number}" for number in range(70)]},
    {"input": [5, 6, 7]},
    {"input": [[number, number + 1] for number in range(70)]},
    {
        **POOLING,
        "messages": [*TURNS, {"role": "assistant", "content": "so"}],
        "continue_final_message": True,
        "chat_template_kwargs": {"a": 1},
        "dimensions": 5,
    },
    {"messages": [HI, TURNS], "add_generation_prompt": True},
    {"input": HI},
    {"input": [TURNS, HI]},
]
RERANKED: list[Body] = [
    {**SCORING, "query": "hi", "documents": "one", "instruction": "Find it."},
    {"query": "hi", "documents": "one", "chat_template_kwargs": {"a": 1}},
    {"query": "hi", "documents": ["one", {"text": "two"}, *("x" * number for number in range(70))]},
]
SCORED: list[Body] = [
    {**SCORING, "text_1": "hi", "text_2": "one", "chat_template_kwargs": {"a": 1}},
    {"queries": ["hi"], "documents": ["one", {"text": "two"}], "instruction": "Find it."},
    {"queries": ["hi", "ho"], "items": ["one", "two"]},
    {"data_1": [f"a{number}" for number in range(70)], "data_2": ["b"] * 70},
]
BLOCKS = [
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "zero", "content": "5"},
            {
                "type": "tool_result",
                "tool_use_id": "one",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image", "source": {"type": "url", "url": "https://a.example/b"}},
                    {"type": "tool_reference", "tool_name": "weather"},
                    {"type": "text", "text": "b"},
                ],
            },
            {"type": "text", "text": ""},
            {"type": "text", "text": "what"},
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="},
            },
            {
                "type": "document",
                "title": "Weather",
                "context": "today",
                "source": {"type": "text", "media_type": "text/plain", "data": "It rains."},
            },
            {
                "type": "document",
                "source": {"type": "content", "content": [{"type": "text", "text": "x"}]},
            },
            {
                "type": "search_result",
                "source": "here",
                "title": "Found",
                "content": [{"type": "text", "text": "y"}],
            },
        ],
    },
    {"role": "system", "content": " and kind"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "so"},
            {"type": "tool_use", "id": "zero", "name": "weather", "input": {"a": 1}},
            {"type": "text", "text": "then"},
            {"type": "tool_use", "id": "one", "name": "weather", "input": {}},
        ],
    },
    {"role": "user", "content": "so?"},
]
ANTHROPIC_TOOLS = [
    {"type": "custom", "name": "other", "input_schema": {}},
    {"name": "weather", "description": "Tells it.", "input_schema": SCHEMA, "strict": True},
]
COUNTED: list[Body] = [
    {
        "system": [{"type": "text", "text": "be brief"}],
        "messages": BLOCKS,
        "tools": ANTHROPIC_TOOLS,
        "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        "chat_template_kwargs": {"a": 1},
    },
    {
        "system": "be brief",
        "messages": [*HI, {"role": "assistant", "content": "so"}],
        "thinking": {"type": "disabled"},
        "output_config": {"effort": "low"},
        "output_format": {"type": "json_schema", "schema": SCHEMA},
        "tools": ANTHROPIC_TOOLS,
        "tool_choice": {"type": "any"},
    },
]
MESSAGES: list[Body] = [
    {
        **body,
        "max_tokens": 64,
        "stop_sequences": ["END", "FIN"],
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "metadata": {"user_id": "me"},
        "cache_salt": "salt",
        "vllm_xargs": {"a": 1},
    }
    for body in COUNTED
]


def _several(request: Any) -> Jobs:
    jobs: Jobs = request.submissions()
    return jobs


def _of_task(request: Any) -> Jobs:
    jobs: Jobs = request.submissions(request.model)
    return jobs


def _one_of_task(request: Any) -> Jobs:
    return [request.submission(request.model)]


SURFACES = {
    "chat": Surface("/v1/chat/completions", ChatRequest, _several, CHATS),
    "completions": Surface("/v1/completions", CompletionRequest, _several, COMPLETIONS),
    "responses": Surface(
        "/v1/responses",
        ResponseRequest,
        lambda request: [request.submission([], request.items)],
        RESPONSES,
    ),
    "input_tokens": Surface(
        "/v1/responses/input_tokens",
        InputTokensRequest,
        lambda request: [request.submission(request.model, [], request.items)],
        [
            {**RESPONDED, **PROMPTING},
            {"input": "hi", "text": TEXT_FORM, "tools": RESPONSE_TOOLS, "tool_choice": CHOSEN},
            {"input": UNFINISHED, "text": {"format": {"type": "text"}}},
        ],
    ),
    "messages": Surface(
        "/v1/messages", MessagesRequest, lambda request: [request.submission()], MESSAGES
    ),
    "count_tokens": Surface(
        "/v1/messages/count_tokens", CountRequest, lambda request: [request.submission()], COUNTED
    ),
    "embeddings": Surface("/v1/embeddings", EmbeddingRequest, _of_task, EMBEDDED),
    "rerank": Surface("/v1/rerank", RerankRequest, _of_task, RERANKED),
    "score": Surface("/v1/score", ScoreRequest, _of_task, SCORED),
    "tokenize": Surface("/tokenize", TokenizeRequest, _one_of_task, TOKENIZED),
    "detokenize": Surface(
        "/detokenize", DetokenizeRequest, _one_of_task, [{**PROMPTING, "tokens": [5, 6]}]
    ),
}
CASES = [
    (name, number) for name, surface in SURFACES.items() for number in range(len(surface.bodies))
]


def body_of(surface: Surface, number: int) -> Body:
    """Returns one of the bodies of a surface."""
    body: Body = json.loads(json.dumps({"model": "m", **surface.bodies[number]}))
    return body


async def asked(surface: Surface, body: Body) -> Asked:
    """Returns a request."""
    return await read(surface.schema, json.dumps(body).encode())


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the paths of what is no object and no list in a JSON value."""
    if isinstance(value, dict | list):
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for step, held in members:
            yield from leaves(held, (*path, step))
    else:
        yield path


def held_at(value: Any, path: Sequence[str | int]) -> Any:
    """Returns what is at a path of a JSON value. Raises LookupError."""
    for step in path:
        value = value[step]
    return value
