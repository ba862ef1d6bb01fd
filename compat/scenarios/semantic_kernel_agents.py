"""Semantic Kernel: chat completion, and the Responses agent with its defaults."""

from __future__ import annotations

from cases import BASE_URL, KEY, MODEL, QUESTION, case
from openai import AsyncOpenAI
from semantic_kernel.agents import ChatCompletionAgent, OpenAIResponsesAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion


def client() -> AsyncOpenAI:
    """Returns a client for one case."""
    return AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=120)


@case("chat agent")
async def _() -> str:
    service = OpenAIChatCompletion(ai_model_id=MODEL, async_client=client())
    agent = ChatCompletionAgent(service=service, name="a", instructions="Be brief.")
    return type((await agent.get_response(messages=QUESTION)).message).__name__


@case("responses agent")
async def _() -> str:
    agent = OpenAIResponsesAgent(ai_model_id=MODEL, client=client(), name="a")
    return type((await agent.get_response(messages=QUESTION)).message).__name__
