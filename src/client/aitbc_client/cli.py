"""The command `aitbc`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aitbc_client import shown
from aitbc_client.chat import HELP, Chat
from aitbc_client.connection import DEFAULT_TARGET, DEFAULT_TIMEOUT_S, Connection
from aitbc_client.errors import AitbcError, ended_well
from aitbc_client.models import Job, JobStatus, Params
from aitbc_client.options import Json, Options, options_of
from aitbc_client.receipt_commands import list_receipts, show_receipt
from aitbc_client.verify_command import verify

if TYPE_CHECKING:
    from aitbc_client.client import Client

app = typer.Typer(
    name="aitbc",
    help="Asks models through an AITBC coordinator.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
_JOB = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
_Model = Annotated[str, typer.Option("--model", "-m", envvar="AITBC_MODEL", help="Model to ask.")]


@app.callback()
def _root(
    context: typer.Context,
    coordinator: Annotated[
        str, typer.Option(envvar="AITBC_COORDINATOR", help="Its gRPC address.", metavar="HOST:PORT")
    ] = DEFAULT_TARGET,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="AITBC_API_KEY",
            help="Key of role client, where keys are required. Give it in the environment or in a"
            " file: others see the command line.",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(envvar="AITBC_API_KEY_FILE", help="File that holds this key."),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", envvar="AITBC_TLS", help="Encrypt the connection.")
    ] = False,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="AITBC_TLS_CA",
            help="Certificate authorities to trust instead of the system's. Implies --tls.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(envvar="AITBC_TLS_CERT", help="Own certificate, where one is asked for."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="AITBC_TLS_KEY", help="Key of the own certificate.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds to keep trying to reach the coordinator.")
    ] = DEFAULT_TIMEOUT_S,
) -> None:
    source = context.get_parameter_source("api_key")
    if source is not None and source.name == "COMMANDLINE":
        shown.note("others see --api-key on the command line: use --api-key-file, or AITBC_API_KEY")
    connection = Connection(
        target=coordinator,
        api_key=_key(api_key, api_key_file),
        tls=tls,
        tls_ca=tls_ca,
        tls_cert=tls_cert,
        tls_key=tls_key,
    )
    if connection.is_key_exposed:
        shown.note(f"the key goes to {coordinator} unencrypted, for all to read: use --tls")
    context.obj = Options(connection, timeout)


def _key(key: str | None, file: Path | None) -> str | None:
    if file is None:
        return key
    if key is not None:
        raise typer.BadParameter("--api-key and --api-key-file: give one of them")
    try:
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--api-key-file {file}: cannot read it: {error}") from error
    if not text:
        raise typer.BadParameter(f"--api-key-file {file}: it is empty")
    return text


_MaxTokens = Annotated[int | None, typer.Option(help="Most tokens to generate.")]
_Temperature = Annotated[float | None, typer.Option(help="Randomness, 0 to 2.")]
_Seed = Annotated[int | None, typer.Option(help="Seed of the sampling.")]


@app.command()
def submit(
    context: typer.Context,
    prompt: Annotated[
        list[str], typer.Argument(metavar="PROMPT...", help="The prompt; - reads it from stdin.")
    ],
    model: _Model,
    max_tokens: _MaxTokens = None,
    temperature: _Temperature = None,
    seed: _Seed = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="Text that ends the answer; once for each.")
    ] = None,
    priority: Annotated[int, typer.Option(help="Higher runs first, -100 to 100.")] = 0,
    deadline: Annotated[
        int | None, typer.Option(help="Seconds after which the job fails unless final.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait, and print the answer.")] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Print the answer as it is made.")
    ] = False,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="Have the job forgotten a minute after its end.")
    ] = False,
    json: Json = False,
) -> None:
    """Submit a prompt; prints the job's id, or with --wait or --stream the answer."""
    params = _params(max_tokens, temperature, seed)
    if stop:
        params["stop"] = stop
    with options_of(context).client() as client:
        submitted = client.submit(
            _prompt(prompt),
            model=model,
            params=params,
            priority=priority,
            timeout_seconds=deadline,
            store=False if no_store else None,
        )
        if stream:
            _show_stream(client, submitted.job_id, "", json=json)
        elif wait:
            _show_answer(client.wait(submitted.job_id), json=json)
        elif json:
            shown.as_json(submitted)
        else:
            shown.text(submitted.job_id)


@app.command()
def wait(context: typer.Context, job: _JOB, json: Json = False) -> None:
    """Wait for a job's end and print its answer."""
    with options_of(context).client() as client:
        _show_answer(client.wait(job), json=json)


@app.command()
def stream(
    context: typer.Context,
    job: _JOB,
    after: Annotated[
        str, typer.Option(metavar="EVENT", help="Only what came after this `event_id`.")
    ] = "",
    json: Json = False,
) -> None:
    """Print a job's answer as it is made; with --json its events."""
    with options_of(context).client() as client:
        _show_stream(client, job, after, json=json)


