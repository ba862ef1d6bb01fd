from __future__ import annotations

import secrets
from asyncio import Future, get_running_loop
from collections.abc import Mapping, Sequence

import pytest

from aitbc_server.auth.gate import Gate
from aitbc_server.auth.keyring import Keyring
from aitbc_server.config import AuthMode
from aitbc_server.domain.caller import ANONYMOUS, Access, Caller, Role
from aitbc_server.domain.errors import InvalidApiKey, PermissionDenied, Unauthenticated
from aitbc_server.domain.keys import KeyRecord, new_key
from tests.factories import START_US, key_record

ANY_KEY = Access()
CLIENTS = Access(roles=frozenset({Role.CLIENT}))
MINERS = Access(roles=frozenset({Role.MINER}))
ADMINS = Access(roles=frozenset({Role.ADMIN}))
PUBLIC = Access(is_public=True)
PEER = "192.0.2.1"


class _Clock:
    now_us = START_US

    def monotonic(self) -> float:
        return 0.0

    def wall_us(self) -> int:
        return self.now_us


class _Keys:
    """A KeyStore whose changes the test makes."""

    def __init__(self) -> None:
        self.changes: list[KeyRecord] = []
        self.reads = 0
        self.uses: list[tuple[str, int]] = []

    def has_changed(self) -> bool:
        return bool(self.changes)

    def changed_keys(self) -> Sequence[KeyRecord]:
        self.reads += 1
        changes, self.changes = self.changes, []
        return changes

    def note_uses(self, uses: Sequence[tuple[str, int]]) -> Future[None]:
        self.uses.extend(uses)
        stored: Future[None] = get_running_loop().create_future()
        stored.set_result(None)
        return stored


class _Door:
    """A gate with one key of each role."""

    def __init__(self, mode: AuthMode) -> None:
        self.keys, self.clock = _Keys(), _Clock()
        self.texts = {role: new_key(secrets.randbelow) for role in Role}
        self.records = {role: key_record(self.texts[role], role=role) for role in Role}
        self.keys.changes = list(self.records.values())
        self.ring = Keyring(self.keys, self.clock)
        self.gate = Gate(mode, self.ring)

    def admit(self, access: Access, metadata: Mapping[str, str]) -> Caller:
        return self.gate.admit(access, metadata, PEER)

    def admit_role(self, role: Role, access: Access = ANY_KEY) -> Caller:
        return self.admit(access, {"x-api-key": self.texts[role]})


@pytest.fixture(params=list(AuthMode))
def door(request: pytest.FixtureRequest) -> _Door:
    return _Door(request.param)


def test_a_key_calls_for_its_address_with_its_role(door: _Door) -> None:
    caller = door.admit_role(Role.CLIENT)
    record = door.records[Role.CLIENT]
    assert caller == Caller(owner=record.owner, role=Role.CLIENT, key_id=record.key_id)


def test_without_a_key_open_is_for_all_but_admins() -> None:
    door = _Door(AuthMode.OPEN)
    for access in (ANY_KEY, CLIENTS, MINERS, PUBLIC):
        assert door.admit(access, {}).owner == ANONYMOUS
    with pytest.raises(Unauthenticated):
        door.admit(ADMINS, {})


def test_without_a_key_required_is_for_what_is_public() -> None:
    door = _Door(AuthMode.REQUIRED)
    assert door.admit(PUBLIC, {}).owner == ANONYMOUS
    for access in (ANY_KEY, CLIENTS, MINERS, ADMINS):
        with pytest.raises(Unauthenticated):
            door.admit(access, {})


def test_a_role_calls_what_it_is_for_and_an_admin_everything(door: _Door) -> None:
    refused = {(Role.CLIENT, MINERS), (Role.MINER, CLIENTS)}
    refused |= {(role, ADMINS) for role in (Role.CLIENT, Role.MINER)}
    for role in Role:
        for access in (ANY_KEY, CLIENTS, MINERS, ADMINS):
            if (role, access) in refused:
                with pytest.raises(PermissionDenied, match=rf"the role of this key is {role}"):
                    door.admit_role(role, access)
            else:
                assert door.admit_role(role, access).role is role


