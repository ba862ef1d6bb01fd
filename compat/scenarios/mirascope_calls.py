"""Mirascope: a call, and a form."""

from __future__ import annotations

import os

from cases import BASE_URL, KEY, MODEL, QUESTION, case

os.environ |= {"OPENAI_BASE_URL": BASE_URL, "OPENAI_API_KEY": KEY}

from mirascope import llm
from pydantic import BaseModel


class City(BaseModel):
    """A form."""

    city: str


@case("call")
def _() -> str:
    @llm.call(f"openai/{MODEL}:completions", temperature=0, max_tokens=40)
    def ask() -> str:
        return QUESTION

    return ask().text()


@case("form")
def _() -> str:
    @llm.call(f"openai/{MODEL}:completions", temperature=0, max_tokens=60, format=City)
    def ask() -> str:
        return QUESTION

    return type(ask().parse()).__name__
