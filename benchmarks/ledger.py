"""Builds a large ledger and measures it: pages, proofs, blocks and the verification of the whole.

    .venv/bin/python -m benchmarks.ledger --receipts 1000000

Prints one JSON object. Everything runs on one thread; verification is the command itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from scripts.processes import BIN

from aitbc_server.api.ledger_convert import receipt_message, transaction_message
from aitbc_server.domain.addresses import address_of
from aitbc_server.domain.ids import IdSource, lease_id_of
from aitbc_server.domain.receipts import Work
from aitbc_server.ledger.keys import Signer
from aitbc_server.ledger.merkle import leaf_hash, root_of
from aitbc_server.ledger.receipts import miner_address, statement
from aitbc_server.ledger.signing import STATEMENTS, for_each, sign_root
from aitbc_server.store.connection import connect
from aitbc_server.store.directory import FILE_NAME
from aitbc_server.store.ledger_reads import END, LedgerReads
from aitbc_server.store.ledger_writes import LedgerOptions, LedgerWrites, SealBlock
from aitbc_server.store.schema import migrate

PAGE = 100
ROUNDS = 200


def main() -> None:
    """Builds, measures and prints."""
    arguments = _arguments()
    with TemporaryDirectory(prefix="aitbc-ledger-", dir=arguments.directory) as name:
        directory = Path(name)
        figures = _build(directory, arguments)
        figures |= _read(directory, arguments)
        figures |= _verify(directory, arguments.receipts)
    json.dump(figures, sys.stdout, indent=2)
    print()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.ledger", description=__doc__)
    parser.add_argument("--receipts", type=int, default=1_000_000)
    parser.add_argument(
        "--commit", type=int, default=64, help="receipts stored and signed together [%(default)s]"
    )
    parser.add_argument(
        "--message", type=int, default=16, help="results that a miner signs together [%(default)s]"
    )
    parser.add_argument("--block", type=int, default=10_000, help="receipts in a block")
    parser.add_argument("--directory", type=Path, default=None, help="where to build")
    return parser.parse_args()


def _build(directory: Path, arguments: argparse.Namespace) -> dict[str, float]:
    connection = connect(directory / FILE_NAME)
    migrate(connection)
    # The disk is not what is measured here.
    connection.execute("PRAGMA synchronous = OFF")
    writes = LedgerWrites(connection, directory, LedgerOptions(block_receipts=10**9))
    connection.execute("PRAGMA wal_autocheckpoint = 1000")
    commits, seals, unsealed = [], [], 0
    for works in _works(arguments):
        connection.execute("BEGIN IMMEDIATE")
        commits.append(_timed(writes.append, works))
        connection.execute("COMMIT")
        unsealed += len(works)
        if unsealed >= arguments.block:
            connection.execute("BEGIN IMMEDIATE")
            seals.append(_timed(writes.writes[SealBlock], [SealBlock()]))
            connection.execute("COMMIT")
            unsealed = 0
    writes.writes[SealBlock]([SealBlock()])
    # As old ledgers are. It has no jobs, so that only receipts are measured.
    connection.execute("INSERT INTO forgotten (leaf_index) SELECT leaf_index FROM receipts")
    connection.close()
    return {
        "receipts": arguments.receipts,
        "database_mb": round((directory / FILE_NAME).stat().st_size / 1e6),
        "append_us_a_receipt": round(sum(commits) / arguments.receipts * 1e6, 1),
        "append_ms_a_commit_longest": round(max(commits) * 1e3, 2),
        "seal_ms_median": round(statistics.median(seals) * 1e3, 3) if seals else 0.0,
        "seal_ms_longest": round(max(seals) * 1e3, 3) if seals else 0.0,
    }


def _works(arguments: argparse.Namespace) -> Iterator[list[Work]]:
    rng = random.Random(1)
    ids = IdSource(rng.randbytes)
    miners = [(f"miner-{n}", Signer(Ed25519PrivateKey.generate())) for n in range(50)]
    clients = [address_of(f"client {n}") for n in range(1000)]
    left, now_us = arguments.receipts, 1_790_000_000_000_000
    while left > 0:
        works: list[Work] = []
        while len(works) < min(arguments.commit, left):
            count = min(arguments.message, arguments.commit - len(works), left - len(works))
            now_us += 100
            works += _message(rng, ids, *rng.choice(miners), clients, now_us, count)
        left -= len(works)
        yield works


def _message(
    rng: random.Random,
    ids: IdSource,
    miner_id: str,
    signer: Signer,
    clients: list[str],
    now_us: int,
    count: int,
) -> list[Work]:
    jobs = [ids.job_id(now_us) for _ in range(count)]
    hashes = [rng.randbytes(32) for _ in jobs]
    leaves = [
        leaf_hash(
            statement(
                miner_id=miner_id,
                job_id=job_id,
                lease_id=lease_id_of(job_id, 1),
                result_hash=hash_.hex(),
                prompt_tokens=20,
                completion_tokens=64,
            )
        )
        for job_id, hash_ in zip(jobs, hashes, strict=True)
    ]
    signature = sign_root(STATEMENTS, root_of(leaves), signer)
    signatures = for_each(leaves, signer.public_key, signature)
    return [
        Work(
            job_id=job_id,
            client=rng.choice(clients),
            model="llama3.2",
            miner_id=miner_id,
            attempt=1,
            started_us=now_us - 1_000_000,
            completed_us=now_us,
            prompt_tokens=20,
            completion_tokens=64,
            characters=300,
            prompt_hash=hash_,
            result_hash=hash_,
            request_hash=hash_,
            answer_hash=hash_,
            miner_signature=signed,
        )
        for job_id, hash_, signed in zip(jobs, hashes, signatures, strict=True)
    ]


def _read(directory: Path, arguments: argparse.Namespace) -> dict[str, float]:
    connection = connect(directory / FILE_NAME, read_only=True)
    reads, rng, size = LedgerReads(connection), random.Random(2), arguments.receipts
    last = reads.last_block()
    assert last is not None  # noqa: S101 - it was built
    client, miner = address_of("client 7"), miner_address("miner-7")

    def anywhere() -> int:
        return rng.randrange(PAGE, size)

    def listed(client: str | None, miner: str | None) -> Callable[[], object]:
        return lambda: [
            receipt_message(record)
            for record in reads.receipts(
                first=0, before=anywhere(), limit=PAGE, client=client, miner=miner
            )
        ]

    measures: dict[str, Callable[[], object]] = {
        "page_all": listed(None, None),
        "page_client": listed(client, None),
        "page_miner": listed(None, miner),
        "page_client_and_miner": listed(client, miner),
        "page_transactions_of_address": lambda: [
            transaction_message(record)
            for record in reads.receipts_of(miner, first=0, before=anywhere(), limit=PAGE)
        ],
        "page_blocks": lambda: reads.blocks(END, PAGE),
        "receipts_since": lambda: reads.first_since(1_790_000_000_000_000 + anywhere()),
        "signature": lambda: reads.signature(anywhere()),
        "inclusion_proof": lambda: reads.inclusion(anywhere(), last.tree_size),
        "consistency_proof": lambda: reads.consistency(anywhere(), last.tree_size),
    }
    figures = {}
    for name, measure in measures.items():
        times = sorted(_timed(measure) for _ in range(ROUNDS))
        figures[f"{name}_ms_median"] = round(statistics.median(times) * 1e3, 2)
        figures[f"{name}_ms_p99"] = round(times[-ROUNDS // 100] * 1e3, 2)
    connection.close()
    return figures


def _verify(directory: Path, receipts: int) -> dict[str, float]:
    argv = [str(BIN / "aitbc-coordinator"), "ledger", "verify", "--data", str(directory)]
    before = os.times()
    started = time.monotonic()
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    wall_s, after = time.monotonic() - started, os.times()
    cpu_s = after.children_user + after.children_system
    cpu_s -= before.children_user + before.children_system
    print(done.stdout.strip(), file=sys.stderr)
    return {
        "verify_s": round(wall_s, 1),
        "verify_cpu_s": round(cpu_s, 1),
        "verified_receipts_a_second": round(receipts / wall_s),
        "verified_receipts_a_cpu_second": round(receipts / cpu_s),
    }


def _timed(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