@app.command()
def chat(
    context: typer.Context,
    model: _Model,
    system: Annotated[
        str | None, typer.Option(help="What the model is told before the conversation.")
    ] = None,
    max_tokens: _MaxTokens = None,
    temperature: _Temperature = None,
    seed: _Seed = None,
) -> None:
    """Talk with a model."""
    params = _params(max_tokens, temperature, seed)
    with options_of(context).client() as client:
        shown.note(f"{model}: {HELP}")
        Chat(client, model=model, params=params, system=system).run(_read_line)


@app.command()
def cancel(context: typer.Context, job: _JOB, json: Json = False) -> None:
    """Cancel a job."""
    with options_of(context).client() as client:
        cancelled = client.cancel(job)
    shown.as_json(cancelled) if json else shown.text(f"{job} is {cancelled.status}")


@app.command()
def delete(
    context: typer.Context,
    jobs: Annotated[
        list[str], typer.Argument(metavar="JOB...", help="Ids of jobs that have ended.")
    ],
) -> None:
    """Delete jobs, with their prompts and answers, for good. Their receipts stay."""
    with options_of(context).client() as client:
        for job in jobs:
            client.delete(job)
            shown.text(f"{job} is deleted")


@app.command("list")
def list_jobs(
    context: typer.Context,
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs in this status.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs for this model.")] = None,
    created_after: Annotated[
        datetime | None,
        typer.Option(formats=_TIMES, help="Only jobs stored then or later; UTC unless it says."),
    ] = None,
    created_before: Annotated[
        datetime | None, typer.Option(formats=_TIMES, help="Only jobs stored before.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Jobs to show.")] = 20,
    brief: Annotated[
        bool, typer.Option("--brief", help="With --json: without what was asked and answered.")
    ] = False,
    json: Json = False,
) -> None:
    """List your jobs, the newest first."""
    with options_of(context).client() as client:
        jobs = client.jobs(
            status=status,
            model=model,
            created_after=created_after,
            created_before=created_before,
            # The table has none of it.
            brief=brief or not json,
        )
        found = list(islice(jobs, limit))
    if json:
        for job in found:
            shown.as_json(job)
    else:
        # Here: programs, which ask for JSON, need not wait for what draws tables to load.
        from aitbc_client import tables

        tables.jobs(found)


@app.command()
def miners(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only miners of this model.")] = None,
    json: Json = False,
) -> None:
    """List the miners."""
    with options_of(context).client() as client:
        found = list(client.miners(model=model))
    if json:
        for miner in found:
            shown.as_json(miner)
    else:
        # Here, as above.
        from aitbc_client import tables

        tables.miners(found)


@app.command()
def batch(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="INPUT.jsonl", help="One JSON object a line, with `prompt`.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUTPUT.jsonl", help="Gets one line for each job that ended.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", envvar="AITBC_MODEL", help="Model of lines that name none."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, help="Jobs under way at once.")
    ] = 256,
) -> None:
    """Answer a file of prompts. Started again, it goes on where it ended."""
    # Here: the other commands need neither an event loop nor a progress bar.
    from aitbc_client.batch_progress import run_shown

    try:
        progress = run_shown(options_of(context), source, target, model, concurrency)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    answered = f"{progress.done} of {progress.total} lines answered in {target}"
    typer.echo(f"{answered}, {progress.unsuccessful} of them without a result", err=True)
    if progress.unsuccessful:
        raise typer.Exit(1)


def _prompt(words: Iterable[str]) -> str:
    prompt = " ".join(words)
    return sys.stdin.read() if prompt == "-" else prompt


def _read_line() -> str:
    # Line editing and history, where the terminal has them.
    with suppress(ImportError):
        import_module("readline")
    return input("> ") if sys.stdin.isatty() else input()


def _params(max_tokens: int | None, temperature: float | None, seed: int | None) -> Params:
    params: Params = {}
    if max_tokens is not None:
        params["max_tokens"] = max_tokens
    if temperature is not None:
        params["temperature"] = temperature
    if seed is not None:
        params["seed"] = seed
    return params


def _show_stream(client: Client, job_id: str, after: str, *, json: bool) -> None:
    last: Job | None = None
    answer = shown.Answer()
    for event in client.stream(job_id, after):
        last = event.job
        if json:
            shown.as_json(event)
        else:
            answer.show(event)
    if not json:
        shown.text("")
    if last is not None:
        ended_well(last)


def _show_answer(job: Job, *, json: bool) -> None:
    if json:
        shown.as_json(job)
    shown.text(ended_well(job).result or "") if not json else ended_well(job)


app.command("receipts")(list_receipts)
app.command("receipt")(show_receipt)
app.command("verify")(verify)


def main() -> None:
    """Runs the command; a failure is one line on standard error."""
    try:
        app()
    except AitbcError as error:
        shown.failure(f"aitbc: {error} ({error.error_code})")
        sys.exit(1)


if __name__ == "__main__":
    main()
