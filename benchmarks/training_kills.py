"""Work that a kill in the middle of a training loses.

``python -m benchmarks.training_kills --out runs/kills``

A detector and a supernet are trained with slow steps. Each training is killed (SIGKILL, the whole process group) at
random moments after its first two minutes, and resumed by the same command. The work lost by a kill is the time since
the last checkpoint was complete; a checkpoint that lacks a step of an earlier one counts as a failure. With the
defaults this takes about 25 minutes, whatever the machine: a step may be slow, but should take less than 20 s.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import Goal, write
from nas.core.paths import new_folder

FIRST_S = 120.0
"""Seconds of a training before the first kill."""
KINDS: dict[str, tuple[str, ...]] = {
    "detector": ("train", "yolov8n", "--image-size", "320", "--batch-size", "16", "--epochs", "1000"),
    "supernet": ("supernet", "--fix", "image_size=320", "--batch-size", "16", "--epochs", "1000"),
}


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """At most 75 s of work lost by any kill."""
    return [Goal("most work lost by a kill of a training", figure["most_lost_s"], "<= 75", "s")]


def killed(command: Sequence[str], checkpoint: Path, after_s: float) -> dict[str, float]:
    """Run ``command``, kill it after ``after_s`` seconds, and return what the checkpoint then holds and lacks.

    Raises RuntimeError if the command ends by itself.
    """
    started = time.time()
    with open(checkpoint.with_suffix(".log"), "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    time.sleep(after_s)
    if process.poll() is not None:
        raise RuntimeError(f"the training ended before it was killed; see {checkpoint.with_suffix('.log')}")
    at = time.time()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if not checkpoint.exists():
        return {"ran_s": at - started, "lost_s": at - started, "step": 0}
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    return {"ran_s": at - started, "lost_s": at - max(started, checkpoint.stat().st_mtime), "step": int(state["step"])}


def kills(kind: str, data: str, folder: Path, count: int, rng: random.Random) -> list[dict[str, float]]:
    """Kill one training ``count`` times; each resumed training runs for at least a minute.

    Raises RuntimeError if a checkpoint lacks a step of an earlier one.
    """
    out = folder / f"{kind}.safetensors"
    command = [sys.executable, "-m", "nas", *KINDS[kind], "--data", data, "--device", "cpu", "--out", str(out)]
    found: list[dict[str, float]] = []
    for i in range(count):
        found.append(killed(command, out.with_suffix(".ckpt"), (60.0 if i else FIRST_S) + rng.uniform(0, 90)))
        print(kind, found[-1], flush=True)
        if i and found[-1]["step"] < found[-2]["step"]:
            raise RuntimeError(f"{kind}: the checkpoint went back from step {found[-2]['step']} to {found[-1]['step']}")
    return found


def main() -> None:
    """Kill trainings and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--data", default="digits@320:train=160,val=20")
    parser.add_argument("--kills", type=int, default=10, help="in all, half of each kind (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder, rng = new_folder(args.out), random.Random(args.seed)
    counts = {"detector": args.kills - args.kills // 2, "supernet": args.kills // 2}
    found = {kind: kills(kind, args.data, folder, count, rng) for kind, count in counts.items() if count}
    lost = [kill["lost_s"] for of_kind in found.values() for kill in of_kind]
    figure = {"kills": found, "most_lost_s": max(lost), "mean_lost_s": sum(lost) / len(lost)}
    write("training_kills", figure, goals_of(figure), seeds=(args.seed,))


if __name__ == "__main__":
    main()
