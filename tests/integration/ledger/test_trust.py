"""A ledger is held against what is known of it: a key, an older checkpoint, witnesses.

Each ledger here verifies by itself. What is wrong with it only shows beside another.
"""

from __future__ import annotations

import shutil
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aitbc_server.domain.receipts import Cosignature
from aitbc_server.ledger import note
from aitbc_server.ledger.audit import Audited, audit
from aitbc_server.ledger.checkpoint_file import CheckpointFile
from aitbc_server.ledger.cosignatures import Witness, cosign, cosigned_at
from aitbc_server.ledger.findings import LedgerWrong
from aitbc_server.ledger.keys import DIRECTORY, LedgerKey, Signer
from aitbc_server.ledger.published import CHECKPOINT_PATH, COSIGNATURES_PATH, KEYS_PATH
from aitbc_server.ledger.trust import Trust
from aitbc_server.ledger.witness import CosignatureRefused, WitnessLog
from aitbc_server.store.ledger_file import LedgerFile
from aitbc_server.store.ledger_writes import KeepCosignature
from tests.integration.ledger.books import Book

KEY = Signer(Ed25519PrivateKey.from_private_bytes(b"\3" * 32))
WITNESS = Witness("witness.example", KEY.public_key)
STRANGER = Witness("stranger.example", b"\4" * 32)
NOW_S = 1_790_000_000


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Book]:
    """Makes ledgers; `keys_of` gives one the signing keys, and so the name, of another."""
    books: list[Book] = []

    def make(seed: int = 1, *, keys_of: Book | None = None) -> Book:
        directory = tmp_path / f"book{len(books)}"
        if keys_of is not None:
            directory.mkdir()
            shutil.copytree(keys_of.directory / DIRECTORY, directory / DIRECTORY)
        books.append(Book(directory, seed=seed))
        return books[-1]

    return make


def grow(book: Book, *counts: int) -> None:
    for count in counts:
        book.add(count)
        book.seal()


def audited(book: Book, **known: Any) -> Audited:
    return audit(LedgerFile(book.connection), trust=Trust(**known))


def checkpoint(book: Book) -> str:
    block = book.writes._reads.last_block()
    assert block is not None
    return block.note


def keep_cosigned(book: Book) -> None:
    """Keeps a cosignature of the newest block, as the service does."""
    block = book.writes._reads.last_block()
    assert block is not None
    line = cosign(note.parse(block.note).text, WITNESS, KEY, NOW_S)
    kept = Cosignature(
        witness=WITNESS.verifier_key, height=block.height, time_s=NOW_S, line=line, note=block.note
    )
    with book.transaction(undone=False):
        book.writes.writes[KeepCosignature]([KeepCosignature(kept)])


def test_a_ledger_that_grew_agrees_with_its_older_checkpoints(make: Callable[..., Book]) -> None:
    book = make()
    grow(book, 3)
    older = checkpoint(book)
    grow(book, 2, 4)
    assert audited(book, checkpoint=older).receipts == 9
    assert audited(book, checkpoint=checkpoint(book)).last_note == checkpoint(book)


def test_a_rewritten_ledger_is_found_by_an_older_checkpoint(make: Callable[..., Book]) -> None:
    shown = make()
    grow(shown, 3)
    rewritten = make(seed=2, keys_of=shown)
    grow(rewritten, 3, 1)
    assert audited(rewritten).receipts == 4
    with pytest.raises(LedgerWrong, match=r"block 0: it is another one .* history was rewritten"):
        audited(rewritten, checkpoint=checkpoint(shown))


def test_a_ledger_whose_end_was_cut_off_is_found_by_a_newer_checkpoint(
    make: Callable[..., Book],
) -> None:
    whole = make()
    grow(whole, 3, 2)
    cut = make(keys_of=whole)
    grow(cut, 3)
    with pytest.raises(LedgerWrong, match=r"block 1: it is missing after 1 blocks"):
        audited(cut, checkpoint=checkpoint(whole))


def test_a_checkpoint_of_another_ledger_or_of_no_key_is_refused(
    make: Callable[..., Book],
) -> None:
    book, other = make(), make(seed=2)
    grow(book, 1)
    grow(other, 1)
    with pytest.raises(LedgerWrong, match="it is of "):
        audited(book, checkpoint=checkpoint(other))
    text = note.parse(checkpoint(book)).text
    forged = note.sign(text, LedgerFile(book.connection).origin, KEY)
    with pytest.raises(LedgerWrong, match="no key of this ledger signed it"):
        audited(book, checkpoint=forged)
    with pytest.raises(LedgerWrong, match="is not a signed note"):
        audited(book, checkpoint="nonsense")


def test_a_pinned_key_must_have_signed_or_endorsed_who_signed(make: Callable[..., Book]) -> None:
    book = make()
    grow(book, 1)
    first = LedgerFile(book.connection).keys()[0].public_key
    book.rotate()
    # The block after the rotation has the new key load, the one after that is signed by it.
    grow(book, 1, 1)
    second = LedgerFile(book.connection).keys()[1].public_key
    assert audited(book, key=first).keys == 2
    assert audited(book, key=second).keys == 2
    with pytest.raises(LedgerWrong, match="the pinned key is none of the ledger's"):
        audited(book, key=KEY.public_key)


def test_a_witness_that_was_asked_for_must_have_cosigned(make: Callable[..., Book]) -> None:
    book = make()
    grow(book, 3)
    keep_cosigned(book)
    grow(book, 2)
    assert audited(book, witnesses=(WITNESS,)).witnessed == 3
    with pytest.raises(LedgerWrong, match=r"witness stranger\.example: it has cosigned no"):
        audited(book, witnesses=(WITNESS, STRANGER))


