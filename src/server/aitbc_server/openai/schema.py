"""What requests have in common: how they are read, and the sampling that all of them ask for."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema

from aitbc.v1 import jobs_pb2
from aitbc_server.api.generation import METADATA_ITEMS, METADATA_KEY, METADATA_VALUE
from aitbc_server.openai.errors import OpenAIError, invalid, unsupported
from aitbc_server.openai.ruled import ruled

Request = TypeVar("Request", bound=BaseModel)
_Item = TypeVar("_Item")
# A list that nobody changes. Not strict: JSON has no tuples.
Several = Annotated[tuple[_Item, ...], Field(strict=False)]

# Conversations are named by printable ASCII.
_NAME = re.compile(r"[!-~]{1,128}")
_INT64 = 2**63
_NULL: dict[str, Any] = {"type": "null"}


def _whole(value: Any) -> Any:
    # To JSON, 16.0 is the same number as 16.
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Goes after bounds, which are then those of an integer.
WHOLE = BeforeValidator(_whole)
_PARAMS = jobs_pb2.GenerationParams.DESCRIPTOR
MaxTokens = Annotated[int, ruled(_PARAMS, "max_tokens"), WHOLE]
_Temperature = Annotated[float, ruled(_PARAMS, "temperature")]
_TopP = Annotated[float, ruled(_PARAMS, "top_p")]
_TopK = Annotated[int, ruled(_PARAMS, "top_k"), WHOLE]
_MinP = Annotated[float, ruled(_PARAMS, "min_p")]
_RepetitionPenalty = Annotated[float, ruled(_PARAMS, "repetition_penalty")]
_PresencePenalty = Annotated[float, ruled(_PARAMS, "presence_penalty")]
_FrequencyPenalty = Annotated[float, ruled(_PARAMS, "frequency_penalty")]
_Priority = Annotated[int, ruled(jobs_pb2.SubmitJobRequest.DESCRIPTOR, "priority"), WHOLE]
_Key = Annotated[str, StringConstraints(min_length=1, max_length=METADATA_KEY)]
_Value = Annotated[str, StringConstraints(max_length=METADATA_VALUE)]


class Schema(BaseModel):
    """An object of a request: null reads as absent, and what is not known is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        made = handler(core)
        schema = handler.resolve_ref_schema(made)
        required = schema.get("required", ())
        for name, field in schema["properties"].items():
            if name not in required and _NULL not in field.get("anyOf", ()):
                schema["properties"][name] = _nullable(field)
        return made


class Shared(Schema):
    """Parameters of every request that generates."""

    model: Annotated[str, StringConstraints(min_length=1)]
    stream: bool = False
    temperature: _Temperature | None = None
    top_p: _TopP | None = None
    metadata: Annotated[dict[_Key, _Value], Field(max_length=METADATA_ITEMS)] = {}
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None
    # Not OpenAI's, but of the servers that speak as it does.
    top_k: _TopK | None = None
    min_p: _MinP | None = None
    repetition_penalty: _RepetitionPenalty | None = None
    priority: _Priority = 0

    def job(self, **fields: Any) -> jobs_pb2.SubmitJobRequest:
        """Returns the job that the parameters ask for, with more fields of its params."""
        params = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            **fields,
        }
        metadata = dict(self.metadata)
        if self.user or self.safety_identifier:
            metadata.setdefault("user", self.user or self.safety_identifier or "")
        return jobs_pb2.SubmitJobRequest(
            model=self.model,
            params=jobs_pb2.GenerationParams(**params),
            priority=self.priority,
            metadata=metadata,
            conversation_id=conversation_id(self.prompt_cache_key),
        )


class StreamOptions(Schema):
    """How a stream is told."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Sampling(Shared):
    """Parameters that chat and completions share."""

    n: Annotated[int, Field(ge=1, le=16), WHOLE] = 1
    stop: str | list[str] = []
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64), WHOLE] | None = None
    presence_penalty: _PresencePenalty | None = None
    frequency_penalty: _FrequencyPenalty | None = None
    # Only an empty one is taken.
    logit_bias: Annotated[dict[str, float], Field(json_schema_extra={"maxProperties": 0})] = {}
    stream_options: StreamOptions | None = None

    def jobs(self, **fields: Any) -> list[jobs_pb2.SubmitJobRequest]:
        """Returns a job for each of the `n` answers asked for."""
        if self.logit_bias:
            raise unsupported("logit_bias", "the engines do not take it")
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        sampling = {
            "stop": [one for one in stop if one],
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            **fields,
        }
        # Each answer has a seed of its own, as n answers of one request have in vLLM.
        seeds = (None if self.seed is None else self.seed + index for index in range(self.n))
        return [self.job(**sampling, seed=seed) for seed in seeds]

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


def read(schema: type[Request], body: bytes) -> Request:
    """Reads a request. Raises OpenAIError."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise OpenAIError(
            400, f"the body is not valid JSON: {error}", code="invalid_json"
        ) from None
    if not isinstance(data, dict):
        raise OpenAIError(400, "the body must be a JSON object", code="invalid_json")
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise invalid(error) from None


def conversation_id(name: str | None) -> str:
    """Returns a name of a conversation that a job takes."""
    if not name or _NAME.fullmatch(name):
        return name or ""
    return hashlib.sha256(name.encode()).hexdigest()


def json_text(value: Any) -> str:
    """Returns a JSON value as a text."""
    return orjson.dumps(value).decode()


def _nullable(field: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in field:
        return {**field, "anyOf": [*field["anyOf"], _NULL]}
    about = {"default": field.pop("default")} if "default" in field else {}
    return {"anyOf": [field, _NULL], **about}
