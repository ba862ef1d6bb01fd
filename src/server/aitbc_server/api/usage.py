"""UsageService: what was used, told to whose it is."""

from __future__ import annotations

from asyncio import Future
from datetime import UTC, date, datetime
from typing import Protocol

from aitbc.v1 import usage_pb2
from aitbc_server.api.convert import page_token
from aitbc_server.api.pages import page_of
from aitbc_server.domain.caller import Caller, Role
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.keys import key_address
from aitbc_server.domain.prices import decimal
from aitbc_server.domain.usage import DAY_US, Usage, UsageQuery

_PAGE = 1000
_DAYS = 30
_EPOCH = date(1970, 1, 1).toordinal()


class UsageStore(Protocol):
    """What is needed of storage."""

    def usage(self, query: UsageQuery) -> Future[list[Usage]]:
        """Returns a page of usage."""
        ...


class KeyIds(Protocol):
    """Tells keys by their addresses."""

    def key_id_of(self, owner: str) -> str | None:
        """Returns the id of the key whose address this is."""
        ...


class UsageService:
    """Implements aitbc.v1.UsageService."""

    descriptor = usage_pb2.DESCRIPTOR.services_by_name["UsageService"]

    def __init__(self, store: UsageStore, keys: KeyIds, clock: Clock, currency: str) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._currency = currency

    async def get_usage(
        self, request: usage_pb2.GetUsageRequest, caller: Caller
    ) -> usage_pb2.GetUsageResponse:
        """Returns a page of the usage that the caller may see."""
        limit = request.limit if request.HasField("limit") else _PAGE
        query = self._query(request, caller, limit + 1)
        rows = await self._store.usage(query)
        page = page_of(rows, limit, lambda row: self._row(row, query))
        return usage_pb2.GetUsageResponse(
            usage=page.items,
            next_page_token=_token(page.last) if page.last else "",
            currency=self._currency,
        )

    def _query(self, request: usage_pb2.GetUsageRequest, caller: Caller, limit: int) -> UsageQuery:
        today = self._clock.wall_us() // DAY_US
        last = _day(request.until) if request.until else today
        groups = set(request.group_by)
        owner = key_address(request.key_id) if request.key_id else None
        is_miner = caller.role is Role.MINER
        if not is_miner and caller.role is not Role.ADMIN:
            # Another's key: nothing of it is the caller's.
            owner = caller.owner if owner in (None, caller.owner) else ""
        by_owner = not groups or usage_pb2.USAGE_DIMENSION_KEY in groups
        return UsageQuery(
            first_day=_day(request.since) if request.since else last - _DAYS,
            last_day=last,
            # Whose jobs a miner did is not the miner's to know.
            owner=None if is_miner else owner,
            model=request.model or None,
            miner_id=request.miner_id or None,
            miner_owner=caller.owner if is_miner else None,
            by_day=not groups or usage_pb2.USAGE_DIMENSION_DAY in groups,
            by_owner=by_owner and not is_miner,
            by_model=not groups or usage_pb2.USAGE_DIMENSION_MODEL in groups,
            by_miner=not groups or usage_pb2.USAGE_DIMENSION_MINER in groups,
            after=_place(request.page_token) if request.page_token else (-1, "", "", ""),
            limit=limit,
        )

    def _row(self, usage: Usage, query: UsageQuery) -> usage_pb2.UsageRow:
        return usage_pb2.UsageRow(
            day=_shown(usage.day) if query.by_day else "",
            key_id=self._keys.key_id_of(usage.owner) or "",
            address=usage.owner,
            model=usage.model,
            miner_id=usage.miner_id,
            submitted=usage.submitted,
            completed=usage.completed,
            failed=usage.failed,
            cancelled=usage.cancelled,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            price=decimal(usage.price),
        )


def _day(text: str) -> int:
    return date.fromisoformat(text).toordinal() - _EPOCH


def _shown(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_US / 1e6, UTC).strftime("%Y-%m-%d")


def _token(last: Usage) -> str:
    day, owner, model, miner_id = last.place
    return page_token(f"{day}-{owner}-{model.encode().hex()}-{miner_id.encode().hex()}")


def _place(token: str) -> tuple[int, str, str, str]:
    _, day, owner, model, miner_id = token.split("-")
    return int(day), owner, _text(model), _text(miner_id)


def _text(digits: str) -> str:
    return bytes.fromhex(digits).decode(errors="replace")
