"""LiteLLM: the library, with each of the prefixes that people use."""

from __future__ import annotations

import litellm
from cases import BASE_URL, KEY, MODEL, QUESTION, case

ASKED = [{"role": "user", "content": QUESTION}]
litellm.suppress_debug_info = True

for prefix in ("openai", "hosted_vllm"):

    @case(f"{prefix}/: completion")
    def _() -> str:
        answer = litellm.completion(
            model=f"{prefix}/{MODEL}",
            messages=ASKED,
            api_base=BASE_URL,
            api_key=KEY,
            temperature=0,
            max_tokens=40,
            num_retries=0,
        )
        return answer.choices[0].message.content

    @case(f"{prefix}/: streamed")
    def _() -> str:
        chunks = litellm.completion(
            model=f"{prefix}/{MODEL}",
            messages=ASKED,
            api_base=BASE_URL,
            api_key=KEY,
            temperature=0,
            max_tokens=40,
            stream=True,
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    @case(f"{prefix}/: Anthropic's messages, translated")
    async def _() -> str:
        answer = await litellm.anthropic.messages.acreate(
            model=f"{prefix}/{MODEL}",
            messages=ASKED,
            api_base=BASE_URL,
            api_key=KEY,
            temperature=0,
            max_tokens=40,
        )
        return answer["content"][0]["text"]


@case("responses")
def _() -> str:
    answer = litellm.responses(
        model=f"openai/{MODEL}", input=QUESTION, api_base=BASE_URL, api_key=KEY, temperature=0
    )
    return answer.output[-1].content[0].text
