from __future__ import annotations

import secrets
from asyncio import Future, get_running_loop
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network

import pytest

from aitbc_server.auth.gate import Gate
from aitbc_server.auth.keyring import Keyring
from aitbc_server.auth.mode import AuthMode
from aitbc_server.auth.peers import Peers
from aitbc_server.domain.caller import ANONYMOUS, Access, Caller, Role
from aitbc_server.domain.errors import InvalidApiKey, PermissionDenied, RateLimited, Unauthenticated
from aitbc_server.domain.keys import KeyRecord, new_key
from aitbc_server.domain.limits import UNLIMITED, Limits
from tests.factories import START_US, key_record

ANY_KEY = Access()
CLIENTS = Access(roles=frozenset({Role.CLIENT}))
MINERS = Access(roles=frozenset({Role.MINER}))
ADMINS = Access(roles=frozenset({Role.ADMIN}))
PUBLIC = Access(is_public=True)
PEER = "192.0.2.1"


class _Clock:
    now_us = START_US
    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

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

    def __init__(
        self, mode: AuthMode, limits: Limits = UNLIMITED, trusted: Sequence[IPv4Network] = ()
    ) -> None:
        self.keys, self.clock = _Keys(), _Clock()
        self.texts = {role: new_key(secrets.randbelow) for role in Role}
        self.records = {role: key_record(self.texts[role], role=role) for role in Role}
        self.keys.changes = list(self.records.values())
        self.ring = Keyring(self.keys, self.clock, limits)
        is_open = mode is AuthMode.OPEN
        self.gate = Gate(self.ring, self.clock, Peers(trusted), limits, is_open=is_open)

    def admit(self, access: Access, metadata: Mapping[str, str], peer: str = PEER) -> Caller:
        return self.gate.admit(access, metadata, peer)

    def admit_role(self, role: Role, access: Access = ANY_KEY) -> Caller:
        return self.admit(access, {"x-api-key": self.texts[role]})


@pytest.fixture(params=list(AuthMode))
def door(request: pytest.FixtureRequest) -> _Door:
    return _Door(request.param)


def test_a_key_calls_for_its_address_with_its_role(door: _Door) -> None:
    caller = door.admit_role(Role.CLIENT)
    record = door.records[Role.CLIENT]
    expected = Caller(
        owner=record.owner, role=Role.CLIENT, key_id=record.key_id, account=record.owner
    )
    assert caller == expected


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


def _calls_until_limited(door: _Door, metadata: Mapping[str, str], peer: str = PEER) -> int:
    for calls in range(1000):
        try:
            door.admit(ANY_KEY, metadata, peer)
        except RateLimited:
            return calls
    raise AssertionError("no call was refused")


def test_calls_are_counted_for_each_key_and_for_each_address_without_one() -> None:
    door = _Door(AuthMode.OPEN, Limits(requests_per_second=2, burst=3))
    for role in Role:
        assert _calls_until_limited(door, {"x-api-key": door.texts[role]}) == 3
    assert _calls_until_limited(door, {}) == 3
    assert _calls_until_limited(door, {}, "192.0.2.2") == 3
    door.clock.now_s += 1
    assert _calls_until_limited(door, {}) == 2


def test_a_refusal_tells_the_limit_and_when_to_come_back() -> None:
    door = _Door(AuthMode.OPEN, Limits(requests_per_second=2, burst=3))
    _calls_until_limited(door, {})
    with pytest.raises(RateLimited, match="2 a second are allowed, and 3 at once") as raised:
        door.admit(ANY_KEY, {})
    assert raised.value.retry_after_s == pytest.approx(0.5)
    assert raised.value.quota == ("requests", 3, 2)


def test_guesses_of_keys_are_counted_for_their_address() -> None:
    door = _Door(AuthMode.REQUIRED, Limits(requests_per_second=1, burst=5))
    refusals = []
    for number in range(7):
        with pytest.raises((InvalidApiKey, RateLimited)) as raised:
            door.admit(ANY_KEY, {"x-api-key": f"guess-{number}"})
        refusals.append(raised.type)
    assert refusals == [InvalidApiKey] * 5 + [RateLimited] * 2
    # Whoever has a key is not held up by those who have none.
    assert door.admit_role(Role.CLIENT).role is Role.CLIENT


def test_probes_are_not_counted() -> None:
    door = _Door(AuthMode.REQUIRED, Limits(requests_per_second=1, burst=1))
    for _ in range(10):
        door.admit(Access(is_public=True, is_unlimited=True), {})
    door.admit(PUBLIC, {})
    with pytest.raises(RateLimited):
        door.admit(PUBLIC, {})


def test_a_key_may_have_limits_of_its_own(door: _Door) -> None:
    text = door.texts[Role.CLIENT]
    own = {"requests_per_second": 0.5, "burst": 1}
    door.keys.changes = [key_record(text, limits=own)]
    assert _calls_until_limited(door, {"x-api-key": text}) == 1
    door.keys.changes = [key_record(text)]
    for _ in range(10):
        door.admit_role(Role.CLIENT)


def test_callers_behind_a_trusted_proxy_are_told_apart() -> None:
    limits = Limits(requests_per_second=1, burst=2)
    door = _Door(AuthMode.OPEN, limits, [IPv4Network("192.0.2.0/24")])
    first, second = ({"x-forwarded-for": f"203.0.113.{number}"} for number in (1, 2))
    assert _calls_until_limited(door, first) == 2
    assert _calls_until_limited(door, second) == 2
    # What a caller writes itself stands left of what the proxy heard.
    lied = {"x-forwarded-for": "203.0.113.9, 203.0.113.1"}
    assert _calls_until_limited(door, lied) == 0
    # And nobody else is believed.
    assert _calls_until_limited(door, {"x-forwarded-for": "203.0.113.9"}, "198.51.100.1") == 2
    assert _calls_until_limited(door, {"x-forwarded-for": "203.0.113.10"}, "198.51.100.1") == 0
