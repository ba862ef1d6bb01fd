"""Instructor: the modes that make a class of an answer."""

from __future__ import annotations

import instructor
import openai
from cases import BASE_URL, KEY, MODEL, QUESTION, case
from pydantic import BaseModel, Field


class City(BaseModel):
    """A city."""

    city: str = Field(max_length=20)


for mode in (
    instructor.Mode.TOOLS,
    instructor.Mode.JSON_SCHEMA,
    instructor.Mode.JSON,
    instructor.Mode.RESPONSES_TOOLS,
):

    @case(f"mode {mode.value}")
    def _() -> str:
        made = instructor.from_openai(
            openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=120), mode=mode
        )
        word = "max_output_tokens" if mode is instructor.Mode.RESPONSES_TOOLS else "max_tokens"
        answer = made.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": QUESTION}],
            response_model=City,
            temperature=0,
            max_retries=0,
            **{word: 60},
        )
        return type(answer).__name__
