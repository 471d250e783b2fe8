"""Made-up candidates for tests of the front, the selection and the report: a saturating accuracy over latency, with
noise and intervals."""

from __future__ import annotations

import math
import random

from nas.core.estimate import Candidate, Estimate
from search_spaces.architecture import Architecture

WIDTHS = tuple(range(8, 264, 8))


def architecture(rng: random.Random) -> Architecture:
    choices: list[tuple[str, int | float | str]] = [("image_size", rng.choice((96, 128, 160, 192)))]
    for stage in (1, 2, 3, 4):
        choices += [
            (f"stage{stage}_block", rng.choice(("qsp", "qci", "c2f", "csp"))),
            (f"stage{stage}_depth", rng.randint(1, 5)),
        ]
        choices += [(f"stage{stage}_hidden", rng.choice(WIDTHS))]
    choices += [
        ("neck_depth", rng.randint(1, 4)),
        ("neck_width", rng.choice(WIDTHS)),
        ("head_width", rng.choice((0.5, 0.75, 1.0))),
    ]
    return Architecture("yolo-nano", 1, tuple(choices))


def point(cost: float, gain: float, number: int = 0) -> Candidate:
    """A candidate that is nothing but its two numbers; ``number`` makes it another architecture."""
    estimates = (Estimate("latency_ms", cost, "ms", source="measured", target="fake:fp32"), Estimate("map", gain))
    return Candidate(Architecture("toy", 1, (("cost", cost), ("gain", gain), ("number", number))), estimates, number)


def candidates(n: int, seed: int = 0) -> list[Candidate]:
    """``n`` candidates, 0.5 to 6 ms, mAP 0.45 to 0.85."""
    rng = random.Random(seed)
    return [_candidate(rng, trial) for trial in range(n)]


def _candidate(rng: random.Random, trial: int) -> Candidate:
    macs = math.exp(rng.uniform(math.log(20e6), math.log(900e6)))
    latency = 0.42 + macs / 170e6 * rng.lognormvariate(0, 0.14)
    size = math.log(macs / 20e6) / math.log(45)
    accuracy = 0.52 + 0.34 * (1 - math.exp(-2.2 * size)) / (1 - math.exp(-2.2)) - abs(rng.gauss(0, 0.04))
    noise, blur = latency * rng.uniform(0.012, 0.045), rng.uniform(0.006, 0.014)
    estimates = (
        Estimate("params", float(round(macs / 420 * rng.uniform(0.8, 1.3)))),
        Estimate("macs", float(round(macs))),
        Estimate("latency_ms", latency, "ms", latency - noise, latency + noise, "measured", "onnxruntime:fp32@128"),
        Estimate("map", accuracy, "", accuracy - blur, min(1.0, accuracy + blur), "trained"),
    )
    return Candidate(architecture(rng), estimates, trial)
