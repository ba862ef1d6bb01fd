"""Receivers can verify what is signed."""

from __future__ import annotations

import time

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from aitbc_server.webhooks.signing import new_secret, secret_text, signed_headers

BODY = '{"type":"job.completed","data":{"result":"naïve"}}'.encode()


def _headers(*keys: bytes, now_s: int | None = None) -> dict[str, str]:
    moment = int(time.time()) if now_s is None else now_s
    signed = signed_headers(keys, "msg-1", moment, BODY)
    return {name.decode(): value.decode() for name, value in signed}


def test_each_of_the_keys_verifies() -> None:
    keys = new_secret(), new_secret()
    headers = _headers(*keys)
    for key in keys:
        assert Webhook(secret_text(key)).verify(BODY, headers)["type"] == "job.completed"


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_what_is_changed_does_not_verify(name: str) -> None:
    key = new_secret()
    headers = _headers(key)
    changed = headers | {name: headers[name] + "1" if name == "webhook-id" else "1"}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(key)).verify(BODY, changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(key)).verify(BODY + b" ", headers)


def test_a_secret_has_the_length_that_the_specification_asks_for() -> None:
    assert 24 <= len(new_secret()) <= 64
