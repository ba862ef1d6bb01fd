"""Makes ledgers on real SQLite without a coordinator around them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aitbc_server.domain.addresses import address_of
from aitbc_server.domain.ids import IdSource, lease_id_of
from aitbc_server.domain.prices import PriceTable, UnitType
from aitbc_server.domain.receipts import BatchSignature, Work
from aitbc_server.ledger.contents import TEXTS, salted_hash, whole_hash
from aitbc_server.ledger.keys import Signer, create_key
from aitbc_server.ledger.merkle import leaf_hash, root_of
from aitbc_server.ledger.receipts import Receipts, statement
from aitbc_server.ledger.signing import STATEMENTS, for_each, sign_root
from aitbc_server.store.connection import connect
from aitbc_server.store.directory import FILE_NAME
from aitbc_server.store.forgetting import Forget, ForgettingWrites
from aitbc_server.store.ledger_writes import LedgerOptions, LedgerWrites, SealBlock
from aitbc_server.store.schema import migrate
from aitbc_server.store.stored import StoredCounts

START_US = 1_790_000_000_000_000
SALT = b"0123456789abcdef"
PRICES = PriceTable("AITBC", {UnitType.TOKENS: 3 * 10**11, UnitType.CHARACTERS: 10**11})


class FirstReceipts(Receipts):
    """Makes receipts of version 1, as coordinators of before did."""

    def _fields(self, work: Work, nonce: str) -> dict[str, Any]:
        of_version_2 = {"version", "request_hash", "answer_hash"}
        fields = super()._fields(work, nonce)
        return {name: value for name, value in fields.items() if name not in of_version_2}


class Book:
    """A ledger that is written step by step."""

    def __init__(self, directory: Path, *, seed: int = 1, block_receipts: int = 10**6) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.connection = connect(directory / FILE_NAME)
        migrate(self.connection)
        options = LedgerOptions(prices=PRICES, block_receipts=block_receipts)
        self.writes = LedgerWrites(self.connection, directory, options)
        self.random = random.Random(seed)
        self.miner = Signer(Ed25519PrivateKey.generate())
        self._ids = IdSource(self.random.randbytes)
        self._now_us = START_US

    @contextmanager
    def transaction(self, *, undone: bool) -> Iterator[None]:
        """One transaction, which the disk may refuse at its end."""
        self.connection.execute("BEGIN IMMEDIATE")
        yield
        self.connection.execute("ROLLBACK" if undone else "COMMIT")

    @contextmanager
    def before_version_2(self) -> Iterator[None]:
        """Has the receipts made meanwhile be of version 1."""
        present = self.writes._receipts
        self.writes._receipts = FirstReceipts(self.writes.origin, PRICES, self.random.randbytes)
        yield
        self.writes._receipts = present

    def add(self, count: int, *, signed: bool = True, undone: bool = False) -> None:
        """Stores receipts in one commit; the miner signs each two together."""
        works = [self._work() for _ in range(count)]
        if signed:
            works = [one for at in range(0, count, 2) for one in self._stated(works[at : at + 2])]
        with self.transaction(undone=undone):
            self.writes.append(works)
            for work in works:
                self._keep(work)

    def forget(self, *indexes: int) -> None:
        """Forgets the jobs of receipts."""
        find = "SELECT job_id FROM receipts WHERE leaf_index = ?1"
        ids = [self.connection.execute(find, (index,)).fetchone()[0] for index in indexes]
        with self.transaction(undone=False):
            forgetting = ForgettingWrites(self.connection, StoredCounts(self.connection))
            forgetting.writes[Forget]([Forget(ids)])

    def seal(self, *, undone: bool = False) -> None:
        """Seals what no block holds."""
        with self.transaction(undone=undone):
            self.writes.writes[SealBlock]([SealBlock()])

    def rotate(self) -> None:
        """Makes a new key; the next block takes it up."""
        create_key(self.directory)

    def close(self) -> None:
        self.connection.close()

    def _work(self) -> Work:
        self._now_us += self.random.randrange(1, 3_000_000)
        has_usage = self.random.random() < 0.8
        prompt_hash = salted_hash(SALT, _prompt_at(self._now_us))
        result_hash = salted_hash(SALT, _result_at(self._now_us))
        answered = TEXTS.answered(_details_at(self._now_us), "stop")
        return Work(
            job_id=self._ids.job_id(self._now_us),
            client=address_of(f"client {self.random.randrange(5)}"),
            model="llama3.2",
            miner_id=f"miner-{self.random.randrange(3)}",
            attempt=1,
            started_us=self._now_us - 500_000,
            completed_us=self._now_us,
            prompt_tokens=self.random.randrange(100) if has_usage else None,
            completion_tokens=self.random.randrange(100) if has_usage else None,
            characters=self.random.randrange(1000),
            prompt_hash=prompt_hash,
            result_hash=result_hash,
            request_hash=whole_hash(SALT, prompt_hash, b"{}"),
            answer_hash=whole_hash(SALT, result_hash, answered),
            miner_signature=None,
        )

    def _keep(self, work: Work) -> None:
        """Stores the job of a receipt."""
        execute = self.connection.execute
        execute(
            "INSERT INTO jobs (job_id, owner, model, priority, status, max_attempts, created_us, "
            "attempt, miner_id, started_us, finished_us, prompt_tokens, completion_tokens, "
            "finish_reason) "
            "VALUES (?1, ?2, ?3, 0, 'completed', 3, ?6, ?4, ?5, ?6, ?7, ?8, ?9, 'stop')",
            (
                *(work.job_id, work.client, work.model, work.attempt, work.miner_id),
                *(work.started_us, work.completed_us, work.prompt_tokens, work.completion_tokens),
            ),
        )
        execute(
            "INSERT INTO specs (job_id, spec, prompt_salt) VALUES (?1, ?2, ?3)",
            (work.job_id, _prompt_at(work.completed_us).encode(), SALT),
        )
        execute(
            "INSERT INTO results (job_id, result, result_salt, details) VALUES (?1, ?2, ?3, ?4)",
            (
                *(work.job_id, _result_at(work.completed_us), SALT),
                _details_at(work.completed_us),
            ),
        )
        execute("UPDATE totals SET jobs = jobs + 1 WHERE status = 'completed'")

    def _stated(self, works: list[Work]) -> list[Work]:
        leaves = [
            leaf_hash(
                statement(
                    miner_id=work.miner_id,
                    job_id=work.job_id,
                    lease_id=lease_id_of(work.job_id, work.attempt),
                    result_hash=work.result_hash.hex(),
                    prompt_tokens=work.prompt_tokens,
                    completion_tokens=work.completion_tokens,
                )
            )
            for work in works
        ]
        signature = sign_root(STATEMENTS, root_of(leaves), self.miner)
        signatures = for_each(leaves, self.miner.public_key, signature)
        return [_signed(work, one) for work, one in zip(works, signatures, strict=True)]


def _prompt_at(time_us: int) -> str:
    return f"what is {time_us}?"


def _result_at(time_us: int) -> str:
    return f"{time_us} is a time"


def _details_at(time_us: int) -> bytes:
    return f"call the watchmaker of {time_us}".encode()


def _signed(work: Work, signature: BatchSignature) -> Work:
    return work._replace(miner_signature=signature)