def test_what_a_witness_cosigned_finds_a_rewritten_ledger(make: Callable[..., Book]) -> None:
    shown = make()
    grow(shown, 3)
    keep_cosigned(shown)
    cosigned = LedgerFile(shown.connection).cosigned()
    rewritten = make(seed=2, keys_of=shown)
    grow(rewritten, 3)
    source = LedgerFile(rewritten.connection)
    source.cosigned = lambda: cosigned  # type: ignore[method-assign]  # as it is shown to others
    with pytest.raises(LedgerWrong, match=r"than what the witness witness\.example cosigned"):
        audit(source, trust=Trust(witnesses=(WITNESS,)))


class Shown:
    """What a coordinator publishes of a book."""

    def __init__(self, book: Book, refusal: str | None = None) -> None:
        self.book = book
        self.refusal = refusal
        self.posted: list[str] = []

    def get(self, path: str) -> bytes | None:
        reads = self.book.writes._reads
        if path == KEYS_PATH:
            return orjson.dumps(
                {"origin": reads.origin(), "keys": list(map(_key, reads.signing_keys()))}
            )
        block = reads.last_block()
        if path == CHECKPOINT_PATH:
            return block.note.encode() if block else None
        heights = [int(part.rpartition("=")[2]) for part in path.partition("?")[2].split("&")]
        sizes = [found.tree_size for height in heights if (found := reads.block(height))]
        path_between = reads.consistency(*sizes)
        return orjson.dumps({"path": [hash_.hex() for hash_ in path_between]})

    def post(self, path: str, document: dict[str, Any]) -> str | None:
        assert path == COSIGNATURES_PATH
        self.posted.append(document["checkpoint"])
        return self.refusal


def _key(key: LedgerKey) -> dict[str, str]:
    found = {
        "public_key": b64encode(key.public_key).decode(),
        "created_at": "2026-01-24T15:00:00Z",
    }
    if key.endorsement:
        found["endorsement"] = b64encode(key.endorsement).decode()
    return found


@pytest.fixture
def kept(tmp_path: Path) -> CheckpointFile:
    return CheckpointFile(tmp_path / "witness" / "ledger.checkpoint")


def following(shown: Shown, kept: CheckpointFile, key: bytes | None = None) -> WitnessLog:
    return WitnessLog(shown, WITNESS, KEY, kept, lambda: NOW_S, key)


def test_a_witness_cosigns_what_goes_on_from_all_before(
    make: Callable[..., Book], kept: CheckpointFile
) -> None:
    book = make()
    shown = Shown(book)
    log = following(shown, kept)
    assert log.follow() is None  # nothing is sealed yet
    for size in (3, 5, 12):
        grow(book, size)
        block = log.follow()
        assert block is not None
        assert cosigned_at(note.parse(shown.posted[-1]), WITNESS) == NOW_S
        assert kept.read() == checkpoint(book)
        assert log.follow() is None  # it did
    # Another process of it goes on where this one ended.
    again = following(shown, kept).follow()
    assert again is not None
    assert again.tree_size == 20


@pytest.mark.parametrize("counts", [(3,), (3, 1), (4, 4), (1,)])
def test_a_witness_never_cosigns_a_second_history(
    make: Callable[..., Book], kept: CheckpointFile, counts: tuple[int, ...]
) -> None:
    book = make()
    grow(book, 3)
    following(Shown(book), kept).follow()
    rewritten = Shown(make(seed=2, keys_of=book))
    grow(rewritten.book, *counts)
    with pytest.raises(LedgerWrong):
        following(rewritten, kept).follow()
    assert rewritten.posted == []
    assert kept.read() == checkpoint(book)


def test_a_witness_finds_a_ledger_that_went_back(
    make: Callable[..., Book], kept: CheckpointFile
) -> None:
    book = make()
    grow(book, 3, 2)
    following(Shown(book), kept).follow()
    shorter = Shown(make(keys_of=book))
    with pytest.raises(LedgerWrong, match="there is none any more"):
        following(shorter, kept).follow()
    grow(shorter.book, 3)
    with pytest.raises(LedgerWrong, match=r"it was cosigned, and block 0 is the last"):
        following(shorter, kept).follow()


def test_a_witness_that_pins_a_key_does_not_follow_another(
    make: Callable[..., Book], kept: CheckpointFile
) -> None:
    book = make()
    grow(book, 1)
    with pytest.raises(LedgerWrong, match="the pinned key"):
        following(Shown(book), kept, KEY.public_key).follow()


def test_a_refused_cosignature_is_offered_again(
    make: Callable[..., Book], kept: CheckpointFile
) -> None:
    book = make()
    grow(book, 1)
    shown = Shown(book, refusal="who are you?")
    log = following(shown, kept)
    with pytest.raises(CosignatureRefused, match="who are you"):
        log.follow()
    shown.refusal = None
    assert log.follow() is not None


def test_a_checkpoint_file_is_whole_or_not_there(tmp_path: Path) -> None:
    file = CheckpointFile.of_ledger("aitbc/0123", tmp_path)
    assert file.read() is None
    assert file.path.parent == tmp_path
    file.write("one\n")
    file.write("two\n")
    assert file.read() == "two\n"
    assert list(tmp_path.iterdir()) == [file.path]
    file.path.write_bytes(b"x" * 16_385)
    with pytest.raises(ValueError, match="too large"):
        file.read()
