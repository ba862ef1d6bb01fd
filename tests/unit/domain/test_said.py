from __future__ import annotations

import pytest

from aitbc_client.terminal import harmless as of_client
from aitbc_client.terminal import harmless_line
from aitbc_miner.terminal import harmless as of_miner
from aitbc_server.domain.said import harmless, said_code, said_message


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("OOM", "OOM"),
        ("ENGINE_2_FAILED", "ENGINE_2_FAILED"),
        ("", "MINER_FAILED"),
        ("oom", "MINER_FAILED"),
        ("OOM\n", "MINER_FAILED"),
        ("\x1b]0;x\x07", "MINER_FAILED"),
        ("A" * 65, "MINER_FAILED"),
        # Only the coordinator knows.
        ("POISON", "MINER_FAILED"),
        ("DEADLINE_EXCEEDED", "MINER_FAILED"),
        ("CANCELLED", "MINER_FAILED"),
        ("QUEUE_FULL", "MINER_FAILED"),
        ("UNAUTHENTICATED", "MINER_FAILED"),
    ],
)
def test_codes_are_words(code: str, kept: str) -> None:
    assert said_code(code) == kept


def test_messages_are_cut_and_show_only() -> None:
    assert said_message("a\tb\nc\x1b[2J") == "a\tb\nc\\u001b[2J"
    assert len(said_message("x" * 5000)) == 1024


def test_all_three_know_the_same_characters() -> None:
    every = "".join(map(chr, range(0x3000)))
    assert harmless(every) == of_client(every) == of_miner(every)
    assert "\n" not in harmless_line(every)
    assert harmless("Grüße, 你好 🙂 \u200d") == "Grüße, 你好 🙂 \u200d"
