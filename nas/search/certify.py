"""Certification: the chosen architectures of a run measured again, before anyone relies on them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import FINALIST
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.runtimes import is_redirected, open_profiler
from nas.core.architecture_file import Artifact, read_artifact
from nas.core.estimate import Estimate
from nas.core.precision_choice import id_of, joined
from nas.core.reporter import Reporter
from nas.data.source import open_data
from nas.estimators.end_to_end_latency import EndToEndLatency
from nas.profiling.default_database import default_latency_db
from nas.profiling.end_to_end import BOARDS, EndToEndParts, measuring_end_to_end
from nas.profiling.scene import Scene
from nas.profiling.workload import workload_of
from nas.search.certificate import Certificate, PipelineTimes
from nas.search.chosen_files import chosen_files, interpolation_of_run
from nas.search.plan import SearchPlan
from nas.search.settings import SearchSettings
from search_spaces.errors import InputError

if TYPE_CHECKING:
    from nas.inference.model import Model

IMAGES = 30


def certify(
    run: Path,
    repeat: int,
    reporter: Reporter,
    target: str | None = None,
    database: str | None = None,
    time_surroundings: bool = True,
) -> list[Certificate]:
    """Measure every chosen architecture of a run again, in interleaved repetitions and fresh processes.

    Args:
        run: Folder of the run.
        repeat: Measurements of each architecture; engines are built anew for each.
        reporter: Receives notes and progress.
        target: Another target than the search's.
        database: File or URL of latencies; None for the search's.
        time_surroundings: Also time what surrounds the network (reading, preparing, suppression), on this machine.

    Raises InputError if the run has no chosen architectures, or one cannot be measured.
    """
    artifacts, files = chosen(run), chosen_files(run)
    plan = SearchPlan.parse(SearchSettings.read(run))
    settings = plan.settings
    whole = plan.aims.cost.name == EndToEndLatency.name
    if whole and is_redirected():
        raise InputError("end-to-end latency on another machine", "this one", BOARDS)
    reported = {a.name: _latency(a, run, EndToEndLatency.name if whole else "latency_ms") for a in artifacts}
    where = {
        a.name: Target.parse(target) if target else plan.targets.get(a.precision or "", plan.target) for a in artifacts
    }
    measured: dict[str, list[Measurement]] = {a.name: [] for a in artifacts}
    quantizes = any(t.precision == "int8" for t in where.values())
    images = open_data(settings.data, limit=settings.limit) if settings.data and (quantizes or whole) else None
    images = images and images.interpolated(interpolation_of_run(run))
    with (
        tempfile.TemporaryDirectory() as scratch,
        LatencyDB(database or settings.latency_db or default_latency_db()) as kept,
        reporter.steps("measuring again") as update,
        measuring_end_to_end(Scene.of(images.val) if whole and images else None),
    ):
        workloads = {a.name: workload_of(files[a.name], where[a.name], Path(scratch), images) for a in artifacts}
        jobs = [(i, name) for i in range(repeat) for name in workloads]
        update(0, len(jobs), "")
        for done, (i, name) in enumerate(jobs, 1):
            with open_profiler(where[name], FINALIST) as profiler:
                m = kept.measure_cached(profiler, workloads[name], fresh=True)
            measured[name].append(m)
            update(done, len(jobs), f"{name} {m.median_ms:.3f} ms")
            figures = f"{m.median_ms:.3f} ms ± {m.half_width:.1%}, {m.runs} runs, {m.clock} clock, {m.verdict}"
            steps = EndToEndParts.of(m)
            reporter.note(f"{i + 1}/{repeat} {name}: {figures}{f'; {steps.text()}' if steps else ''}")
    parts = {
        a.name: _parts(files[a.name].with_suffix(".onnx"), settings, reporter)
        if time_surroundings and not whole
        else None
        for a in artifacts
    }
    ids = {a.name: id_of(joined(a.architecture, a.precision if settings.precisions else None)) for a in artifacts}
    return [Certificate(name, id_, reported[name], tuple(measured[name]), parts[name]) for name, id_ in ids.items()]


def chosen(run: Path) -> list[Artifact]:
    """Return the chosen architectures of a run, small to large. Raises InputError if it has none."""
    files = chosen_files(run)
    if not files:
        raise InputError(
            f"{run} has no chosen architectures",
            "the folder of a finished nas search",
            "finish it: nas search --resume RUN",
        )
    return [read_artifact(path) for path in files.values()]


def _latency(artifact: Artifact, run: Path, name: str) -> Estimate:
    for estimate in artifact.estimates:
        if estimate.name == name:
            return estimate
    raise InputError(f"{run / artifact.name}.json has no latency", "an architecture file that nas search wrote")


def _parts(model: Path, settings: SearchSettings, reporter: Reporter) -> PipelineTimes | None:
    """Time the steps around the network with the data set of the run; None, with a note, without an exported model or
    a data set."""
    if not model.exists() or settings.data is None:
        reporter.note(
            f"no {model.name} to time from file to boxes: train and export it first"
            if settings.data
            else "no data set: network only"
        )
        return None
    pair = open_data(settings.data, limit=settings.limit)
    return time_parts(model, [sample.path for sample in pair.val.samples[:IMAGES]])


def time_parts(model: Path, images: Sequence[Path]) -> PipelineTimes:
    """Time the steps around the network, image by image on one thread; the first image only warms up."""
    import cv2

    from nas.inference.model import load

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        detector = load(model, "cpu")
        rows = [_time_image(detector, path) for path in [images[0], *images]][1:]
    finally:
        cv2.setNumThreads(threads)
    read, prepare, suppress = (median(column) for column in zip(*rows, strict=True))
    return PipelineTimes(read, prepare, suppress, len(rows))


def _time_image(detector: Model, path: Path) -> tuple[float, float, float]:
    from nas.data.images import read_image
    from nas.inference.nms import SHOWN, in_image

    suppression = detector.suppression(SHOWN)
    start = time.perf_counter()
    rgb = read_image(path)
    read = time.perf_counter()
    images, placement = detector.preprocess(rgb)
    prepared = time.perf_counter()
    boxes, scores = detector.backend.run(images)
    done = time.perf_counter()
    in_image(boxes[0], scores[0], suppression, placement, rgb.shape[1], rgb.shape[0])
    end = time.perf_counter()
    return (read - start) * 1e3, (prepared - read) * 1e3, (end - done) * 1e3
