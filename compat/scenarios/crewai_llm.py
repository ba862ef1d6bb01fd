"""CrewAI: its LLM."""

from __future__ import annotations

from cases import BASE_URL, KEY, MODEL, QUESTION, case
from crewai import LLM


@case("call")
def _() -> str:
    llm = LLM(model=f"openai/{MODEL}", base_url=BASE_URL, api_key=KEY, temperature=0, max_tokens=40)
    return llm.call(QUESTION)