@pytest.mark.parametrize(
    "metadata",
    [
        {"x-api-key": "{key}"},
        {"authorization": "Bearer {key}"},
        {"authorization": "bearer  {key} "},
        {"x-api-key": "{key}", "authorization": "Bearer nonsense"},
        {"x-api-key": "", "authorization": "Bearer {key}"},
    ],
)
def test_a_key_comes_in_either_header(door: _Door, metadata: dict[str, str]) -> None:
    key = door.texts[Role.CLIENT]
    filled = {name: value.replace("{key}", key) for name, value in metadata.items()}
    assert door.admit(ANY_KEY, filled).role is Role.CLIENT


@pytest.mark.parametrize("headers", [{"x-api-key": ""}, {"authorization": "Basic dTpw"}, {}])
def test_no_key_is_no_key(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated) as raised:
        _Door(AuthMode.REQUIRED).admit(ANY_KEY, headers)
    assert not isinstance(raised.value, InvalidApiKey)


def test_a_wrong_key_is_refused_in_either_mode_and_says_no_more_than_it_may(door: _Door) -> None:
    key = door.texts[Role.CLIENT]
    wrong = {
        "nonsense": "mistyped",
        key[:-1] + ("a" if key[-1] != "a" else "b"): "mistyped",
        key + "x": "mistyped",
        new_key(secrets.randbelow): "not valid",
        key[:19] + "\udcff": "mistyped",
        "é" * 57: "mistyped",
    }
    for text, problem in wrong.items():
        with pytest.raises(InvalidApiKey, match=problem):
            door.admit(ANY_KEY, {"x-api-key": text})


def test_a_key_that_ended_is_told_why(door: _Door) -> None:
    caller = door.admit_role(Role.CLIENT)
    door.keys.changes = [key_record(door.texts[Role.CLIENT], revoked_us=START_US)]
    with pytest.raises(InvalidApiKey, match="was revoked"):
        door.admit_role(Role.CLIENT)
    with pytest.raises(InvalidApiKey, match="was revoked"):
        door.gate.check_live(caller)


def test_a_key_expires_on_the_clock(door: _Door) -> None:
    text = door.texts[Role.MINER]
    door.keys.changes = [key_record(text, role=Role.MINER, expires_us=START_US + 5)]
    caller = door.admit_role(Role.MINER)
    door.gate.check_live(caller)
    door.clock.now_us += 5
    with pytest.raises(InvalidApiKey, match="has expired"):
        door.admit_role(Role.MINER)
    with pytest.raises(InvalidApiKey, match="has expired"):
        door.gate.check_live(caller)


def test_a_new_key_is_known_to_the_next_call(door: _Door) -> None:
    text = new_key(secrets.randbelow)
    with pytest.raises(InvalidApiKey):
        door.admit(ANY_KEY, {"x-api-key": text})
    door.keys.changes = [key_record(text)]
    assert door.admit(ANY_KEY, {"x-api-key": text}).role is Role.CLIENT


def test_keys_are_read_when_they_change_and_never_for_a_call(door: _Door) -> None:
    reads = door.keys.reads
    for _ in range(100):
        door.admit_role(Role.CLIENT)
    assert door.keys.reads == reads


async def test_uses_are_stored_together(door: _Door) -> None:
    for _ in range(3):
        door.admit_role(Role.CLIENT)
        door.clock.now_us += 7
    door.admit_role(Role.ADMIN)
    assert door.keys.uses == []
    await door.ring.stop()
    assert dict(door.keys.uses) == {
        door.records[Role.CLIENT].key_id: START_US + 14,
        door.records[Role.ADMIN].key_id: START_US + 21,
    }
