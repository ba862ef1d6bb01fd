"""Messages go to public addresses only, however the address is written."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from aitbc_server.webhooks.guard import Guard, NameNotFound, Refused, target_port


async def _nowhere(host: str, port: int) -> Sequence[str]:
    raise OSError(f"no {host}:{port}")


def guard(*addresses: str, allowed: Sequence[str] = ()) -> Guard:
    """Returns a guard in whose world every name has these addresses."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return Guard(
        allowed=[ip_network(text) for text in allowed],
        resolve=resolve if addresses else _nowhere,
    )


PRIVATE = [
    "127.0.0.1",
    "127.255.0.9",
    "0.0.0.0",  # noqa: S104 - an address to refuse
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PRIVATE)
async def test_what_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(Refused, match="not a public address"):
        await guard(address).addresses("name.example", 443)


@pytest.mark.parametrize("address", PRIVATE)
async def test_nobody_learns_which_address_a_name_has(address: str) -> None:
    with pytest.raises(Refused) as caught:
        await guard(address).addresses("name.example", 443)
    with pytest.raises(Refused) as of_another:
        await guard("10.9.8.7").addresses("name.example", 443)
    assert str(caught.value) == str(of_another.value)


@pytest.mark.parametrize("address", [a for a in PRIVATE if "%" not in a])
async def test_it_is_refused_as_a_literal_too(address: str) -> None:
    with pytest.raises(Refused):
        await guard("8.8.8.8").addresses(address, 443)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
async def test_what_is_public_is_not_refused(address: str) -> None:
    assert await guard(address).addresses("name.example", 443) == [address]


async def test_of_mixed_addresses_the_public_ones_are_used() -> None:
    found = await guard("10.0.0.1", "8.8.8.8", "8.8.8.8").addresses("name.example", 443)
    assert found == ["8.8.8.8"]


async def test_an_allowed_network_may_be_reached_at_any_port() -> None:
    allowing = guard("10.1.2.3", allowed=["10.1.0.0/16", "::1/128"])
    assert await allowing.addresses("name.example", 9000) == ["10.1.2.3"]
    assert await allowing.addresses("::ffff:10.1.0.1", 1) == ["::ffff:a01:1"]
    assert await allowing.addresses("::1", 1) == ["::1"]
    with pytest.raises(Refused):
        await allowing.addresses("10.2.0.1", 443)


@pytest.mark.parametrize("port", [22, 25, 6379, 8000])
async def test_another_port_is_refused(port: int) -> None:
    with pytest.raises(Refused, match=f"port {port} is not allowed"):
        await guard("8.8.8.8").addresses("name.example", port)


async def test_a_name_without_address_is_not_found() -> None:
    with pytest.raises(NameNotFound):
        await guard().addresses("name.example", 443)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://name.example/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://name.example/", "https://"),
        ("//name.example/", "https://"),
        ("/hook", "https://"),
        ("https://", "https://"),
        ("https:///hook", "https://"),
        ("https://user@name.example/", "user or password"),
        ("https://user:pass@name.example/", "user or password"),
        ("https://name.example:99999/", "port"),
        ("https://name.example:0/", "port"),
        ("https://name.example/\n", "not a URL"),
        ("https://[::1/", "not a URL"),
        ("https://name.example/#part", "fragment"),
        ("", "https://"),
    ],
)
def test_a_url_that_cannot_be_posted_to_is_refused(url: str, problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        guard("8.8.8.8").check_url(url)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://your-app.com/webhook", "your-app.com", 443),
        ("http://name.example", "name.example", 80),
        ("HTTPS://NAME.example:8443/a?b=c", "name.example", 8443),
        ("https://[2606:4700::1111]/", "2606:4700::1111", 443),
    ],
)
def test_a_url_tells_host_and_port(url: str, host: str, port: int) -> None:
    parsed = guard("8.8.8.8").check_url(url)
    assert (parsed.host, target_port(parsed)) == (host, port)
