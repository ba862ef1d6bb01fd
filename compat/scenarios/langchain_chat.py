"""LangChain: ChatOpenAI as people use it."""

from __future__ import annotations

from cases import BASE_URL, KEY, MODEL, QUESTION, case
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.errors import GraphRecursionError
from pydantic import BaseModel


def chat(**settings: object) -> ChatOpenAI:
    """Returns a model."""
    made = {"temperature": 0, "max_tokens": 60, "max_retries": 0, "timeout": 120, **settings}
    return ChatOpenAI(model=MODEL, base_url=BASE_URL, api_key=KEY, **made)


class City(BaseModel):
    """A form."""

    city: str


@tool
def weather(city: str) -> str:
    """Says what the weather is."""
    return f"Sunny in {city}."


@case("invoke")
def _() -> str:
    return chat().invoke(QUESTION).content


@case("stream")
def _() -> str:
    return "".join(chunk.content for chunk in chat().stream(QUESTION))


@case("batch")
def _() -> list[str]:
    return [one.content for one in chat(max_tokens=8).batch([QUESTION] * 3)]


@case("bound tool that must be called")
def _() -> str:
    answer = chat().bind_tools([weather], tool_choice="weather").invoke(QUESTION)
    return answer.tool_calls[0]["name"]


for method in ("json_schema", "function_calling", "json_mode"):

    @case(f"structured output by {method}")
    def _() -> str:
        asked = QUESTION + " Answer as JSON with the key city."
        return type(chat().with_structured_output(City, method=method).invoke(asked)).__name__


@case("responses API")
def _() -> str:
    answer = chat(use_responses_api=True).invoke(QUESTION)
    return "".join(part["text"] for part in answer.content)


@case("agent with ProviderStrategy and a tool")
def _() -> str:
    agent = create_agent(chat(), tools=[weather], response_format=ProviderStrategy(City))
    asked = {"messages": [{"role": "user", "content": QUESTION}]}
    try:
        answer = agent.invoke(asked, {"recursion_limit": 4})
    except GraphRecursionError:
        # So small a model may call the tool again and again.
        return "calls"
    return type(answer["structured_response"]).__name__
