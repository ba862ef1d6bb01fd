"""The OpenAI Agents SDK: its default model (Responses) and the chat model."""

from __future__ import annotations

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from agents.models.openai_responses import OpenAIResponsesModel
from cases import BASE_URL, KEY, MODEL, QUESTION, case
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)
SETTINGS = ModelSettings(temperature=0, max_tokens=60)


class City(BaseModel):
    """A form."""

    city: str


@function_tool
def weather(city: str) -> str:
    """Says what the weather is."""
    return f"Sunny in {city}."


def model(kind: type) -> OpenAIResponsesModel | OpenAIChatCompletionsModel:
    """Returns a model with a client of its own: each case has its own loop."""
    client = AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=120)
    return kind(model=MODEL, openai_client=client)


for name, kind in (("responses", OpenAIResponsesModel), ("chat", OpenAIChatCompletionsModel)):

    @case(f"{name}: a run")
    async def _() -> str:
        agent = Agent(name="a", model=model(kind), model_settings=SETTINGS)
        return (await Runner.run(agent, QUESTION)).final_output

    @case(f"{name}: streamed")
    async def _() -> str:
        agent = Agent(name="a", model=model(kind), model_settings=SETTINGS)
        run = Runner.run_streamed(agent, QUESTION)
        async for _event in run.stream_events():
            pass
        return run.final_output

    @case(f"{name}: a second turn")
    async def _() -> str:
        agent = Agent(name="a", model=model(kind), model_settings=SETTINGS)
        first = await Runner.run(agent, QUESTION)
        again = [*first.to_input_list(), {"role": "user", "content": "And of Sweden?"}]
        return type((await Runner.run(agent, again)).final_output).__name__

    @case(f"{name}: a tool that must be called, and the turn after it")
    async def _() -> str:
        settings = ModelSettings(temperature=0, max_tokens=60, tool_choice="required")
        agent = Agent(name="a", model=model(kind), model_settings=settings, tools=[weather])
        run = await Runner.run(agent, "What is the weather in Tokyo?", max_turns=3)
        return ", ".join(sorted({type(item).__name__ for item in run.new_items}))

    @case(f"{name}: a form, with a tool beside")
    async def _() -> str:
        settings = ModelSettings(temperature=0, max_tokens=60, tool_choice="none")
        agent = Agent(
            name="a",
            model=model(kind),
            model_settings=settings,
            tools=[weather],
            output_type=City,
        )
        return type((await Runner.run(agent, QUESTION)).final_output).__name__
