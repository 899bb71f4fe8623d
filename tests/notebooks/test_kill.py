"""Training whose process is killed again and again loses no finished epoch."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.slow
def test_twenty_kills_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "experiments"))
    import kill_test

    rows = kill_test.kill_all(20, seed=1)
    assert sum(row["kills"] for row in rows) >= 20
    assert sum(row["in_a_save"] for row in rows) >= 2, "no kill hit a save: this proved too little"
    assert [row["epochs_lost"] for row in rows] == [0] * len(rows)
    assert [row["torn"] for row in rows] == [0] * len(rows)
    assert all(row["equal"] for row in rows)
