"""Attacks a coordinator at each of its borders, with what is nearly right.

Or, with --storm, has many strangers do their worst for so long, and prints what that cost.

Prints a seed. What is found says how to repeat it, and the status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from rich.console import Console
from rich.live import Live

from tests.conftest import Launcher
from tests.hostile.borders import BORDERS
from tests.hostile.fuzz import FoundError, fuzz
from tests.hostile.storm import storm


def main() -> int:
    """Runs the fuzzers; returns the exit status."""
    arguments = _arguments()
    if arguments.storm:
        return _storm(arguments.minutes * 60)
    seed = arguments.seed or str(secrets.randbelow(10**6))
    borders = [arguments.border] if arguments.border else list(BORDERS)
    seconds = arguments.minutes * 60 / len(borders)
    console = Console()
    console.print(f"seed {seed}")
    status = 0
    for border in borders:
        directory = Path(tempfile.mkdtemp(prefix=f"aitbc-fuzz-{border}-"))
        launcher = Launcher(directory)
        try:
            with Live(console=console, transient=True) as live:

                def told(made: int, border: str = border, live: Live = live) -> None:
                    live.update(f"{border}: {made} attacks")

                made = asyncio.run(
                    fuzz(
                        border,
                        launcher,
                        seed=seed,
                        seconds=seconds,
                        first=arguments.first,
                        most=arguments.most,
                        told=told,
                    )
                )
            console.print(f"{border}: {made} attacks, nothing found")
            shutil.rmtree(directory)
        except FoundError as found:
            status = 1
            traceback.print_exception(found.__cause__)
            console.print(f"{found}\nData and logs are kept in {directory}", soft_wrap=True)
        finally:
            launcher.close()
    return status


def _storm(seconds: float) -> int:
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="aitbc-storm-"))
    launcher = Launcher(directory)
    try:
        weather = asyncio.run(storm(launcher, seconds))
    finally:
        launcher.close()
    shutil.rmtree(directory)
    console.print(str(weather), soft_wrap=True)
    missed = weather.missed()
    for one in missed:
        console.print(f"missed: {one}")
    return 1 if missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=...", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=3, help="how long, all borders together [%(default)s]"
    )
    parser.add_argument("--border", choices=sorted(BORDERS), help="attack this one only")
    parser.add_argument(
        "--storm", action="store_true", help="many strangers at once, instead of fuzzers"
    )
    parser.add_argument("--seed", help="chooses all attacks; at random by default")
    parser.add_argument("--first", type=int, default=0, help="number of the first attack")
    parser.add_argument("--most", type=int, help="attacks of a border at most")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
