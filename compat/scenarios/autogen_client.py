"""AutoGen: its client and an assistant."""

from __future__ import annotations

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from cases import BASE_URL, KEY, MODEL, QUESTION, case


def client() -> OpenAIChatCompletionClient:
    """Returns a client for one case."""
    return OpenAIChatCompletionClient(
        model=MODEL,
        base_url=BASE_URL,
        api_key=KEY,
        temperature=0,
        max_tokens=40,
        max_retries=0,
        model_info={
            "vision": False,
            "function_calling": True,
            "json_output": True,
            "structured_output": True,
            "family": "unknown",
        },
    )


@case("create")
async def _() -> str:
    return (await client().create([UserMessage(content=QUESTION, source="user")])).content


@case("assistant")
async def _() -> str:
    agent = AssistantAgent("a", model_client=client())
    return type((await agent.run(task=QUESTION)).messages[-1]).__name__
