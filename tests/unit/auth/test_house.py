"""Calls without a key come from this house, or are refused."""

from __future__ import annotations

import pytest

from aitbc_server.auth.house import House
from aitbc_server.domain.caller import Access
from aitbc_server.domain.errors import ForeignPage

ANY, PROGRAMS = Access(), Access(is_for_programs=True)
HERE = {"host": "localhost:8080"}
OWN = {**HERE, "origin": "http://localhost:8080", "sec-fetch-site": "same-origin"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        HERE,
        OWN,
        *({"host": host} for host in ("127.0.0.1:1", "[::1]:8080", "LOCALHOST", "a.localhost.")),
        *({"host": host} for host in ("127.8.8.8", "[::ffff:127.0.0.1]:8080", "192.0.2.7:8080")),
        {"host": "box.lan:8080"},
        {**HERE, "sec-fetch-site": "none"},
        {**HERE, "origin": "https://app.example", "sec-fetch-site": "cross-site"},
        # gRPC, by way of a gateway.
        {"x-forwarded-for": "192.0.2.1"},
    ],
)
def test_taken(headers: dict[str, str]) -> None:
    House(["Box.lan", "192.0.2.7"], ["https://app.example"], is_local=True).check(ANY, headers)


@pytest.mark.parametrize(
    "headers",
    [
        *({"host": host} for host in ("rebind.test", "evil.test:8080", "localhost.evil.test", "")),
        *({"host": host} for host in ("notlocalhost", "127.0.0.1.evil.test", "127.1")),
        *({"host": host} for host in ("8.8.8.8", "192.0.2.1:8080", "[2001:db8::1]", "0.0.0.1")),
        *({"host": host} for host in ("[::ffff:8.8.8.8]:8080", "[::]")),
        *(
            {**HERE, "origin": origin}
            for origin in (
                "http://evil.test",
                "null",
                "http://localhost:9",
                "http://127.0.0.1:8080",
            )
        ),
        *({**HERE, "sec-fetch-site": site} for site in ("cross-site", "same-site")),
        {**OWN, "sec-fetch-site": "cross-site"},
        {"origin": "http://evil.test"},
        *(
            {**HERE, name: "x"}
            for name in (
                *("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port"),
                *("x-real-ip", "x-client-ip", "cf-connecting-ip", "true-client-ip"),
            )
        ),
    ],
)
def test_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ForeignPage):
        House(["box.lan"], ["https://app.example"], is_local=True).check(ANY, headers)


@pytest.mark.parametrize("host", ["192.0.2.1:8080", "[2001:db8::1]"])
def test_where_others_get_here_an_address_leads_here(host: str) -> None:
    # No page can have one that leads elsewhere for a name of its own.
    House().check(ANY, {"host": host})


def test_trusted_proxies_may_forward() -> None:
    House(has_proxies=True).check(ANY, {**HERE, "x-forwarded-for": "192.0.2.1"})


def test_what_sends_on_what_others_ask_is_for_programs() -> None:
    House(origins=["*"]).check(PROGRAMS, HERE)
    for headers in (OWN, {**HERE, "origin": "https://app.example"}):
        with pytest.raises(ForeignPage):
            House(origins=["*"]).check(PROGRAMS, headers)
