"""What a process recorded can be read, whoever else recorded, and however it ended."""

from __future__ import annotations

from pathlib import Path

from chaos.history import Recorder, read

from tests.unit.chaos.histories import History


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    events = History(seed=1, jobs=30).events
    one, other = (Recorder(tmp_path / "history.jsonl") for _ in range(2))
    for number, event in enumerate(events):
        (one, other)[number % 2].record(event)
    assert list(read([tmp_path / "history.jsonl"])) == events
    one.close()
    other.close()
