"""Workers of one study as processes (those of the benchmark), and what has to be true of what they did."""

from __future__ import annotations

from pathlib import Path

from benchmarks.workers import go, killed, open_shared, read, start, tally

__all__ = ["counted", "go", "killed", "open_shared", "read", "start"]


def counted(folder: Path, storage: Path | str, trials: int, kills: int = 0) -> None:
    """As many candidates as were asked for, none told twice, at most one evaluation lost per kill."""
    found = tally(folder, storage)
    assert found["candidates"] == trials and found["told_twice"] == 0 and 0 <= found["lost"] <= kills, found
