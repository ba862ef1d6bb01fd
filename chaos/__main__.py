"""Breaks a coordinator and its miners at random for a while, and says whether a job was lost.

Clients submit jobs over REST and gRPC while processes are killed, connections cut, frozen and
half-opened, the clock stepped and the disk filled. When all that is over and the last job is final,
a checker compares what every client and every miner saw. Exits with 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from chaos.bugs import BUGS
from chaos.run import Plan, run


def main() -> int:
    """Runs chaos; returns the exit status."""
    arguments = _arguments()
    seed = arguments.seed or str(secrets.randbelow(10**6))
    plan = Plan(
        seconds=arguments.minutes * 60,
        kills=arguments.kills,
        jobs=arguments.jobs,
        seed=seed,
        pause_s=arguments.pause,
        rate=arguments.rate,
        drain_s=arguments.drain,
        echoes=arguments.echoes,
        bug=arguments.plant,
    )
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="aitbc-chaos-"))
    is_clean = False
    # SIGTERM ends a run as Ctrl-C does: with all that it started.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        outcome = asyncio.run(run(plan, directory, console))
        is_clean = outcome.is_clean
    finally:
        if is_clean:
            shutil.rmtree(directory)
        else:
            console.print(f"Histories and logs are kept in {directory}", soft_wrap=True)
    return 0 if is_clean else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make chaos ARGS=...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--minutes", type=float, default=2, help="how long things break at most [%(default)s]"
    )
    parser.add_argument(
        "--kills", type=int, default=0, help="stop early, after so many kills and so many --jobs"
    )
    parser.add_argument("--jobs", type=int, default=0, help="see --kills")
    parser.add_argument("--seed", help="chooses faults, times and load; at random by default")
    parser.add_argument(
        "--rate", type=float, default=300, help="jobs submitted a second, about [%(default)s]"
    )
    parser.add_argument(
        "--pause", type=float, default=0.7, help="mean seconds between two faults [%(default)s]"
    )
    parser.add_argument(
        "--drain",
        type=float,
        default=120,
        help="seconds for every job to become final in the end [%(default)s]",
    )
    parser.add_argument(
        "--echoes",
        type=int,
        default=2,
        help="real echo miners beside those that record; 0 to see all that is sent [%(default)s]",
    )
    parser.add_argument(
        "--plant", choices=sorted(BUGS), help="plant a bug, to see that the checker finds it"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
