"""Haystack: OpenAIChatGenerator."""

from __future__ import annotations

import os

from cases import BASE_URL, MODEL, QUESTION, case
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage

os.environ["OPENAI_API_KEY"] = "sk-unused"
SETTINGS = {"temperature": 0, "max_tokens": 40}


@case("chat")
def _() -> str:
    made = OpenAIChatGenerator(model=MODEL, api_base_url=BASE_URL, generation_kwargs=SETTINGS)
    return made.run([ChatMessage.from_user(QUESTION)])["replies"][0].text


@case("streamed")
def _() -> str:
    told: list[str] = []
    made = OpenAIChatGenerator(
        model=MODEL,
        api_base_url=BASE_URL,
        generation_kwargs=SETTINGS,
        streaming_callback=lambda chunk: told.append(chunk.content),
    )
    made.run([ChatMessage.from_user(QUESTION)])
    return "".join(told)
