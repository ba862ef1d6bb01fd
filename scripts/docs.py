"""Writes docs/reference from the protos, the programs, the settings and the errors.

`make docs` writes the pages; a test compares them with what this module would write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module

import typer
from pydantic_core import PydanticUndefined
from scripts import formats, openai_docs
from scripts.processes import ROOT
from scripts.protodoc import Api, Field, Message, Method, load
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from aitbc_server.config import Settings
from aitbc_server.domain.job_errors import JOB_ERRORS
from aitbc_server.rest.catalogue import error_rows
from aitbc_server.telemetry.families import FAMILIES

REFERENCE = ROOT / "docs" / "reference"
NOTICE = "<!-- Written by `make docs`. Edit {source} instead. -->"

_JSON_TYPES = {
    "string": "string",
    "bytes": "base64",
    "bool": "boolean",
    "float": "number",
    "double": "number",
    "google.protobuf.Timestamp": "time",
    "google.protobuf.Duration": "duration",
}
# What a success means that has another status than the method's usual one.
_WHEN_UNUSUAL = {200: "when it was there before", 204: "without a body when there is nothing"}
_NOT_SET = (None, PydanticUndefined, ...)


def pages() -> dict[str, str]:
    """Returns the text of every reference page by its file name."""
    writers: dict[str, Callable[[], Iterable[str]]] = {
        "rest.md": _rest_page,
        "grpc.md": _grpc_page,
        "cli.md": _cli_page,
        "configuration.md": _configuration_page,
        "errors.md": _errors_page,
        "metrics.md": _metrics_page,
        "formats.md": _formats_page,
        "openai-parameters.md": _openai_page,
    }
    return {name: "\n".join(write()).rstrip() + "\n" for name, write in writers.items()}


def main() -> None:
    """Writes the pages."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text)
        print(f"docs/reference/{name}")


# --- REST -----------------------------------------------------------------------------------------


def _rest_page() -> Iterator[str]:
    api = load()
    yield NOTICE.format(source="protos/aitbc/v1/*.proto")
    yield """
# REST API

Every path is served below `/` and, the same, below `/api`. Bodies are JSON objects in UTF-8.

- Names are snake_case; requests may also use lowerCamelCase. An unknown name is an error.
- A field that is not set is absent from responses, but a list or map at the top of a response is
  always there, `[]` or `{}` when empty. In the objects that a response holds, and in the events of
  a stream, empty lists and maps are absent too.
- A *time* is RFC 3339 in UTC, such as `2026-01-24T15:00:00Z`. In requests, a time without offset is
  UTC.
- An *integer* is a JSON number.
- Errors are `{"detail": ..., "error_code": ...}`: see [errors](errors.md). Any call may also answer
  400 `INVALID_ARGUMENT` or `INVALID_JSON`, 413, 415, 429 and 503.

| call | does |
| --- | --- |"""
    for method in _routed(api):
        yield f"| [`{_call(method)}`](#{method.name.lower()}) | {_first_sentence(method.comment)} |"
    for method in _routed(api):
        yield from _rest_method(api, method)
    yield "\n## Objects\n"
    for name in _objects_of(api):
        yield f"### {name}\n\n{api.messages[name].comment}\n"
        yield from _json_table(api, api.messages[name].fields)


def _routed(api: Api) -> Iterator[Method]:
    return (method for method in api.methods() if method.route is not None)


def _call(method: Method) -> str:
    assert method.route is not None  # noqa: S101 - only routed methods come here
    return f"{method.route.verb} {method.route.path}"


