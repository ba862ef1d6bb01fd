"""LlamaIndex: OpenAILike."""

from __future__ import annotations

from cases import BASE_URL, KEY, MODEL, QUESTION, case
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

llm = OpenAILike(
    model=MODEL,
    api_base=BASE_URL,
    api_key=KEY,
    is_chat_model=True,
    temperature=0,
    max_tokens=40,
    max_retries=0,
)


@case("chat")
def _() -> str:
    return llm.chat([ChatMessage(role="user", content=QUESTION)]).message.content


@case("streamed")
def _() -> str:
    chunks = llm.stream_chat([ChatMessage(role="user", content=QUESTION)])
    return "".join(chunk.delta or "" for chunk in chunks)


@case("complete")
def _() -> str:
    return llm.complete(QUESTION).text
