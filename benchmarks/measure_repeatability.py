"""How far apart are the figures that ``nas measure`` gives for one and the same model?

``python -m benchmarks.measure_repeatability --sessions 10``

``yolo-nano``'s largest architecture at ``--image-size`` px is exported once and measured by ``--sessions`` calls of
the command line, each a fresh process with a latency database of its own. Figures: half the range of the medians as a
share of their median, of the reported time and of CPU time, as measured and as brought to the nominal speed
(:meth:`latency_db.core.measurement.Measurement.at_nominal_speed`), and the half-widths of the intervals that the
sessions claim.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import Goal, write
from latency_db.core.measurement import Measurement
from nas.export.onnx import skeleton_onnx
from search_spaces.spaces import SPACES


def session(model: Path, target: str, database: Path) -> Measurement:
    """One call of ``nas measure``."""
    command = [
        sys.executable,
        "-m",
        "nas",
        "measure",
        str(model),
        "--target",
        target,
        "--json",
        "--latency-db",
        str(database),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Measurement.from_dict(json.loads(done.stdout)[0])


def half_range(values: Sequence[float]) -> float:
    """Half the range as a share of the median."""
    return (max(values) - min(values)) / 2 / median(values)


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Medians within 5 %, by CPU time within 3 %."""
    return [
        Goal(
            "half range of repeated measurements of one network, reported time",
            figure["half_range"],
            "<= 0.05",
            "share",
        ),
        Goal(
            "half range of repeated measurements of one network, CPU time", figure["half_range_cpu"], "<= 0.03", "share"
        ),
    ]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", "--sittings", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--target", default="onnxruntime:fp32")
    args = parser.parse_args()
    space = SPACES["yolo-nano"]
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        model = skeleton_onnx(space, space.largest, 80, Path(folder) / "model.onnx", args.image_size)
        for i in range(args.sessions):
            measured.append(session(model, args.target, Path(folder) / f"{i}.sqlite"))
            m = measured[-1]
            print(
                f"{i + 1}/{args.sessions}: {m.median_ms:.3f} ms ± {m.half_width:.1%}, {m.clock} clock, {m.verdict}, anchor {m.reference_ms:.3f} ms",
                flush=True,
            )
    usual = median(m.reference_ms for m in measured if m.reference_ms)
    raw = [m.median_ms for m in measured]
    corrected = [m.at_nominal_speed(usual).median_ms for m in measured]
    cpu = [m.cpu_median_ms for m in measured if m.cpu_median_ms]
    anchors = [float(m.environment["anchor"]["cpu_ms"]) for m in measured]
    cpu_corrected = [ms * median(anchors) / anchor for ms, anchor in zip(cpu, anchors, strict=True)]
    figure = {
        "half_range": half_range(raw),
        "half_range_at_one_anchor_speed": half_range(corrected),
        "half_range_cpu": half_range(cpu),
        "half_range_cpu_at_one_anchor_speed": half_range(cpu_corrected),
        "claimed_half_width_median": median(m.half_width for m in measured),
        "medians_ms": raw,
        "medians_at_one_anchor_speed_ms": corrected,
        "anchors_ms": [m.reference_ms for m in measured],
        "verdicts": [m.verdict for m in measured],
        "clocks": [m.clock for m in measured],
        "target": args.target,
        "model": f"yolo-nano largest, {args.image_size} px, 80 classes",
    }
    print(
        f"half the range: {figure['half_range']:.1%} as measured, {figure['half_range_at_one_anchor_speed']:.1%} at the nominal speed"
    )
    print(
        f"of CPU time: {figure['half_range_cpu']:.1%}, {figure['half_range_cpu_at_one_anchor_speed']:.1%} at the nominal speed"
    )
    write("measure_repeatability", figure, goals_of(figure))


if __name__ == "__main__":
    main()
