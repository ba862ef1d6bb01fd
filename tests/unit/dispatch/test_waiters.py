"""Calls that wait for the same thing are each told for themselves."""

from __future__ import annotations

import asyncio

import pytest

from aitbc_server.dispatch.waiters import Waiters
from aitbc_server.domain.errors import StorageBusy, StorageUnavailable
from tests.factories import begin


@pytest.mark.parametrize("kind", [StorageUnavailable, StorageBusy])
async def test_each_call_has_an_error_of_its_own(kind: type[StorageUnavailable]) -> None:
    waiters = Waiters()
    begins = [begin("job-1"), begin("job-2")]
    calls = [asyncio.create_task(waiters.begun(one.lease_id)) for one in begins]
    await asyncio.sleep(0)
    waiters.tell_begun(begins, kind(retry_after_s=7))
    first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert first is not second
    for error in (first, second):
        assert type(error) is kind
        assert (str(error), error.retry_after_s) == (kind.message, 7)
