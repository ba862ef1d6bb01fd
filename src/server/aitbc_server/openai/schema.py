"""What requests have in common: how they are read, and the sampling that all of them ask for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from aitbc.v1 import jobs_pb2
from aitbc_server.api.generation import METADATA_KEY
from aitbc_server.aside import by_size
from aitbc_server.bounded_json import JsonError, read_json
from aitbc_server.openai.errors import UNSUPPORTED, OpenAIError, invalid
from aitbc_server.openai.origins import Places
from aitbc_server.openai.parameters import Parameter, Policy, Section, section
from aitbc_server.openai.ruled import counted, cut, ruled, sized
from aitbc_server.openai.unknown import PassedOver, Unknown

Request = TypeVar("Request", bound=BaseModel)
_Item = TypeVar("_Item")
# A list that nobody changes. The first wrong item is told.
Several = Annotated[tuple[_Item, ...], Field(max_length=10_000, fail_fast=True)]
# Of fields that are a text or a list, only the form that was given is looked at. What a tag adds to
# the path of an error is left out of it.
TEXT, LIST = Tag("(text)"), Tag("(list)")
BY_FORM = Discriminator(lambda value: "(text)" if isinstance(value, str) else "(list)")


def by_type(value: Any) -> str | None:
    """Returns the tag of an object that says what it is, for a Discriminator."""
    kind = value.get("type") if isinstance(value, dict) else None
    return f"({kind})" if isinstance(kind, str) else None


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
MaxTokens = Annotated[int, ruled(_PARAMS, "max_tokens")]
_Temperature = Annotated[float, ruled(_PARAMS, "temperature")]
_TopP = Annotated[float, ruled(_PARAMS, "top_p")]
_TopK = Annotated[int, ruled(_PARAMS, "top_k")]
_MinP = Annotated[float, ruled(_PARAMS, "min_p")]
_RepetitionPenalty = Annotated[float, ruled(_PARAMS, "repetition_penalty")]
_PresencePenalty = Annotated[float, ruled(_PARAMS, "presence_penalty")]
_FrequencyPenalty = Annotated[float, ruled(_PARAMS, "frequency_penalty")]
_SUBMIT = jobs_pb2.SubmitJobRequest.DESCRIPTOR
_Priority = Annotated[int, ruled(_SUBMIT, "priority")]
# A name or an id, of which few have a bound where they are used.
Name = Annotated[str, StringConstraints(max_length=256)]
Prose = Annotated[str, sized(_SUBMIT, "prompt")]
_Key = Annotated[str, StringConstraints(min_length=1, max_length=METADATA_KEY)]
_Value = Annotated[str, sized(_SUBMIT, "metadata")]
# What is noted and refuses nothing: of a long one, the beginning.
Noted = Annotated[str, cut(_SUBMIT, "user")]
_Stop = Annotated[str, sized(_PARAMS, "stop")]


def few(most: int) -> BeforeValidator:
    """Bounds the members of a map before any is looked at: each might be an error of its own."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            raise ValueError(f"must have at most {most} members")
        return value

    return BeforeValidator(check)


# Of maps, whose own bound is looked at last.
FEW = few(100)


