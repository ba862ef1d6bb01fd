from __future__ import annotations

from ipaddress import ip_network

import pytest

from aitbc_server.auth.peers import Peers

PROXIES = Peers([ip_network("10.0.0.0/8"), ip_network("127.0.0.1/32"), ip_network("fd00::/8")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "account"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "203.0.113.1", "192.0.2.1"),
        ("10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "203.0.113.1, 10.9.9.9", "203.0.113.1"),
        ("10.0.0.1", "198.51.100.7, 203.0.113.1,10.9.9.9", "203.0.113.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.1, nonsense", "10.0.0.1"),
        ("::ffff:10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("fd00::1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", None, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", None, "2001:db8:1:2::/64"),
        ("", None, ""),
    ],
)
def test_a_call_is_counted_for_whoever_made_it(
    peer: str, forwarded: str | None, account: str
) -> None:
    metadata = {} if forwarded is None else {"x-forwarded-for": forwarded}
    assert PROXIES.account(peer, metadata) == account


def test_no_header_is_believed_where_no_proxy_is_trusted() -> None:
    assert Peers(()).account("127.0.0.1", {"x-forwarded-for": "203.0.113.1"}) == "127.0.0.1"
