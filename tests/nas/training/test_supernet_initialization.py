"""A trained detector becomes a supernet: it is a point of the space, reproduced exactly before any training."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas.core.architecture_file import Artifact, DataRecord
from nas.core.references import NO_STUDY
from nas.core.reporter import Reporter
from nas.data.source import open_data
from nas.supernet.weights import ancestors_of, load_detector, load_supernet, save_detector, trained_image_sizes
from nas.training.extract import extract_detector
from nas.training.job import ComputeConfig, TrainJob
from nas.training.recipe import Recipe
from nas.training.supernet_initialization import (
    covered,
    default_space,
    derived_space,
    initial_supernet,
    place_of,
    space_from,
    trained_point,
)
from nas.training.train_detector import train_detector
from nas.training.train_supernet import train_supernet
from search_spaces.errors import InputError
from search_spaces.references import reference
from search_spaces.spaces import SPACES, space_of
from tests._progress import Recording
from tests._published import value_of

CLASSES = ("cat", "dog", "owl")


def saved(name: str, folder: Path, classes: tuple[str, ...] = CLASSES) -> Path:
    """Weights of a reference with numbers in every tensor."""
    architecture = reference(name).architecture
    detector = space_of(architecture).build(architecture, len(classes))
    with torch.no_grad():
        for key, tensor in detector.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(value_of(key, tuple(tensor.shape)))
    artifact = Artifact(name, architecture, (), NO_STUDY, classes, DataRecord("none", "none"))
    return save_detector(folder / f"{name}.safetensors", detector, artifact, {})


@pytest.mark.parametrize(
    "name, space", [("yolov8n", None), ("yolo11n", None), ("yolov8n", "yolov8"), ("yolov5n", None), ("yolov6n", None)]
)
@pytest.mark.parametrize("order", [True, False])
def test_the_detector_is_a_point_and_reproduced(name: str, space: str | None, order: bool, tmp_path: Path) -> None:
    init = saved(name, tmp_path)
    source, artifact, _ = load_detector(init)
    source.double()  # so that a sum in another order is the same number, on every processor
    whole = default_space(artifact) if space is None else SPACES[space]
    trained = trained_point(init, whole, CLASSES, order)
    derived = derived_space(whole, trained.architecture)
    supernet = initial_supernet(derived, CLASSES, None)
    supernet.fill(trained.architecture, trained.detector)
    extracted = supernet.extract(trained.architecture).eval().double()
    statistics = dict(trained.detector.named_buffers())
    with torch.no_grad():
        for key, buffer in extracted.named_buffers():
            buffer.copy_(statistics[key])
        images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
        assert (extracted.predict(images)[1] - source.predict(images)[1]).abs().max() < 1e-5
    assert trained.classes_kept == len(CLASSES)


def test_the_smallest_space_that_holds_it(tmp_path: Path) -> None:
    def of(name: str) -> str:
        return default_space(load_detector(saved(name, tmp_path))[1]).name

    assert [of(n) for n in ("yolov8n", "yolov8s", "yolov6n")] == ["yolo-universal-nano", "yolo-universal", "yolov6"]


def test_the_derived_space_is_what_the_weights_cover(tmp_path: Path) -> None:
    init = saved("yolov8n", tmp_path)
    space = space_from(init, None, ["image_size=128,160"])
    point = place_of(load_detector(init)[1], SPACES["yolo-universal-nano"])
    assert space["act"].values == ("silu",)
    assert space["stage4_out"].values == (64, 128, 256)  # a quarter of the channels
    assert space["stage2_depth"].values == (1, 2) and space["stage4_depth"].values == (1,)
    assert space["image_size"].values == (128, 160)
    assert space.size > 1e4
    largest = space.largest
    assert largest.replace(image_size=640) == point.replace(image_size=640)
    supernet = initial_supernet(space, CLASSES, init)
    assert covered(supernet, largest) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "side, sizes",
    [(640, (256, 384, 512, 640)), (320, (128, 192, 256, 320)), (96, (96,)), ("384x640", (192, 288, 384, 480))],
)
def test_a_derived_space_has_few_image_sizes(side: int | str, sizes: tuple[int, ...]) -> None:
    """The supernet's steps are divided among the image sizes of its space."""
    nano = SPACES["yolo-universal-nano"]
    point = nano.largest.replace(image_size=side)
    assert derived_space(nano, point)["image_size"].values == sizes
    assert derived_space(nano, point, {"image_size": (416, 640)})["image_size"].values == (416, 640)