def _rest_method(api: Api, method: Method) -> Iterator[str]:
    assert method.route is not None  # noqa: S101 - only routed methods come here
    yield f"\n## {method.name}\n\n`{_call(method)}`\n\n{_without_errors(method.comment)}\n"
    request = api.messages[method.request].fields
    in_path = [field for field in request if f"{{{field.name}}}" in method.route.path]
    rest = [field for field in request if field not in in_path]
    for title, fields in (
        ("Path", in_path),
        ("Body" if method.route.has_body else "Query", rest),
    ):
        if fields:
            yield f"{title}:\n"
            yield from _json_table(api, fields)
            yield ""
    usual, *others = method.route.statuses
    answers = [f"{usual} with [{method.response}](#{method.response.lower()})"]
    answers += [f"{one} {_WHEN_UNUSUAL[one]}" for one in others]
    yield f"Answers {', '.join(answers)}."
    if codes := _error_codes(api, method):
        statuses = {row.reason: row.status for row in error_rows()}
        yield "\nErrors: " + ", ".join(f"{statuses[code]} `{code}`" for code in codes) + "."


def _json_table(api: Api, fields: Iterable[Field]) -> Iterator[str]:
    rows = list(fields)
    if not rows:
        yield "No fields."
        return
    yield "| field | type | |\n| --- | --- | --- |"
    for field in rows:
        required = "**Required.** " if field.is_required else ""
        header = f" Or in the header `{field.http_header}`." if field.http_header else ""
        comment = required + _cell(field.comment) + header
        yield f"| `{field.name}` | {_json_type(api, field)} | {comment} |"


def _json_type(api: Api, field: Field) -> str:
    if enum := api.enums.get(field.type):
        prefix = _snake(enum.name).upper() + "_"
        values = [value.removeprefix(prefix).lower() for value in list(enum.values)[1:]]
        name = ", ".join(f"`{value}`" for value in values)
    elif field.type in api.messages:
        name = f"[{field.type}](#{field.type.lower()})"
    else:
        name = _JSON_TYPES.get(field.type, "integer")
    if field.key_type:
        return f"map of {_JSON_TYPES.get(field.key_type, 'integer')} to {name}"
    return f"list of {name}" if field.is_repeated else name


def _objects_of(api: Api) -> list[str]:
    """Returns the names of the messages that REST shows as objects, in the order first met."""
    names: dict[str, None] = {}

    def meet(message: Message) -> None:
        for field in message.fields:
            if field.type in api.messages and field.type not in names:
                names[field.type] = None
                meet(api.messages[field.type])

    for method in _routed(api):
        names[method.response] = None
        meet(api.messages[method.response])
        meet(api.messages[method.request])
    return list(names)


def _error_codes(api: Api, method: Method) -> list[str]:
    """Returns the reasons that a method's comment names, itself or by `as OtherMethod`."""
    known = {row.reason for row in error_rows()}
    text = _errors_paragraph(method.comment)
    codes = [code for code in re.findall(r"`([A-Z_]+)`", text) if code in known]
    others = {other.name: other for other in api.methods()}
    for name in re.findall(r"\b[Aa]s (\w+)", text):
        if name in others:
            codes += _error_codes(api, others[name])
    return list(dict.fromkeys(codes))


def _errors_paragraph(comment: str) -> str:
    return next((part for part in comment.split("\n\n") if part.startswith("Errors:")), "")


def _without_errors(comment: str) -> str:
    return "\n\n".join(part for part in comment.split("\n\n") if not part.startswith("Errors:"))


# --- gRPC -----------------------------------------------------------------------------------------


def _grpc_page() -> Iterator[str]:
    api = load()
    yield NOTICE.format(source="protos/aitbc/v1/*.proto")
    yield """
# gRPC API

Package `aitbc.v1`; [stubs](../how-to/generate-stubs.md) in any language come from `protos/`. Server
reflection, v1 and v1alpha, and the standard health service are on. Errors carry a
`google.rpc.Status` with `ErrorInfo`, and `RetryInfo` where a retry may help: see
[errors](errors.md). For clients there are
[service configs](../how-to/generate-stubs.md#configure-the-client) with limits and retries.

Every method but `Work` is called [over Connect and gRPC-Web](../how-to/call-from-a-browser.md) too,
at the HTTP port."""
    for service in api.services:
        yield f"\n## {service.name}\n\n{service.comment}"
        for method in service.methods:
            yield f"\n### {method.name}\n\n{_signature(method)}\n\n{method.comment}"
            if method.route:
                yield f"\nREST: `{_call(method)}`"
    yield "\n## Messages"
    for message in api.messages.values():
        yield f"\n### {message.name}\n\n{message.comment}\n"
        yield from _proto_table(api, message.fields)
    yield "\n## Enums"
    for enum in api.enums.values():
        yield f"\n### {enum.name}\n\n{enum.comment}\n\n| value | |\n| --- | --- |"
        for name, comment in enum.values.items():
            yield f"| `{name}` | {_cell(comment)} |"


