"""MinerService: registration and discovery. Its stream, Work, is in work.py."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from aitbc.v1 import miners_pb2, work_pb2
from aitbc_server.api.convert import (
    TASK_TO_PROTO,
    page_start,
    page_token,
    set_timestamp,
    timestamp,
)
from aitbc_server.api.miner_keys import check_key
from aitbc_server.api.pages import Room
from aitbc_server.dispatch.live import Now, Session
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.miners import MinerRecord, MinerStatus, check_models, owner_of
from aitbc_server.domain.tasks import ModelInfo
from aitbc_server.ledger.receipts import miner_address
from aitbc_server.lifecycle import Lifecycle

_PAGE = 20
# Miners looked at for one page: few of many may be in the status asked for.
_MOST_LOOKED_AT = 1_000
_STATUS = {
    status: miners_pb2.MinerStatus.Value(f"MINER_STATUS_{status.name}") for status in MinerStatus
}


class MinerService:
    """Implements the unary methods of aitbc.v1.MinerService."""

    descriptor = miners_pb2.DESCRIPTOR.services_by_name["MinerService"]

    def __init__(self, dispatcher: Dispatcher, lifecycle: Lifecycle) -> None:
        self._dispatcher = dispatcher
        self._lifecycle = lifecycle

    async def register_miner(
        self, request: miners_pb2.RegisterMinerRequest, caller: Caller
    ) -> miners_pb2.RegisterMinerResponse:
        """Registers a miner, or updates what it said before."""
        self._lifecycle.check_serving()
        check_models("capabilities", request.capabilities, caller)
        now = self._dispatcher.now()
        known = self._dispatcher.registry.find(request.miner_id)
        check_key(known, request.public_key, request.endorsement, caller)
        record = MinerRecord(
            miner_id=request.miner_id,
            models=tuple(dict.fromkeys(request.capabilities)),
            gpu_info=request.gpu_info.SerializeToString() if request.HasField("gpu_info") else None,
            public_key=request.public_key or (known.public_key if known else b""),
            agent_version=known.agent_version if known else "",
            registered_us=known.registered_us if known else now.wall_us,
            owner=owner_of(known, caller),
            seen_us=now.wall_us,
            has_proved=known is not None and known.has_proved,
        )
        await self._dispatcher.register(record, most=caller.limits.miners)
        response = miners_pb2.RegisterMinerResponse(
            miner_id=record.miner_id,
            status=_STATUS[self._dispatcher.registry.status(record.miner_id, now)],
            registered_at=timestamp(record.registered_us),
        )
        if known:
            set_timestamp(response.updated_at, now.wall_us)
        return response

    async def get_miner(
        self, request: miners_pb2.GetMinerRequest, caller: Caller
    ) -> miners_pb2.Miner:
        """Returns a miner."""
        record = self._dispatcher.registry.get(request.miner_id)
        return self._message(record, self._dispatcher.now())

    async def list_miners(
        self, request: miners_pb2.ListMinersRequest, caller: Caller
    ) -> miners_pb2.ListMinersResponse:
        """Returns a page of miners."""
        now = self._dispatcher.now()
        registry = self._dispatcher.registry
        limit = request.limit if request.HasField("limit") else _PAGE
        response, room = miners_pb2.ListMinersResponse(), Room()
        ids = registry.ids(request.model)
        start = bisect_right(ids, page_start(request.page_token) or "")
        for place in range(start, len(ids)):
            is_full = len(response.miners) == limit or place == start + _MOST_LOOKED_AT
            if not is_full and request.status in (0, _STATUS[registry.status(ids[place], now)]):
                miner = self._message(registry.get(ids[place]), now)
                if room.takes(miner):
                    response.miners.append(miner)
                else:
                    is_full = True
            if is_full:
                response.next_page_token = page_token(ids[place - 1])
                break
        return response

    async def delete_miner(
        self, request: miners_pb2.DeleteMinerRequest, caller: Caller
    ) -> miners_pb2.DeleteMinerResponse:
        """Removes a miner that is gone."""
        self._lifecycle.check_serving()
        await self._dispatcher.remove_miner(request.miner_id, caller)
        return miners_pb2.DeleteMinerResponse()

    async def drain_miner(
        self, request: miners_pb2.DrainMinerRequest, caller: Caller
    ) -> miners_pb2.Miner:
        """Gives a miner nothing new."""
        return await self._drain(request.miner_id, drains=True)

    async def resume_miner(
        self, request: miners_pb2.ResumeMinerRequest, caller: Caller
    ) -> miners_pb2.Miner:
        """Lets a drained miner take work again."""
        return await self._drain(request.miner_id, drains=False)

    async def _drain(self, miner_id: str, *, drains: bool) -> miners_pb2.Miner:
        await self._dispatcher.drain(miner_id, drains=drains)
        return self._message(self._dispatcher.registry.get(miner_id), self._dispatcher.now())

    def _message(self, record: MinerRecord, now: Now) -> miners_pb2.Miner:
        core, registry = self._dispatcher.core, self._dispatcher.registry
        session = core.sessions.by_miner.get(record.miner_id)
        miner = miners_pb2.Miner(
            miner_id=record.miner_id,
            status=_STATUS[registry.status(record.miner_id, now)],
            models=session.models if session else record.models,
            running_jobs=core.leases.held_by(record.miner_id),
            registered_at=timestamp(record.registered_us),
            agent_version=record.agent_version,
            public_key=record.public_key,
            address=miner_address(record.miner_id),
        )
        if record.gpu_info is not None:
            miner.gpu_info.CopyFrom(work_pb2.GpuInfo.FromString(record.gpu_info))
        if session is not None:
            miner.max_outstanding_jobs = session.window
            miner.pauses.extend(_pauses(session, now))
            miner.model_infos.extend(_info(*item) for item in session.infos.items())
            if session.load is not None:
                miner.load.CopyFrom(work_pb2.Load.FromString(session.load))
        if record.drained_us is not None:
            set_timestamp(miner.drained_at, record.drained_us)
        last_seen_us = registry.last_seen_us(record.miner_id, now)
        if last_seen_us is not None:
            set_timestamp(miner.last_seen, last_seen_us)
        return miner


def _info(model: str, info: ModelInfo) -> work_pb2.ModelInfo:
    tasks = [TASK_TO_PROTO[task] for task in info.tasks]
    return work_pb2.ModelInfo(model=model, max_model_len=info.max_model_len, tasks=tasks)


def _pauses(session: Session, now: Now) -> Iterator[miners_pb2.MinerPause]:
    for model, pause in session.pauses.items():
        if not pause.is_trial:
            until_us = now.wall_us + int((pause.until - now.mono) * 1e6)
            yield miners_pb2.MinerPause(
                model=model, code=pause.code, message=pause.message, until=timestamp(until_us)
            )
