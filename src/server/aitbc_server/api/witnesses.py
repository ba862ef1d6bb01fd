"""WitnessService: cosignatures of the ledger's checkpoints."""

from __future__ import annotations

from collections.abc import Iterable

from aitbc.v1 import witnesses_pb2
from aitbc_server.api.convert import timestamp
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.domain.receipts import Cosignature
from aitbc_server.ledger import note
from aitbc_server.ledger.blocks import Block, parse_block
from aitbc_server.ledger.cosignatures import Witness, cosigned_at, line_of
from aitbc_server.store.ledger import StoredLedger
from aitbc_server.store.ledger_reads import LedgerReads

_SECOND_US = 1_000_000
# The year 9999: what a timestamp can tell.
_LATEST_S = 253_402_300_799


class WitnessService:
    """Implements aitbc.v1.WitnessService."""

    descriptor = witnesses_pb2.DESCRIPTOR.services_by_name["WitnessService"]

    def __init__(self, ledger: StoredLedger, witnesses: Iterable[Witness]) -> None:
        """`witnesses`: those whose cosignatures are taken and served."""
        self._ledger = ledger
        self._witnesses = {witness.verifier_key: witness for witness in witnesses}

    async def list_cosignatures(
        self, request: witnesses_pb2.ListCosignaturesRequest, caller: Caller
    ) -> witnesses_pb2.ListCosignaturesResponse:
        """Returns what each witness cosigned last."""
        kept = await self._ledger.read(LedgerReads.cosignatures)
        return witnesses_pb2.ListCosignaturesResponse(
            cosignatures=[_message(one) for one in kept if one.witness in self._witnesses]
        )

    async def add_cosignature(
        self, request: witnesses_pb2.AddCosignatureRequest, caller: Caller
    ) -> witnesses_pb2.Cosignature:
        """Keeps a cosignature."""
        try:
            signed = note.parse(request.checkpoint)
            block = parse_block(signed.text)
        except ValueError as error:
            raise InvalidArgument("checkpoint", str(error)) from error
        witness, time_s = self._cosigner(signed)
        stored = await self._ledger.read(lambda reads: reads.block_by_hash(block.hash))
        if stored is None:
            raise InvalidArgument("checkpoint", f"is not block {block.height} of this ledger")
        cosignature = Cosignature(
            witness=witness.verifier_key,
            height=stored.height,
            time_s=time_s,
            line=line_of(signed, witness),
            note=stored.note,
        )
        await self._ledger.keep_cosignature(cosignature)
        return _message(cosignature, block)

    def _cosigner(self, signed: note.Note) -> tuple[Witness, int]:
        for witness in self._witnesses.values():
            time_s = cosigned_at(signed, witness)
            if time_s is not None and time_s <= _LATEST_S:
                return witness, time_s
        raise InvalidArgument(
            "checkpoint", "is not cosigned by a witness that AITBC_LEDGER_WITNESSES names"
        )


def _message(one: Cosignature, block: Block | None = None) -> witnesses_pb2.Cosignature:
    block = block or parse_block(note.parse(one.note).text)
    return witnesses_pb2.Cosignature(
        witness=one.witness,
        height=one.height,
        tree_size=block.tree_size,
        cosigned_at=timestamp(one.time_s * _SECOND_US),
        checkpoint=one.note + one.line,
    )