def _signature(method: Method) -> str:
    request, response = (
        f"{'stream ' if streams else ''}[{name}](#{name.lower()})"
        for name, streams in (
            (method.request, method.streams_requests),
            (method.response, method.streams_responses),
        )
    )
    return f"{request} → {response}"


def _proto_table(api: Api, fields: Iterable[Field]) -> Iterator[str]:
    rows = list(fields)
    if not rows:
        yield "No fields."
        return
    yield "| field | type | |\n| --- | --- | --- |"
    for field in rows:
        is_ours = field.type in api.messages or field.type in api.enums
        name = f"[{field.type}](#{field.type.lower()})" if is_ours else f"`{field.type}`"
        if field.key_type:
            name = f"map of `{field.key_type}` to {name}"
        repeated = "repeated " if field.is_repeated else ""
        required = "**Required.** " if field.is_required else ""
        oneof = f"One of `{field.oneof}`. " if field.oneof else ""
        comment = required + oneof + _cell(field.comment)
        yield f"| `{field.name}` | {repeated}{name} | {comment} |"


# --- Commands -------------------------------------------------------------------------------------


def _cli_page() -> Iterator[str]:
    yield NOTICE.format(source="the options in cli.py and commands/")
    yield """
# Commands

The value of an option is taken from the command line, else from its environment variable, else it
is the default."""
    for program, module in (
        ("aitbc-coordinator", "aitbc_server.cli"),
        ("aitbc-miner", "aitbc_miner.cli"),
        ("aitbc", "aitbc_client.cli"),
    ):
        yield from _command(_command_of(module), program)


def _command_of(module: str) -> TyperCommand | TyperGroup:
    values = vars(import_module(module)).values()
    command = typer.main.get_command(next(one for one in values if isinstance(one, typer.Typer)))
    assert isinstance(command, (TyperCommand, TyperGroup))  # noqa: S101 - nothing else is made
    return command


def _command(command: TyperCommand | TyperGroup, path: str) -> Iterator[str]:
    yield f"\n## {path}\n\n{_unwrapped(command.help or '')}"
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            if isinstance(child, (TyperCommand, TyperGroup)):
                yield from _command(child, f"{path} {name}")
        return
    arguments = [one for one in command.params if isinstance(one, TyperArgument)]
    usage = [path, "[OPTIONS]", *(_metavar(one) for one in arguments)]
    yield f"\n```console\n$ {' '.join(usage)}\n```"
    yield "\n| option | variable | default | |\n| --- | --- | --- | --- |"
    for option in command.params:
        if isinstance(option, TyperOption):
            yield f"| {' | '.join(_option_cells(option))} |"


def _option_cells(option: TyperOption) -> list[str]:
    names = "/".join([*option.opts, *option.secondary_opts])
    metavar = "" if option.is_flag else f" {_metavar(option)}"
    variables = option.envvar if isinstance(option.envvar, (list, tuple)) else [option.envvar]
    required = "**Required.** " if option.required else ""
    return [
        f"`{names}{metavar}`".replace("|", r"\|"),
        ", ".join(f"`{name}`" for name in variables if name),
        # Text instead of a flag says what the default comes to.
        option.show_default if isinstance(option.show_default, str) else _default(option.default),
        required + _cell(_unwrapped(option.help or "")),
    ]


def _metavar(parameter: TyperArgument | TyperOption) -> str:
    return parameter.metavar or str(parameter.name).upper()


