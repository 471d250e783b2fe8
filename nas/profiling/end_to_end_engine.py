"""The engine of end-to-end latency, in the timing server: letterboxing, network, suppression on a scene.

A run takes the next image of the scene through all steps. The network computes the prepared image; since weights may be
untrained, suppression gets the outputs that the scene has for this image instead of the network's.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from nas.inference.layouts import OUTPUTS
from nas.inference.nms import NEVER, SHOWN, Suppression, in_image
from nas.inference.preprocess import Preprocessor
from nas.profiling.scene import PER_OBJECT, Scene
from search_spaces.errors import InputError
from search_spaces.image_size import AnySize, ImageSize

if TYPE_CHECKING:
    from latency_db.core.profiler import InferenceSession

STEPS = ("preprocessing", "network", "suppression")
MOST_RUNS = 20_000
"""Runs whose steps are kept."""
DECODING_RUNS = 15


def engine(request: Mapping[str, Any]) -> tuple[Chain | Callable[[], object], dict[str, Any]]:
    """Load ``request["model"]`` and the scene; return the chain of all steps, and the settings.

    Without a scene, for the reference model, the runtime's own engine runs the network alone.

    Raises:
        InputError: The runtime cannot load the model or run it on given images.
    """
    if "scene" not in request:
        from importlib import import_module

        module = import_module(RUNTIMES[request["runtime"]].__module__)
        return module.engine(request)
    import cv2

    cv2.setNumThreads(request["threads"])
    target = Target(
        request["runtime"], request["precision"], request["device"], batch=request["batch"], threads=request["threads"]
    )
    session = open_session(target, Path(request["model"]))
    scene = Scene.load(Path(request["scene"]))
    size = ImageSize.of(request["image_size"])
    chain = Chain(session, scene, size, target.batch, request["end_to_end"])
    info = {"scene": Path(request["scene"]).name, "objects_per_image": chain.objects, "anchors": chain.anchors}
    info["interpolation"] = scene.interpolation
    return chain, info | {"decoding_ms": decoding_ms(target, Path(request["model"]), size)}


def prepare() -> None:
    """Import what the engine needs."""
    import cv2  # noqa: F401
    import onnxruntime  # noqa: F401


def open_session(target: Target, model: Path) -> InferenceSession:
    """Return a model in the target's runtime, from its own files where it has such.

    Raises:
        InputError: The runtime cannot load the model, or cannot be run on given images.
    """
    runtime = RUNTIMES[target.runtime]
    session = runtime.open_session(target, model)
    if session is None and runtime.deployed_as:
        with tempfile.TemporaryDirectory() as folder:
            runtime.write_files(target, model, Path(folder))
            session = runtime.open_files(target, Path(folder), OUTPUTS["dense"])
    if session is None:
        raise InputError(f"{target} cannot be run on given images", "a runtime that computes them")
    return session


class Chain:
    """All steps for the next image (or batch) of a scene, and the times of each step.

    Args:
        session: The network.
        scene: The images.
        size: Size of the network's input.
        batch: Images of one run.
        end_to_end: Whether the network gives one box per object.
    """

    def __init__(self, session: InferenceSession, scene: Scene, size: AnySize, batch: int, end_to_end: bool) -> None:
        self._session, self._scene, self._batch = session, scene, batch
        self._preprocess = Preprocessor(size, scene.interpolation)
        _, scores = session(np.zeros((batch, 3, *ImageSize.of(size)), np.float32))
        self.anchors, classes = int(scores.shape[1]), int(scores.shape[2])
        self._outputs = scene.outputs(size, self.anchors, classes, 1 if end_to_end else PER_OBJECT)
        self._suppression = Suppression(**{**vars(SHOWN), **({"iou_threshold": NEVER} if end_to_end else {})})
        self.objects = round(float(np.mean([len(one) for one in scene.boxes])), 2)
        self._next = 0
        self._wall: list[tuple[float, ...]] = []
        self._cpu: list[tuple[float, ...]] = []

    def __call__(self) -> object:
        """Run all steps once, and keep the times of each."""
        picked = [(self._next + i) % len(self._scene.images) for i in range(self._batch)]
        self._next = (self._next + self._batch) % len(self._scene.images)
        images = [self._scene.images[i] for i in picked]
        wall, cpu = [time.perf_counter()], [time.process_time()]
        prepared = [self._preprocess(rgb) for rgb in images]
        planes = np.concatenate([planes for planes, _ in prepared])
        self._stamp(wall, cpu)
        self._session(planes)
        self._stamp(wall, cpu)
        found = [
            in_image(*self._outputs[i], self._suppression, placement, rgb.shape[1], rgb.shape[0])
            for i, rgb, (_, placement) in zip(picked, images, prepared, strict=True)
        ]
        self._stamp(wall, cpu)
        if len(self._wall) < MOST_RUNS:
            self._wall.append(tuple(np.diff(wall)))
            self._cpu.append(tuple(np.diff(cpu)))
        return found

    @staticmethod
    def _stamp(wall: list[float], cpu: list[float]) -> None:
        wall.append(time.perf_counter())
        cpu.append(time.process_time())

    def time(self, request: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Return the median of each step in ms, by wall clock and by CPU time, and forget the runs."""
        found = {
            clock: dict(zip(STEPS, (1e3 * median(column) for column in zip(*rows, strict=True)), strict=True))
            for clock, rows in (("wall", self._wall), ("cpu", self._cpu))
        }
        self._wall, self._cpu = [], []
        return found


def decoding_ms(target: Target, model: Path, size: ImageSize) -> float | None:
    """Return the time of the box decoding alone in ms: the nodes after the last convolutions, in ONNX Runtime.

    It is a part of the network's time and depends on the number of anchors and classes only. None where the file has
    no such nodes.
    """
    import onnxruntime

    from latency_db.conversion.onnx_parts import cut, decode_tail, read

    proto = read(model)
    names = decode_tail(proto)
    if not names:
        return None
    head, tail = cut(proto, names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = target.threads, 3
    places = {"providers": ["CPUExecutionProvider"]}
    body = onnxruntime.InferenceSession(head.SerializeToString(), options, **places)
    given = [item.name for item in body.get_outputs()]
    feeds = dict(zip(given, body.run(given, {"images": np.zeros((target.batch, 3, *size), np.float32)}), strict=True))
    del tail.graph.input[:]
    tail.graph.input.extend(head.graph.output)
    session = onnxruntime.InferenceSession(tail.SerializeToString(), options, **places)
    times = []
    for _ in range(DECODING_RUNS):
        start = time.process_time()
        session.run(None, feeds)
        times.append(1e3 * (time.process_time() - start))
    return min(times)
