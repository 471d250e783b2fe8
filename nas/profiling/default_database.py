"""Where measured latencies are kept if nothing else is asked for."""

from __future__ import annotations

from pathlib import Path

from nas.data.source import cache_folder


def default_latency_db() -> Path:
    """Return the file of this user's latencies: one for all runs, so that a second search re-uses every measurement."""
    return cache_folder() / "latency.sqlite"