def _default(value: object) -> str:
    if value in (*_NOT_SET, False, "", []) or callable(value) or "UNSET" in str(value):
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{getattr(value, 'value', value)}`"


def _unwrapped(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


# --- Settings and errors --------------------------------------------------------------------------


def _configuration_page() -> Iterator[str]:
    yield NOTICE.format(source="src/server/aitbc_server/config.py")
    yield """
# Configuration of the coordinator

Settings are environment variables. Those that are also options of
[`aitbc-coordinator serve`](cli.md#aitbc-coordinator-serve) may be given there instead, which wins.

| variable | default | |
| --- | --- | --- |"""
    for name, setting in Settings.model_fields.items():
        bounds = _bounds(setting.metadata)
        description = _cell(setting.description or "")
        yield f"| `AITBC_{name.upper()}` | {_default(setting.default)} | {description}{bounds} |"


def _bounds(metadata: Iterable[object]) -> str:
    words = {"ge": "at least", "le": "at most"}
    limits = [
        f"{word} {getattr(one, key):,}"
        for one in metadata
        for key, word in words.items()
        if hasattr(one, key)
    ]
    return f" {', '.join(limits).capitalize()}." if limits else ""


def _errors_page() -> Iterator[str]:
    yield NOTICE.format(source="the errors' classes in domain/errors.py and rest/errors.py")
    yield """
# Errors

Over REST an error is a JSON object with exactly two fields:

```json
{"detail": "Job not found", "error_code": "JOB_NOT_FOUND"}
```

Over gRPC it is a status whose `google.rpc.ErrorInfo.reason` is the same code. `detail` is for
people and may change; `error_code` is for programs and does not. 429 and 503 come with
`Retry-After` in seconds, over gRPC as `google.rpc.RetryInfo`.

| HTTP | gRPC | error_code | cause | what to do |
| --- | --- | --- | --- | --- |"""
    for row in error_rows():
        told = f"{_cell(row.cause)} | {_cell(row.remedy)}"
        yield f"| {row.status} | {row.code} | `{row.reason}` | {told} |"
    yield """
A caller who has used up a limit of its own is told which: over REST by the headers `RateLimit` and
`RateLimit-Policy` of the IETF's draft (draft-ietf-httpapi-ratelimit-headers), over gRPC by `quota`,
`quota_size` and `quota_window_seconds` in the metadata of the `ErrorInfo`.

## Errors of jobs

A job that failed or was cancelled says why in `error`, and so does each of its attempts. Miners may
have codes of their own.

| code | cause | what to do |
| --- | --- | --- |"""
    for job_error in JOB_ERRORS:
        told = f"{_cell(job_error.cause)} | {_cell(job_error.remedy)}"
        yield f"| `{job_error.code}` | {told} |"


def _metrics_page() -> Iterator[str]:
    yield NOTICE.format(source="src/server/aitbc_server/telemetry/families.py")
    yield """
# Metrics

`/metrics` gives these in the text format of Prometheus, beside `process_...`, which tells of the
process. A counter's name ends with `_total` there; a histogram has `_bucket`, `_sum` and `_count`.
Where it is served, and what to watch: see [Monitor the coordinator](../how-to/monitor.md).

| metric | kind | labels | |
| --- | --- | --- | --- |"""
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"| `{family.name}` | {family.kind} | {labels} | {_cell(family.words)} |"


# --- Text -----------------------------------------------------------------------------------------


def _cell(text: str) -> str:
    """Returns text that fits into a cell of a table."""
    return text.replace("\n\n", " ").replace("|", r"\|")


def _first_sentence(comment: str) -> str:
    return _cell(re.split(r"(?<=\.)\s", comment, maxsplit=1)[0])


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


# --- Formats --------------------------------------------------------------------------------------


def _formats_page() -> Iterator[str]:
    yield NOTICE.format(source="scripts/formats.py")
    yield from formats.page()


def _openai_page() -> Iterator[str]:
    yield NOTICE.format(source="src/server/aitbc_server/openai/parameters.toml")
    yield ""
    yield from openai_docs.page()


if __name__ == "__main__":
    main()
