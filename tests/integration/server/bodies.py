"""Bodies of requests to OpenAI's and Anthropic's endpoints, right and wrong ones, by operation."""

from __future__ import annotations

from typing import Any

Body = dict[str, Any]

_HI = {"role": "user", "content": "hi"}
_PNG = "data:image/png;base64,aGk="
_TEXT = {"type": "text", "text": "a"}
_NAMED = {"type": "function", "function": {"name": "f"}}
_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
_CHAT: Body = {"model": "m", "messages": [_HI]}
_ASKED: Body = {"model": "m", "input": "hi"}
_ANTHROPIC: Body = {"model": "m", "max_tokens": 9, "messages": [_HI]}
_FUNCTION = {"type": "function", "function": {"name": "f", "parameters": _SCHEMA, "strict": True}}
_CUSTOM = {"type": "custom", "custom": {"name": "c", "format": {"type": "text"}}}
_CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_TOOL = {"type": "function", "name": "f", "description": "d", "parameters": _SCHEMA}
_HOSTED = ("web_search", "mcp", "local_shell", "code_interpreter", "image_generation")
_ANTHROPIC_TOOL = {"name": "f", "input_schema": _SCHEMA, "cache_control": {"type": "ephemeral"}}

RIGHT: dict[str, list[Body]] = {
    "createChatCompletion": [
        _CHAT,
        {**_CHAT, "temperature": 0, "top_p": 1, "n": 2, "stop": "a", "seed": -1, "logprobs": True},
        {**_CHAT, "stop": ["a", "b"], "max_tokens": 5, "logit_bias": {"5": 1}, "user": None},
        {**_CHAT, "stream": True, "stream_options": {"include_usage": True}, "bogus": {"a": 1}},
        {
            **_CHAT,
            "messages": [{"role": "system", "content": [{"type": "text", "text": "a"}]}, _HI],
        },
        {
            **_CHAT,
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": _PNG}}]},
                {"role": "assistant", "content": None, "tool_calls": [_CALL]},
                {"role": "tool", "tool_call_id": "1", "content": "42"},
                {"role": "assistant", "content": "so", "reasoning_content": "hm", "refusal": None},
            ],
        },
        {**_CHAT, "tools": [_FUNCTION, _CUSTOM], "tool_choice": "required"},
        {**_CHAT, "tools": [_FUNCTION], "tool_choice": _NAMED},
        {**_CHAT, "tools": [{**_FUNCTION, "type": None}], "tool_choice": {**_NAMED, "type": None}},
        {
            **_CHAT,
            "messages": [{"role": "assistant", "tool_calls": [{**_CALL, "type": None}]}, _HI],
        },
        {**_CHAT, "response_format": {"type": "structural_tag", "format": {"type": "any_text"}}},
        {**_CHAT, "tools": [_CUSTOM], "tool_choice": {"type": "custom", "custom": {"name": "c"}}},
        {
            **_CHAT,
            "tools": [_FUNCTION],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [_FUNCTION]},
            },
        },
        *(
            {**_CHAT, "response_format": form}
            for form in (
                {"type": "text"},
                {"type": "json_object"},
                {"type": "json_schema", "json_schema": {"name": "n", "schema": _SCHEMA}},
            )
        ),
        *(
            {**_CHAT, "structured_outputs": form}
            for form in ({"json": _SCHEMA}, {"json": "{}"}, {"regex": "a"}, {"choice": ["a"]})
        ),
    ],
    "createCompletion": [
        *({"model": "m", "prompt": prompt} for prompt in ("hi", ["a", "b"], [1, 2], [[1], [2]])),
        {"model": "m", "prompt": "hi", "echo": True, "max_tokens": 0, "logprobs": 5, "suffix": ""},
    ],
    "createResponse": [
        _ASKED,
        {**_ASKED, "instructions": "be brief", "stream": True, "include": [], "store": False},
        {**_ASKED, "reasoning": {"effort": "low"}, "truncation": "auto", "background": True},
        {**_ASKED, "text": {"format": {"type": "json_schema", "name": "n", "schema": _SCHEMA}}},
        {**_ASKED, "tools": [_TOOL]},
        {**_ASKED, "tools": [{"type": "custom", "name": "c"}], "tool_choice": "auto"},
        {**_ASKED, "tools": [{"type": "custom", "name": "c", "format": {"type": "text"}}]},
        {**_ASKED, "tools": [{"type": "namespace", "name": "n", "tools": [_TOOL]}]},
        {**_ASKED, "tools": [_TOOL, *({"type": kind, "name": "n"} for kind in _HOSTED)]},
        {**_ASKED, "tools": [_TOOL], "tool_choice": {"type": "function", "name": "f"}},
        {
            **_ASKED,
            "tools": [_TOOL],
            "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [_TOOL]},
        },
        *(
            {"model": "m", "input": [_HI, item]}
            for item in (
                {"type": "message", "role": "developer", "content": "a", "id": "msg_1"},
                {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
                {"role": "user", "content": [{"type": "input_image", "image_url": _PNG}]},
                {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "1", "output": "42"},
                {
                    "type": "function_call_output",
                    "call_id": "1",
                    "output": [{"type": "input_text", "text": "42"}],
                },
                {"type": "custom_tool_call", "call_id": "1", "name": "c", "input": "a"},
                {"type": "custom_tool_call_output", "call_id": "1", "output": "b"},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "item_reference", "id": "msg_1"},
                {"id": "msg_1"},
            )
        ),
    ],
    "countInputTokens": [_ASKED, {**_ASKED, "tools": [_TOOL, {"type": "web_search"}]}],
    "createEmbedding": [
        *({"model": "m", "input": words} for words in ("a", ["a", "b"], [1, 2], [[1], [2]])),
        {"model": "m", "input": "a", "encoding_format": "base64", "dimensions": 8},
        {"model": "m", "messages": [_HI], "encoding_format": "bytes", "embed_dtype": "float16"},
        {"model": "m", "input": [[_HI], [_HI]], "add_generation_prompt": True},
    ],
    "rerank": [
        {"model": "m", "query": "a", "documents": ["b", {"text": "c"}], "top_n": 1},
        {"model": "m", "query": "a", "documents": ["b"], "return_documents": True},
    ],
    "score": [
        {"model": "m", "text_1": "a", "text_2": "b"},
        {"model": "m", "text_1": ["a"], "text_2": ["b"]},
        {"model": "m", "queries": "a", "documents": ["b"]},
    ],
    "tokenize": [
        {"model": "m", "prompt": "a"},
        {"model": "m", "messages": [_HI], "tools": [_FUNCTION]},
    ],
    "detokenize": [{"model": "m", "tokens": [1, 2]}],
    "createBatch": [
        {"input_file_id": "file-1", "endpoint": "/v1/responses", "completion_window": "24h"},
        {
            "input_file_id": "file-1",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"a": "b"},
            "output_expires_after": {"anchor": "created_at", "seconds": 3600},
        },
    ],
    "createMessage": [
        _ANTHROPIC,
        {**_ANTHROPIC, "system": "be brief", "stop_sequences": ["a"], "temperature": 0.5},
        {**_ANTHROPIC, "system": [{"type": "text", "text": "a", "cache_control": None}]},
        {**_ANTHROPIC, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        {**_ANTHROPIC, "thinking": {"type": "adaptive", "display": "summarized"}},
        *(
            {**_ANTHROPIC, "tools": [_ANTHROPIC_TOOL], "tool_choice": choice}
            for choice in (
                {"type": "auto", "disable_parallel_tool_use": True},
                {"type": "any"},
                {"type": "none"},
                {"type": "tool", "name": "f"},
            )
        ),
        {**_ANTHROPIC, "output_config": {"format": {"type": "json_schema", "schema": _SCHEMA}}},
        *(
            {**_ANTHROPIC, "messages": [{"role": "user", "content": [block]}]}
            for block in (
                {"type": "text", "text": "a", "citations": None},
                {"type": "image", "source": {"type": "url", "url": "https://a.example/a.png"}},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                },
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "a"},
                },
                {"type": "tool_result", "tool_use_id": "1", "content": "42", "is_error": False},
                {
                    "type": "tool_result",
                    "tool_use_id": "1",
                    "content": [{"type": "text", "text": "42"}],
                },
            )
        ),
        *(
            {**_ANTHROPIC, "messages": [_HI, {"role": "assistant", "content": [block]}, _HI]}
            for block in (
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
            )
        ),
    ],
    "countMessageTokens": [{"model": "m", "messages": [_HI], "tools": [_ANTHROPIC_TOOL]}],
}