def test_multipliers_of_all_widths_stop_at_45_percent(tmp_path: Path) -> None:
    init = saved("yolov6n", tmp_path)
    point = place_of(load_detector(init)[1], SPACES["yolov6"])
    space = space_from(init, None, ["image_size=128"])
    shares = [float(w) / float(point["width"]) for w in space["width"].values]
    assert len(shares) > 1 and min(shares) >= 0.45
    nano = SPACES["yolo-nano"]  # its width is a number of channels, and still that of all layers
    widths = [int(w) for w in derived_space(nano, nano.largest)["width"].values]
    assert widths == [16, 24, 32]


def test_a_restriction_without_the_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="act"):
        space_from(saved("yolov8n", tmp_path), None, ["act=relu"])


def test_a_space_that_does_not_hold_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no point of yolo-nas"):
        space_from(saved("yolov8n", tmp_path), "yolo-nas")


def test_narrower_networks_have_the_leading_channels(tmp_path: Path) -> None:
    """Ordered, the narrow networks hold more of the weights' size than unordered."""
    init = saved("yolov8n", tmp_path)
    space = space_from(init)
    sizes = []
    for order in (True, False):
        trained = trained_point(init, SPACES[space.name], CLASSES, order)
        supernet = initial_supernet(space, CLASSES, None)
        supernet.fill(trained.architecture, trained.detector)
        small = supernet.parameters_of(space.smallest)
        sizes.append(sum(float(t.detach().abs().mean()) for n, t in small.items() if n.endswith("conv.weight")))
    assert sizes[0] > sizes[1]


def test_rows_of_classes_go_by_name(tmp_path: Path) -> None:
    init = saved("yolov8n", tmp_path)
    trained = trained_point(init, SPACES["yolo-universal-nano"], ("owl", "fox"))
    assert trained.classes_kept == 1
    source, _, _ = load_detector(init)
    key = next(k for k in source.state_dict() if k.endswith("label.0.last.bias"))
    own = next(t for k, t in trained.detector.state_dict().items() if k.endswith("label.0.last.bias"))
    assert own[0] == source.state_dict()[key][2]


def test_every_descendant_names_its_ancestor(tmp_path: Path) -> None:
    """Published weights, a supernet of them, an extracted detector, one trained from that: the licence stays visible."""
    data = open_data("digits@64:train=32,val=8")
    ancestor = {"file": "yolov8n.pt", "sha256_16": "00", "reference": "yolov8n", "licence": "AGPL-3.0"}
    detector, artifact, _ = load_detector(saved("yolov8n", tmp_path, tuple(data.classes)))
    init = save_detector(tmp_path / "imported.safetensors", detector, artifact, {"imported": ancestor})
    space = space_from(init, None, ["image_size=96"])
    job = TrainJob(data, Recipe(epochs=1, batch_size=16), init, compute=ComputeConfig("cpu"))
    reporter = Recording()
    train_supernet(space, job, tmp_path / "supernet.safetensors", reporter)
    small = Artifact("S", space.smallest, (), NO_STUDY, data.classes, DataRecord(data.name, data.fingerprint))
    extract_detector(small, tmp_path / "supernet.safetensors", data, tmp_path / "S.safetensors", reporter, "cpu")
    again = replace(job, init=tmp_path / "S.safetensors")
    train_detector(small, again, tmp_path / "trained.safetensors", Reporter())
    for name in ("imported", "supernet", "S", "trained"):
        assert ancestors_of(tmp_path / f"{name}.safetensors") == [ancestor], name
    assert ancestors_of(saved("yolov5n", tmp_path)) == []


def test_training_extracting_and_resuming(tmp_path: Path) -> None:
    """The supernet says where it came from; an extracted detector is written with its metrics, once."""
    data = open_data("digits@64:train=32,val=8")
    init = saved("yolov8n", tmp_path, tuple(data.classes))
    space = space_from(init, None, ["image_size=96,128"])
    path = tmp_path / "supernet.safetensors"
    job = TrainJob(data, Recipe(epochs=1, batch_size=16), init, compute=ComputeConfig("cpu"))
    train_supernet(space, job, path, Reporter())
    _, classes, record = load_supernet(path)
    assert classes == data.classes
    assert record["from"].startswith("weights ")
    assert trained_image_sizes(space, record, "") == [96, 128]
    train_supernet(space, job, path, Reporter())  # finished: not repeated, not refused
    point = space.sample(random.Random(0))
    artifact = Artifact("S", point, (), NO_STUDY, data.classes, DataRecord(data.name, data.fingerprint))
    out = tmp_path / "S.safetensors"
    metrics = extract_detector(artifact, path, data, out, Reporter(), "cpu")
    detector, again, header = load_detector(out)
    assert again == artifact
    assert json.loads(json.dumps(header["metrics"]))["map"] == pytest.approx(metrics.map)
    assert all(torch.isfinite(t).all() for t in detector.state_dict().values() if t.is_floating_point())
    with pytest.raises(InputError, match="exists"):
        extract_detector(artifact, path, data, out, Reporter(), "cpu")