class Schema(BaseModel):
    """An object of a request: null reads as absent, and texts of numbers as numbers, as in vLLM.

    What it does not have is dealt with by the table of parameters: see `parameters.toml`.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    _names: ClassVar[set[str]] = set()
    _section: ClassVar[Section] = {}

    def __init_subclass__(cls, *, table: str | None = None) -> None:
        """`table`: section of the table that the object has."""
        if table is not None:
            cls._section = section(table)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls._names = {field.alias or name for name, field in cls.model_fields.items()}

    @model_validator(mode="before")
    @classmethod
    def _worth_reading(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict):
            return data
        # In most requests nothing is unknown or null, which is found out without a loop.
        if not data.keys() <= cls._names:
            cls._pass_over(data, info.context)
        if None in data.values():
            return {key: value for key, value in data.items() if value is not None}
        return data

    @classmethod
    def _pass_over(cls, data: dict[str, Any], unknown: Unknown | None) -> None:
        for name, value in data.items():
            if name in cls._names:
                continue
            parameter = cls._section.get(name)
            if value is None or (parameter is not None and value in parameter.no_ops):
                continue
            if parameter is None or parameter.policy is Policy.IGNORED:
                if unknown is not None:
                    unknown.add(data, name, parameter.note if parameter else "")
            elif parameter.policy is Policy.REFUSED:
                raise PydanticCustomError(
                    UNSUPPORTED, "{why}", {"name": name, "why": parameter.note}
                )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        made = handler(core)
        schema = handler.resolve_ref_schema(made)
        required = schema.get("required", ())
        for name, field in schema["properties"].items():
            if name not in required and _NULL not in field.get("anyOf", ()):
                field = _nullable(field)
            if name in cls._section and "$ref" not in field:
                note = cls._section[name].note
                field = {"description": f"{note[0].upper()}{note[1:]}.", **field}
            schema["properties"][name] = field
        for name in cls._section.keys() - cls._names:
            schema["properties"][name] = _passed_over(cls._section[name])
        return made


class Asked(Schema):
    """A request that becomes jobs."""

    @property
    def times(self) -> int:
        """How often at most its jobs repeat what it has."""
        return 1

    def places(self, job: int) -> Places:
        """Returns where what one of its jobs has came from, where that is elsewhere in the request.

        `job`: its place among them. That there are many is at `jobs`.
        """
        return {}


# Parameters of every request that a job has under the same name.
_SAMPLED = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
    }
)


class Shared(Asked):
    """Parameters of every request that generates."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    stream: bool = False
    temperature: _Temperature | None = None
    top_p: _TopP | None = None
    metadata: Annotated[dict[_Key, _Value], counted(_SUBMIT, "metadata"), FEW] = {}
    user: Noted | None = None
    safety_identifier: Noted | None = None
    prompt_cache_key: Noted | None = None
    stop: Annotated[
        Annotated[_Stop, TEXT] | Annotated[Several[_Stop], counted(_PARAMS, "stop"), LIST],
        BY_FORM,
    ] = ()
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    presence_penalty: _PresencePenalty | None = None
    frequency_penalty: _FrequencyPenalty | None = None
    # Not OpenAI's, but of the servers that speak as it does.
    top_k: _TopK | None = None
    min_p: _MinP | None = None
    repetition_penalty: _RepetitionPenalty | None = None
    priority: _Priority = 0

    def job(self, **fields: Any) -> jobs_pb2.SubmitJobRequest:
        """Returns the job that the parameters ask for, with more fields of its params."""
        # Requests have few of them: what was not given is not looked at.
        params = {name: getattr(self, name) for name in _SAMPLED & self.model_fields_set}
        if self.stop:
            stop = [self.stop] if isinstance(self.stop, str) else self.stop
            params["stop"] = [one for one in stop if one]
        params.update(fields)
        return jobs_pb2.SubmitJobRequest(
            model=self.model,
            params=jobs_pb2.GenerationParams(**params),
            priority=self.priority,
            metadata=self.metadata,
            conversation_id=conversation_id(self.prompt_cache_key),
            user=self.user or self.safety_identifier or "",
        )

    def places(self, job: int) -> Places:
        """Returns where what a job has came from."""
        places = {**super().places(job)}
        if not isinstance(self.stop, str):
            given = [place for place, one in enumerate(self.stop) if one]
            for place, origin in enumerate(given):
                places["params", "stop", place] = [("stop", origin)]
        return places


# What the object of a response may be told with, of OpenAI and of vLLM.
Includable = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]


class StreamOptions(Schema, table="stream_options"):
    """How a stream is told."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Sampling(Shared):
    """OpenAI's parameters that chat and completions share."""

    n: Annotated[int, Field(ge=1, le=128)] = 1
    stream_options: StreamOptions | None = None

    @property
    def times(self) -> int:
        """How often at most its jobs repeat what it has."""
        return self.n

    def places(self, job: int) -> Places:
        """Returns where what a job has came from."""
        return {**super().places(job), ("jobs",): [("n",)]}

    def jobs(self, **fields: Any) -> Iterator[jobs_pb2.SubmitJobRequest]:
        """Yields a job for each of the `n` answers asked for."""
        for index in range(self.n):
            # Each answer has a seed of its own, as n answers of one request have in vLLM.
            if self.seed is not None:
                fields["seed"] = _after(self.seed, index)
            yield self.job(**fields)

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def has_usage_throughout(self) -> bool:
        """Whether each chunk of a stream has the usage up to it."""
        options = self.stream_options
        return self.includes_usage and options is not None and options.continuous_usage_stats


async def read(
    schema: type[Request], body: bytes, note: Callable[[PassedOver], None] | None = None
) -> Request:
    """Reads a request. Raises OpenAIError, and what `note` raises.

    `note` is told what the request has that is passed over, if it has any.
    """
    request, passed_over = await by_size(len(body), _read, schema, body)
    if passed_over is not None and note is not None:
        note(passed_over)
    return request


def _read(schema: type[Request], body: bytes) -> tuple[Request, PassedOver | None]:
    try:
        data = read_json(body)
    except JsonError as error:
        raise OpenAIError(400, f"the body {error}", code="invalid_json") from None
    if not isinstance(data, dict):
        raise OpenAIError(400, "the body must be a JSON object", code="invalid_json")
    return validated(schema, data)


def validated(schema: type[Request], data: dict[str, Any]) -> tuple[Request, PassedOver | None]:
    """Returns the request that an object is, and what of it is passed over. Raises OpenAIError."""
    unknown = Unknown()
    try:
        request = schema.model_validate(data, context=unknown)
    except ValidationError as error:
        raise invalid(error) from None
    return request, unknown.located(data)


def _after(seed: int, index: int) -> int:
    """Returns a seed that is so much later; after the greatest one comes the least."""
    return (seed + index + _INT64) % 2**64 - _INT64


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


def _passed_over(parameter: Parameter) -> dict[str, Any]:
    if parameter.policy is not Policy.REFUSED:
        return {"description": f"Has no effect: {parameter.note}."}
    said = f"Not supported: {parameter.note}."
    return {"description": said, "enum": [None, *parameter.no_ops]}
