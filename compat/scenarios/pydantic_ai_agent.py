"""Pydantic AI: text, native output with a tool beside, and a second turn."""

from __future__ import annotations

from cases import BASE_URL, KEY, MODEL, QUESTION, case
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

SETTINGS = {"temperature": 0, "max_tokens": 60}


class City(BaseModel):
    """A form."""

    city: str


for name, kind in (("chat", OpenAIChatModel), ("responses", OpenAIResponsesModel)):

    def model() -> object:
        client = AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=120)
        return kind(MODEL, provider=OpenAIProvider(openai_client=client))

    @case(f"{name}: text")
    async def _() -> str:
        return (await Agent(model(), model_settings=SETTINGS).run(QUESTION)).output

    @case(f"{name}: streamed")
    async def _() -> str:
        async with Agent(model(), model_settings=SETTINGS).run_stream(QUESTION) as run:
            return await run.get_output()

    @case(f"{name}: a second turn")
    async def _() -> str:
        agent = Agent(model(), model_settings=SETTINGS)
        first = await agent.run(QUESTION)
        again = await agent.run("And of Sweden?", message_history=first.all_messages())
        return type(again.output).__name__

    @case(f"{name}: native output with a tool beside")
    async def _() -> str:
        agent = Agent(model(), model_settings=SETTINGS, output_type=NativeOutput(City))
        agent.tool_plain(lambda: "Sunny.", name="weather")
        return type((await agent.run(QUESTION)).output).__name__
