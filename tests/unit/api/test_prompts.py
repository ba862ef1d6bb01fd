from __future__ import annotations

from typing import Any

import pytest

from aitbc.v1 import jobs_pb2
from aitbc_server.api.prompts import check_prompt
from aitbc_server.domain.errors import InvalidArgument

EMBED = jobs_pb2.JOB_TASK_EMBED
SCORE = jobs_pb2.JOB_TASK_SCORE
TOKENIZE = jobs_pb2.JOB_TASK_TOKENIZE
DETOKENIZE = jobs_pb2.JOB_TASK_DETOKENIZE
TEXT = {"text": "hello"}
TOKENS = {"token_ids": [1]}
PAIR = {"text": "a", "text_pair": "b"}
TOOL = {"name": "f"}
TURN = {"role": "user", "content": "hello"}
IMAGE = {"type": "image_url", "url": "https://example.org/cat.png", "detail": "low"}
AUDIO = {"type": "input_audio", "data": "UklGRg==", "format": "wav"}


def submit(**fields: Any) -> jobs_pb2.SubmitJobRequest:
    return jobs_pb2.SubmitJobRequest(model="m", **fields)


def task(task: int, *inputs: dict[str, Any], **fields: Any) -> jobs_pb2.SubmitJobRequest:
    return submit(task=task, inputs=inputs, **fields)


def options(**fields: Any) -> jobs_pb2.SubmitJobRequest:
    return submit(messages=[TURN], prompt_options=fields)


def part(**fields: Any) -> jobs_pb2.SubmitJobRequest:
    return submit(messages=[TURN, {"role": "user", "parts": [{"type": "text"}, fields]}])


@pytest.mark.parametrize(
    "request_",
    [
        submit(prompt="hello"),
        submit(task=jobs_pb2.JOB_TASK_GENERATE, prompt_token_ids=[1, 2]),
        submit(prompt_token_ids=[1], raw_prompt=True),
        task(EMBED, TEXT, TOKENS, {}, dimensions=8),
        task(SCORE, PAIR),
        task(TOKENIZE, TEXT, {}),
        task(TOKENIZE, messages=[TURN], tools=[TOOL]),
        task(DETOKENIZE, TOKENS, {}),
        task(EMBED, TEXT, params={"return_token_ids": True}),
        task(EMBED, messages=[TURN], prompt_options={"chat_template_kwargs": "{}"}),
        task(EMBED, TEXT, use_activation=False),
        task(
            SCORE,
            PAIR,
            prompt_options={"chat_template_kwargs": "{}", "max_tokens_per_document": 3},
        ),
        options(chat_template_kwargs='{"enable_thinking": false}', documents='[{"text": "a"}]'),
        options(continue_final_message=True, add_generation_prompt=False),
        submit(prompt="a", raw_prompt=True, prompt_options={"truncate_prompt_tokens": 3}),
        part(**IMAGE),
        part(**AUDIO),
        part(type="video_url", url="data:video/mp4;base64,AAAA"),
        part(type="audio_url", url="HTTP://example.org/a.wav"),
    ],
)
def test_what_fits_its_task_is_taken(request_: jobs_pb2.SubmitJobRequest) -> None:
    check_prompt(request_)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (submit(inputs=[TEXT]), "inputs"),
        (submit(prompt="a", dimensions=8), "dimensions"),
        (task(EMBED, prompt="a"), "prompt"),
        (task(SCORE, messages=[TURN]), "messages"),
        (task(EMBED, messages=[TURN], tools=[TOOL]), "tools"),
        (submit(prompt="a", use_activation=True), "use_activation"),
        (options(max_tokens_per_query=1), "prompt_options.max_tokens_per_query"),
        (task(TOKENIZE, prompt_token_ids=[1]), "prompt_token_ids"),
        (task(EMBED, TEXT, response_format={}), "response_format"),
        (task(EMBED, TEXT, raw_prompt=True), "raw_prompt"),
        (task(EMBED, TEXT, tools=[TOOL]), "tools"),
        (task(TOKENIZE, TEXT, tools=[TOOL]), "tools"),
        (task(SCORE, PAIR, dimensions=8), "dimensions"),
        (task(SCORE, PAIR, {}), "inputs[1].text"),
        (task(SCORE, {**PAIR, **TOKENS}), "inputs[0].token_ids"),
        (task(EMBED, TEXT, PAIR), "inputs[1].text_pair"),
        (task(EMBED, {**TEXT, **TOKENS}), "inputs[0].token_ids"),
        (task(TOKENIZE, TEXT, TOKENS), "inputs[1].token_ids"),
        (task(DETOKENIZE, TEXT), "inputs[0].text"),
        (options(chat_template_kwargs="[]"), "prompt_options.chat_template_kwargs"),
        (options(documents="{}"), "prompt_options.documents"),
        (options(documents='[{}, "a"]'), "prompt_options.documents[1]"),
        (
            options(continue_final_message=True, add_generation_prompt=True),
            "prompt_options.add_generation_prompt",
        ),
        (
            submit(prompt="a", raw_prompt=True, prompt_options={"documents": "[]"}),
            "prompt_options.documents",
        ),
        (
            submit(prompt_token_ids=[1], prompt_options={"continue_final_message": True}),
            "prompt_options.continue_final_message",
        ),
        (part(type="image_url"), "messages[1].parts[1].url"),
        (part(type="image_url", url="ftp://example.org/a"), "messages[1].parts[1].url"),
        (part(type="image_url", url="file:///etc/passwd"), "messages[1].parts[1].url"),
        (part(type="text", url="https://example.org/a"), "messages[1].parts[1].url"),
        (part(type="audio_url", url="https://a", detail="low"), "messages[1].parts[1].detail"),
        (part(type="input_audio", format="wav"), "messages[1].parts[1].data"),
        (part(type="input_audio", data="UklG"), "messages[1].parts[1].format"),
        (part(**{**AUDIO, "data": "not base64"}), "messages[1].parts[1].data"),
        (
            submit(messages=[{**TURN, "parts": [{"type": "text", "text": "bye"}, IMAGE]}]),
            "messages[0].content",
        ),
    ],
)
def test_what_does_not_fit_its_task_is_named(
    request_: jobs_pb2.SubmitJobRequest, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_prompt(request_)
    assert caught.value.field == field


def test_a_message_of_parts_has_their_texts_as_content() -> None:
    texts = [{"type": "text", "text": "one "}, IMAGE, {"type": "text", "text": "two"}]
    request = submit(messages=[{"role": "user", "parts": texts}])

    check_prompt(request)

    assert request.messages[0].content == "one two"
    check_prompt(request)
