"""smolagents: OpenAIServerModel."""

from __future__ import annotations

from cases import BASE_URL, KEY, MODEL, QUESTION, case
from smolagents import OpenAIServerModel

model = OpenAIServerModel(model_id=MODEL, api_base=BASE_URL, api_key=KEY, temperature=0)
ASKED = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]


@case("generate")
def _() -> str:
    return model.generate(ASKED).content


@case("streamed")
def _() -> str:
    return "".join(delta.content or "" for delta in model.generate_stream(ASKED))
