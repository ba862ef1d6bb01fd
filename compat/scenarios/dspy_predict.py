"""DSPy: a signature."""

from __future__ import annotations

import dspy
from cases import BASE_URL, KEY, MODEL, QUESTION, case

lm = dspy.LM(
    f"openai/{MODEL}",
    api_base=BASE_URL,
    api_key=KEY,
    temperature=0,
    max_tokens=60,
    cache=False,
    num_retries=0,
)


@case("a call")
def _() -> str:
    return lm(QUESTION)[0] if isinstance(lm(QUESTION)[0], str) else lm(QUESTION)[0]["text"]


@case("a signature")
def _() -> str:
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        return type(dspy.Predict("question -> answer")(question=QUESTION)).__name__
