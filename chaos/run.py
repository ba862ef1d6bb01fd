"""One run: load and faults for a while, then peace, then the verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from chaos.checker import POISON, Verdict, check
from chaos.clients import MAX_ATTEMPTS, Client, GrpcApi, RestApi, seen
from chaos.cluster import Cluster
from chaos.faults import Nemesis
from chaos.history import Counted, Recorder, now, read

_CLIENTS = 10
_RECORDING = 3
# Mean number of jobs in one submit: see Client.
_JOBS_A_SUBMIT = 26
# Jobs that may wait before the clients pause, so that a run does not end with an hour's backlog.
_BACKLOG = 3_000
_LOOK_S = 1.0
_PAGE = 100
# Between two lines of progress, where they cannot overwrite each other.
_SHOW_S = 10.0
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do."""

    seconds: float
    seed: str
    # End before the time is over, when both are reached; 0 and 0: take the whole time.
    kills: int = 0
    jobs: int = 0
    # Mean time between two faults.
    pause_s: float = 0.7
    # Jobs submitted a second, about.
    rate: float = 300.0
    # Time for everything to become final once nothing breaks any more.
    drain_s: float = 120.0
    # Miners that are the product's own; those that record are there in any case.
    echoes: int = 2
    bug: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it."""

    verdict: Verdict
    injected: Counter[str]
    kills: int
    surprises: Counter[str]
    # How the coordinator ended when it was asked to.
    exit_status: int
    # Exit status and output of `ledger verify`.
    ledger: tuple[int, str]

    @property
    def is_clean(self) -> bool:
        """Whether everything was as it should be."""
        statuses = self.exit_status, self.ledger[0]
        return self.verdict.is_clean and not self.surprises and statuses == (0, 0)


async def run(plan: Plan, directory: Path, console: Console) -> Outcome:
    """Carries out the plan and prints what came of it."""
    cluster = Cluster(directory, _rng(plan, "network"), seed=plan.seed, bug=plan.bug)
    try:
        await cluster.start(recording=_RECORDING, echoes=plan.echoes)
        run = _Run(plan, cluster, console)
        await run.load()
        await run.drain()
        outcome = await run.judge()
    finally:
        await cluster.close()
    _print(outcome, cluster, console)
    return outcome


class _Run:
    """The load, the faults and the end of one run."""

    def __init__(self, plan: Plan, cluster: Cluster, console: Console) -> None:
        self._plan = plan
        self._cluster = cluster
        self._console = console
        self._recorder = Recorder(cluster.directory / "clients.jsonl")
        self._nemesis = Nemesis(cluster, _rng(plan, "faults"), pause_s=plan.pause_s)
        self._clients = [self._client(number) for number in range(_CLIENTS)]
        self._control = httpx.AsyncClient(base_url=cluster.coordinator.url, timeout=30)
        self._stop = asyncio.Event()
        self._pace = asyncio.Semaphore(0)
        self._shown_at = float("-inf")

    async def load(self) -> None:
        """Submits and breaks things for as long as planned."""
        until = time.monotonic() + self._plan.seconds
        async with asyncio.TaskGroup() as group:
            nemesis = group.create_task(self._nemesis.run(self._stop))
            for client in self._clients:
                group.create_task(client.run(self._pace, self._stop))
            while not self._is_done(until):
                await asyncio.sleep(_LOOK_S)
                stats = await self._stats()
                self._show("breaking", stats, until - time.monotonic())
                if stats and _live(stats) < _BACKLOG:
                    for _ in range(max(1, round(self._plan.rate * _LOOK_S / _JOBS_A_SUBMIT))):
                        self._pace.release()
            self._stop.set()
            for _ in self._clients:
                self._pace.release()
            await nemesis

    def _is_done(self, until: float) -> bool:
        wanted = self._plan.kills, self._plan.jobs
        has_enough = self._nemesis.kills >= wanted[0] and self._submitted >= wanted[1]
        return time.monotonic() >= until or (wanted != (0, 0) and has_enough)

    async def drain(self) -> None:
        """Waits until every job is final, or much too long."""
        until = time.monotonic() + self._plan.drain_s
        stats = None
        while time.monotonic() < until and (stats is None or _live(stats) > 0):
            await asyncio.sleep(_LOOK_S / 4)
            stats = await self._stats()
            self._show("draining", stats, until - time.monotonic())

    async def judge(self) -> Outcome:
        """Lists every job, stops the coordinator and checks the history."""
        await self._list()
        exit_status = await self._cluster.stop_coordinator()
        self._recorder.record(*self._cluster.receipts())
        history = read(self._cluster.histories())
        echoes = [f"echo-{number}" for number in range(self._plan.echoes)]
        return Outcome(
            verdict=check(history, max_attempts=MAX_ATTEMPTS, echoes=echoes),
            injected=self._nemesis.injected,
            kills=self._nemesis.kills,
            surprises=sum((client.surprises for client in self._clients), Counter()),
            exit_status=exit_status,
            ledger=await self._cluster.verify_ledger(),
        )

    @property
    def _submitted(self) -> int:
        return sum(client.submitted for client in self._clients)

    def _client(self, number: int) -> Client:
        api = RestApi(self._cluster.url) if number % 2 else GrpcApi(self._cluster.grpc)
        name = f"client-{number}"
        return Client(name, api, self._recorder, _rng(self._plan, name))

    async def _stats(self) -> dict[str, Any] | None:
        try:
            response = await self._control.get("/v1/stats", timeout=2)
        except httpx.TransportError:
            return None
        return None if response.is_error else dict(response.json())

    async def _list(self) -> None:
        token = ""
        while True:
            page = (
                await self._control.get("/v1/jobs", params={"limit": _PAGE, "page_token": token})
            ).json()
            jobs = page.get("jobs", [])
            for place, job in enumerate(jobs):
                if job.get("error", {}).get("code") == POISON:
                    # Lists have no attempts.
                    jobs[place] = (await self._control.get(f"/v1/jobs/{job['job_id']}")).json()
            if jobs:
                self._recorder.record(*(seen(job, is_last=True) for job in jobs))
            token = page.get("next_page_token", "")
            if not token:
                break
        counts = (await self._control.get("/v1/stats")).json()["jobs"]
        ends = {end: counts.get(end, 0) for end in ("completed", "failed", "cancelled")}
        self._recorder.record(Counted(at=now(), **ends))

    def _show(self, what: str, stats: dict[str, Any] | None, left_s: float) -> None:
        if not self._console.is_terminal and time.monotonic() < self._shown_at + _SHOW_S:
            return
        self._shown_at = time.monotonic()
        live = "coordinator away" if stats is None else f"{_live(stats)} live"
        self._console.print(
            f"{what}: {left_s:.0f} s left, {self._submitted} jobs acknowledged, {live}, "
            f"{self._nemesis.kills} kills, {sum(self._nemesis.injected.values())} faults",
            end="\r" if self._console.is_terminal else "\n",
        )


def _rng(plan: Plan, name: str) -> random.Random:
    return random.Random(f"{plan.seed} {name}")


def _live(stats: dict[str, Any]) -> int:
    jobs = stats["jobs"]
    return int(jobs.get("pending", 0) + jobs.get("running", 0))


def _print(outcome: Outcome, cluster: Cluster, console: Console) -> None:
    verdict = outcome.verdict
    table = Table(title="Faults", show_header=False)
    for name, count in sorted(outcome.injected.items()):
        table.add_row(name, str(count))
    table.add_row("processes killed", str(outcome.kills))
    table.add_row("starts of the coordinator that failed", str(cluster.failed_starts))
    console.print(table)
    table = Table(title="Jobs", show_header=False)
    table.add_row("attempted", str(verdict.attempted))
    table.add_row("acknowledged", str(verdict.acknowledged))
    table.add_row("stored, though the answer was lost", str(verdict.recovered))
    for status, count in sorted(verdict.ends.items()):
        table.add_row(status, str(count))
    table.add_row("of these set aside", str(verdict.set_aside))
    table.add_row("leases of recording miners", str(verdict.leases))
    table.add_row("results and failures that they sent", str(verdict.sent))
    console.print(table)
    for reason, count in outcome.surprises.items():
        console.print(f"[red]unexpected answer[/] {reason}: {count} times")
    if outcome.exit_status:
        console.print(f"[red]the coordinator exited with {outcome.exit_status}[/]")
    console.print(f"Ledger: {outcome.ledger[1]}", soft_wrap=True)
    for breach, count in Counter(finding.breach for finding in verdict.findings).items():
        console.print(f"[red]{breach}[/]: {count}")
    for finding in verdict.findings[:_SHOWN]:
        console.print(f"  {finding.breach}: {finding.subject}: {finding.detail}", soft_wrap=True)
    console.print("Verdict: [green]clean[/]" if outcome.is_clean else "Verdict: [red]bad[/]")
