"""Settings as operators write them."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from aitbc_server.config import Settings

# Everything comes from the environment.
NOTHING: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("cors_origins", "https://a.example, http://localhost:3000", 2),
        ("cors_origins", "*", ("*",)),
        ("cors_origins", "", ()),
        ("webhook_ports", "80,9000", (80, 9000)),
        ("webhook_retry_seconds", "0.5, 60", (0.5, 60.0)),
        ("webhook_allow_networks", "127.0.0.0/8", (ip_network("127.0.0.0/8"),)),
    ],
)
def test_lists_are_written_with_commas(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any
) -> None:
    monkeypatch.setenv(f"AITBC_{name.upper()}", text)
    found = getattr(Settings(**NOTHING), name)
    assert (len(found) if isinstance(value, int) else found) == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("45s", 45), ("1.5h", 5_400), (" 30d ", 2_592_000), ("2w", 1_209_600)],
)
def test_a_duration_is_written_with_its_unit(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    assert Settings(**NOTHING).job_retention == 0
    monkeypatch.setenv("AITBC_JOB_RETENTION", text)
    assert Settings(**NOTHING).job_retention == seconds


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("job_retention", "30"),
        ("job_retention", "30 days"),
        ("job_retention", "-1d"),
        ("job_retention", "0.5s"),
        ("job_retention", "99999w"),
        ("job_retention", ""),
        ("cors_origins", "app.example"),
        ("cors_origins", "https://app.example/"),
        ("cors_origins", "https://APP.example"),
        ("webhook_ports", "http"),
        ("webhook_allow_networks", "10.0.0.1/8"),
        ("webhook_allow_networks", "intranet"),
        ("webhook_retry_seconds", "-1"),
        ("tls_cert", "cert.pem"),
    ],
)
def test_a_wrong_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"AITBC_{name.upper()}", text)
    with pytest.raises(ValidationError):
        Settings(**NOTHING)
