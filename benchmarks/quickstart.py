"""How long the quickstart takes on this machine, and what comes out.

``python -m benchmarks.quickstart --out runs/quickstart-timed``

One call of ``nas quickstart`` into a new folder, with an empty cache (images are drawn, every latency is measured):
its seconds from start to end, and of S, M and L parameters, MACs, measured latency and the mAP50-95 of the trained
network on the whole val split.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.record import Goal, write
from nas.core.architecture_file import read_artifact

GOALS = {"seconds": 600, "L_map": 0.70}


def chosen(folder: Path, name: str) -> dict[str, Any]:
    """What the run's files say of one of the chosen."""
    artifact = read_artifact(folder / f"{name}.json")
    of = {e.name: e for e in artifact.estimates}
    metrics = json.loads((folder / f"{name}.metrics.json").read_text())["metrics"]
    latency = of["latency_ms"]
    return {
        "id": artifact.architecture.id,
        "params": of["params"].value,
        "macs": of["macs"].value,
        "latency_ms": latency.value,
        "latency_interval_ms": [latency.low, latency.high],
        "supernet_map": of["map"].value,
        "trained_map": metrics["map"],
        "trained_map50": metrics["map50"],
    }


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Time of the whole, accuracy of L."""
    return [
        Goal("`make quickstart` after installation", figure["seconds"], f"<= {figure['goals']['seconds']:g}", "s"),
        Goal("mAP50-95 of the quickstart's L", figure["L"]["trained_map"], f">= {figure['goals']['L_map']:g}"),
    ]


def main() -> None:
    """Run and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="new folder of the run")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        start = time.monotonic()
        command = [sys.executable, "-m", "nas", "quickstart", "--out", str(args.out), "--seed", str(args.seed)]
        subprocess.run(command, check=True, env={**os.environ, "NAS_CACHE": cache})
        seconds = time.monotonic() - start
    figure = {"seconds": seconds, "goals": GOALS, **{name: chosen(args.out, name) for name in "SML"}}
    write("quickstart", figure, goals_of(figure), seeds=(args.seed,))


if __name__ == "__main__":
    main()
