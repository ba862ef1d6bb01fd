"""openai-python: chat, streams, tools, structured output, completions, responses."""

from __future__ import annotations

import openai
from cases import BASE_URL, KEY, MODEL, QUESTION, case
from pydantic import BaseModel

client = openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=120)
ASKED = [{"role": "user", "content": QUESTION}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}


class City(BaseModel):
    """A form."""

    city: str


@case("chat")
def _() -> str:
    answer = client.chat.completions.create(model=MODEL, messages=ASKED, temperature=0)
    return answer.choices[0].message.content


@case("chat, streamed with usage")
def _() -> str:
    chunks = client.chat.completions.create(
        model=MODEL,
        messages=ASKED,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, usage = "", None
    for chunk in chunks:
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    return f"{text} {usage.completion_tokens}"


@case("chat, two answers with log probabilities")
def _() -> list[int]:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ASKED,
        n=2,
        max_tokens=4,
        logprobs=True,
        top_logprobs=2,
        seed=1,
    )
    return [len(choice.logprobs.content) for choice in answer.choices]


@case("a tool that must be called")
def _() -> str:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ASKED,
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        temperature=0,
        max_tokens=40,
    )
    (call,) = answer.choices[0].message.tool_calls
    return call.function.name


@case("second turn after a call")
def _() -> str:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Tokyo"}'},
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[
            *ASKED,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
        ],
        tools=[TOOL],
        temperature=0,
        max_tokens=8,
    )
    return answer.choices[0].finish_reason


@case("parse() into a class")
def _() -> str:
    answer = client.chat.completions.parse(
        model=MODEL, messages=ASKED, response_format=City, temperature=0, max_tokens=60
    )
    return type(answer.choices[0].message.parsed).__name__


@case("parse() with a tool beside")
def _() -> str:
    answer = client.chat.completions.parse(
        model=MODEL,
        messages=ASKED,
        response_format=City,
        tools=[openai.pydantic_function_tool(City, name="weather")],
        tool_choice="none",
        temperature=0,
        max_tokens=60,
    )
    return answer.choices[0].finish_reason


@case("completion")
def _() -> str:
    answer = client.completions.create(
        model=MODEL, prompt="The capital of Japan is", temperature=0, max_tokens=3
    )
    return answer.choices[0].text


@case("completion that echoes, with log probabilities")
def _() -> list[str]:
    answer = client.completions.create(
        model=MODEL,
        prompt="The capital of Japan is",
        temperature=0,
        max_tokens=1,
        echo=True,
        logprobs=1,
    )
    return answer.choices[0].logprobs.tokens


@case("completion of token ids")
def _() -> str:
    answer = client.completions.create(
        model=MODEL, prompt=[504, 3575, 282, 5021, 314], temperature=0, max_tokens=3
    )
    return answer.choices[0].text


@case("response")
def _() -> str:
    return client.responses.create(model=MODEL, input=QUESTION, temperature=0).output_text


@case("response, streamed")
def _() -> str:
    events = client.responses.create(model=MODEL, input=QUESTION, temperature=0, stream=True)
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


@case("response with what agents send always")
def _() -> str:
    answer = client.responses.create(
        model=MODEL,
        input=QUESTION,
        temperature=0,
        include=[],
        store=False,
        truncation="auto",
        text={"verbosity": "medium"},
        max_tool_calls=5,
        service_tier="auto",
    )
    return answer.output_text


@case("an error names the model")
def _() -> str:
    try:
        client.chat.completions.create(model="none", messages=ASKED)
    except openai.NotFoundError as error:
        return type(error).__name__
    return "answered"


@case("a prompt beyond the context")
def _() -> str:
    try:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "sea " * 20_000}]
        )
    except openai.BadRequestError as error:
        return type(error).__name__
    return "answered"


@case("models")
def _() -> str:
    return next(model.id for model in client.models.list() if model.id == MODEL)