WRONG: dict[str, list[Body]] = {
    "createChatCompletion": [
        {"model": "m"},
        {**_CHAT, "n": 0},
        {**_CHAT, "temperature": "warm"},
        {**_CHAT, "messages": [{"role": "user", "content": [{"type": "smell"}]}]},
        {**_CHAT, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {**_CHAT, "tools": [{"type": "function"}]},
        {**_CHAT, "tools": [{"type": "web_search"}]},
        {**_CHAT, "tools": [{"type": "custom", "custom": {}}]},
        {**_CHAT, "tools": [_FUNCTION], "tool_choice": "maybe"},
        {**_CHAT, "tools": [_FUNCTION], "tool_choice": {"type": "function"}},
        {**_CHAT, "tool_choice": "required"},
        {**_CHAT, "response_format": {"type": "json_schema"}},
        {**_CHAT, "response_format": {"type": "xml"}},
        {**_CHAT, "response_format": {"type": "structural_tag"}},
        {**_CHAT, "response_format": {"type": "structural_tag", "format": None}},
        {**_CHAT, "audio": {"voice": "a"}},
    ],
    "createCompletion": [
        {"model": "m"},
        {"model": "m", "prompt": {"a": 1}},
        {"model": "m", "prompt": [["a"]]},
        {"model": "m", "prompt": "hi", "suffix": "ho"},
    ],
    "createResponse": [
        {"model": "m", "input": 5},
        {**_ASKED, "tools": [{"type": "function", "parameters": _SCHEMA}]},
        {**_ASKED, "tools": [{"type": "function", "name": 5}]},
        {**_ASKED, "tools": [{"type": "custom"}]},
        {**_ASKED, "tools": [{"type": "namespace", "name": "n"}]},
        {**_ASKED, "tools": [{"type": "teleport"}]},
        {**_ASKED, "tools": [{"name": "f"}]},
        {**_ASKED, "tools": [_TOOL], "tool_choice": {"type": "function"}},
        {
            **_ASKED,
            "tools": [_TOOL],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "web_search"}],
            },
        },
        {**_ASKED, "text": {"format": {"type": "json_schema"}}},
        {**_ASKED, "conversation": "conv_1"},
        {"model": "m", "input": [{"type": "function_call", "name": "f"}]},
        {"model": "m", "input": [{"type": "message", "role": "user"}]},
        {"model": "m", "input": [{"type": "dream"}]},
        {"model": "m", "input": [{"role": "user", "content": [{"type": "input_image"}]}]},
    ],
    "countInputTokens": [{"model": "m", "input": 5}],
    "createEmbedding": [{"model": "m"}, {"input": {"a": 1}}, {"input": "a", "dimensions": 0}],
    "rerank": [{"query": "a"}, {"query": "a", "documents": [{}]}],
    "score": [{"text_1": 5, "text_2": "b"}],
    "tokenize": [{"prompt": 5}],
    "detokenize": [{"tokens": ["a"]}],
    "createBatch": [
        {"input_file_id": "file-1"},
        {"input_file_id": "f", "endpoint": "/v1/responses", "completion_window": "soon"},
        {
            "input_file_id": "f",
            "endpoint": "/v1/responses",
            "completion_window": "24h",
            "output_expires_after": {"anchor": "created_at", "seconds": 1},
        },
    ],
    "createMessage": [
        {"model": "m", "messages": [_HI]},
        {**_ANTHROPIC, "messages": []},
        {**_ANTHROPIC, "messages": [{"role": "user", "content": [{"type": "smell"}]}]},
        {**_ANTHROPIC, "messages": [{"role": "user", "content": [{"type": "image"}]}]},
        {**_ANTHROPIC, "tools": [{"name": "f"}]},
        {**_ANTHROPIC, "tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {**_ANTHROPIC, "tool_choice": {"type": "any"}},
        {**_ANTHROPIC, "tools": [_ANTHROPIC_TOOL], "tool_choice": {"type": "tool"}},
        {**_ANTHROPIC, "tools": [_ANTHROPIC_TOOL], "tool_choice": {"type": "tool", "name": None}},
        {**_ANTHROPIC, "thinking": {"type": "sometimes"}},
        {**_ANTHROPIC, "mcp_servers": [{"url": "https://a.example"}]},
    ],
    "countMessageTokens": [{"model": "m"}],
}
