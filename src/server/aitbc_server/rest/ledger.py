"""The ledger as static files, for witnesses and verifiers: https://c2sp.org/tlog-tiles.

Beside what the format asks for, there are the public keys, and the signatures of the receipts.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable

import orjson

from aitbc_server.domain.errors import BlockNotFound
from aitbc_server.domain.receipts import BlockRecord
from aitbc_server.domain.times import rfc3339
from aitbc_server.ledger.cosignatures import Witness
from aitbc_server.ledger.merkle import TILE_WIDTH
from aitbc_server.ledger.note import verifier_key
from aitbc_server.ledger.published import CHECKPOINT_PATH, KEYS_PATH, SIGNATURES_PATH
from aitbc_server.ledger.tiles import bundle, parse_tile
from aitbc_server.rest.asgi import AsgiApp, Receive, Response, Scope, Send, send_response
from aitbc_server.rest.errors import MethodNotAllowed, RouteNotFound, error_response
from aitbc_server.rest.ledger_part import LEDGER_FILES, TILES_PATH
from aitbc_server.rest.site import Mount
from aitbc_server.store.ledger import StoredLedger
from aitbc_server.store.ledger_reads import LedgerReads

_PREFIXES = ("", "/api")
# What was appended never changes; what is newest changes with each block.
_FOR_EVER = (b"cache-control", b"public, max-age=31536000, immutable")
_NEVER = (b"cache-control", b"no-cache")
_ANYWHERE = (b"access-control-allow-origin", b"*")

_Answer = Callable[[str], Awaitable[Response]]


def ledger_mounts(ledger: StoredLedger, witnesses: Iterable[Witness]) -> list[Mount]:
    """Returns the mounts of the checkpoint, the tiles, the keys and the signatures.

    `witnesses`: those whose cosignatures are served.
    """
    files = _Files(ledger, witnesses)
    answers: dict[str, _Answer] = {
        CHECKPOINT_PATH: files.checkpoint,
        TILES_PATH: files.tile,
        SIGNATURES_PATH: files.signatures,
        KEYS_PATH: files.keys,
    }
    return [
        Mount(prefix + path, _app(answer, prefix), part=LEDGER_FILES)
        for prefix in _PREFIXES
        for path, answer in answers.items()
    ]


class _Files:
    def __init__(self, ledger: StoredLedger, witnesses: Iterable[Witness]) -> None:
        self._ledger = ledger
        self._witnesses = {witness.verifier_key for witness in witnesses}

    async def checkpoint(self, path: str) -> Response:
        """Answers with the newest block, and the cosignatures that it has."""

        def query(reads: LedgerReads) -> str | None:
            block = reads.last_block()
            if block is None:
                return None
            cosigned = (one for one in reads.cosignatures() if one.height == block.height)
            return block.note + "".join(
                one.line for one in cosigned if one.witness in self._witnesses
            )

        checkpoint = await self._ledger.read(query)
        if checkpoint is None:
            raise BlockNotFound("no block is sealed yet")
        return _file(checkpoint.encode(), b"text/plain; charset=utf-8", _NEVER)

    async def tile(self, path: str) -> Response:
        """Answers with hashes of a level, or with entries."""
        tile = parse_tile(path)
        if tile is None:
            raise RouteNotFound

        def query(reads: LedgerReads) -> bytes | None:
            if not tile.is_in(_sealed(reads.last_block())):
                return None
            if tile.level is None:
                return bundle(reads.bodies(tile.start, tile.start + tile.width))
            return b"".join(reads.nodes(tile.level, tile.start, tile.width))

        data = await self._ledger.read(query)
        if data is None:
            raise RouteNotFound("no block holds that much yet")
        return _file(data, b"application/octet-stream", _FOR_EVER)

    async def signatures(self, path: str) -> Response:
        """Answers with the signatures of the batches that begin in a tile of entries."""
        number = path.removeprefix(SIGNATURES_PATH)
        if not (number.isascii() and number.isdigit() and len(number) <= 12):
            raise RouteNotFound
        first = int(number) * TILE_WIDTH

        def query(reads: LedgerReads) -> list[dict[str, object]]:
            end = min(first + TILE_WIDTH, _sealed(reads.last_block()))
            return [
                {
                    "first_index": batch.first_index,
                    "size": batch.size,
                    "time": rfc3339(batch.stored_us),
                    "public_key": b64encode(batch.public_key).decode(),
                    "signature": b64encode(batch.signature).decode(),
                }
                for batch in reads.batches(first, end)
            ]

        body = orjson.dumps({"batches": await self._ledger.read(query)})
        return _file(body, b"application/json", _NEVER)

    async def keys(self, path: str) -> Response:
        """Answers with the public keys, the oldest first."""
        origin = self._ledger.origin
        keys = [
            {
                "public_key": b64encode(key.public_key).decode(),
                "verifier_key": verifier_key(origin, key.public_key),
                "created_at": rfc3339(key.created_us),
            }
            | ({"endorsement": b64encode(key.endorsement).decode()} if key.endorsement else {})
            for key in await self._ledger.read(LedgerReads.signing_keys)
        ]
        return _file(orjson.dumps({"origin": origin, "keys": keys}), b"application/json", _NEVER)


def _sealed(block: BlockRecord | None) -> int:
    return block.tree_size if block else 0


def _file(body: bytes, media_type: bytes, caching: tuple[bytes, bytes]) -> Response:
    headers = (
        (b"content-type", media_type),
        (b"content-length", b"%d" % len(body)),
        caching,
        _ANYWHERE,
    )
    return Response(200, headers, body)


def _app(answer: _Answer, prefix: str) -> AsgiApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        try:
            if method not in {"GET", "HEAD"}:
                raise MethodNotAllowed(["GET"])
            response = await answer(scope["path"].removeprefix(prefix))
        except Exception as error:
            response = error_response(error, f"{method} {scope['path']}")
        await send_response(send, response, with_body=method != "HEAD")

    return app
