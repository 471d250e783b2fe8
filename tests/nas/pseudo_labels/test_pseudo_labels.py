"""Labels that a model gives: thresholds, two views, a folder of images to a COCO json and back, and how training
weighs them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

from nas.core.console_reporter import ConsoleReporter
from nas.data.coco_reader import read_coco
from nas.data.dataset import Annotation, DetectionDataset, make_sample
from nas.data.loader import Loader, LoaderConfig
from nas.data.problems import Problems
from nas.data.pseudo_labelled import MixedDataset, pack, unpack, with_pseudo
from nas.data.source import DataPair
from nas.data.transforms import Augmentation
from nas.inference.backends import Backend, Raw
from nas.inference.box_fusion import suppressed, weighted
from nas.inference.nms import Detections
from nas.pseudo_labels.label import LabelThresholds, pseudo_label
from nas.pseudo_labels.thresholds import LEFT_OUT, Finder, judged, lowest, thresholds_for
from nas.training.loss import DetectionLoss, Truth
from search_spaces.errors import InputError
from search_spaces.heads.base import Predictions, grid
from search_spaces.image_size import ImageSize

SIDE = 64
CLASSES = ("cat", "dog")
QUIET = ConsoleReporter(Console(quiet=True))
Found = Sequence[tuple[tuple[float, float, float, float], float, int]]


@dataclass
class Bright(Backend):
    """Finds, in an image whose corner has the value v, what is listed under v; forgets nothing of how often it was
    asked."""

    table: dict[int, Found]
    classes: tuple[str, ...] = CLASSES
    image_size: ImageSize = ImageSize(SIDE, SIDE)  # noqa: RUF009 - a value
    end_to_end: bool = False
    asked: int = 0
    dies_at: int = -1

    @property
    def runtime(self) -> str:
        return "a table"

    def run(self, images: NDArray[np.float32]) -> Raw:
        self.asked += 1
        if self.asked == self.dies_at:
            raise KeyboardInterrupt
        found = self.table[round(float(images[0, 0, 0, 0]) * 255)]
        scores = np.zeros((1, len(found), len(self.classes)), np.float32)
        for i, (_, score, label) in enumerate(found):
            scores[0, i, label] = score
        return np.array([[box for box, _, _ in found]], np.float32).reshape(1, -1, 4), scores


def image(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((SIDE, SIDE, 3), value, np.uint8))
    return path


TABLE: dict[int, Found] = {
    10: [((4, 4, 30, 30), 0.9, 0), ((34, 34, 60, 60), 0.5, 1), ((34, 4, 60, 30), 0.2, 1)],
    20: [],
    30: [((10, 10, 50, 50), 0.7, 1), ((11, 10, 50, 50), 0.6, 1)],
}


def folder(tmp_path: Path) -> Path:
    for value in TABLE:
        image(tmp_path / "photos" / "deep" / f"{value}.png", value)
    (tmp_path / "photos" / "torn.jpg").write_bytes(b"\xff\xd8 nothing")
    return tmp_path / "photos"


def label(
    tmp_path: Path, network: Bright, wanted: LabelThresholds, data: DataPair | None = None, name: str = "pseudo.json"
) -> tuple[int, int, int]:
    (tmp_path / "model").write_text("weights")
    return pseudo_label(
        tmp_path / "model", Finder(network), tmp_path / "photos", tmp_path / "out" / name, wanted, QUIET, data
    )


# Thresholds


@pytest.mark.parametrize(
    ("verdicts", "precision", "expected"),
    [
        ([(0.9, True), (0.8, True), (0.7, False), (0.6, True), (0.5, False)], 0.75, (0.6, 4)),
        ([(0.9, True), (0.8, True), (0.7, False), (0.6, True), (0.5, False)], 0.8, (0.8, 2)),
        ([(0.9, True), (0.8, True), (0.7, False), (0.6, True), (0.5, False)], 0.6, (0.5, 5)),
        ([(0.9, False), (0.8, True)], 0.6, (LEFT_OUT, 0)),
        ([(0.9, False), (0.8, True), (0.7, True)], 0.6, (0.7, 3)),
        ([(0.8, True), (0.8, False), (0.9, True)], 0.9, (0.9, 1)),  # equal scores are taken together
        ([], 0.5, (LEFT_OUT, 0)),
    ],
)
def test_the_lowest_score_that_is_right_often_enough(
    verdicts: list[tuple[float, bool]], precision: float, expected: tuple[float, int]
) -> None:
    assert lowest(verdicts, precision) == expected


def test_what_is_right() -> None:
    """Each object once, the best box first, by class; what lies in a crowd says nothing."""
    boxes = np.array([[0, 0, 20, 20], [30, 0, 50, 20], [0, 30, 60, 60]], np.float32)
    labels, crowd = np.array([1, 0, 1]), np.array([False, False, True])
    found = Detections(
        np.array([[1, 0, 20, 20], [0, 0, 20, 20], [30, 0, 50, 20], [10, 40, 20, 50], [30, 1, 50, 20]], np.float32),
        np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32),
        np.array([0, 0, 0, 0, 1]),
    )
    said = list(judged(found, np.array([1, 0]), boxes, labels, crowd))  # the model's class 0 is the data's 1
    assert [(own, right) for own, _, right in said] == [(0, True), (0, False), (0, False), (1, True)]
    assert [score for _, score, _ in said] == pytest.approx([0.9, 0.8, 0.7, 0.5])


def dataset(tmp_path: Path, split: str, objects: dict[int, list[Annotation]]) -> DetectionDataset:
    problems = Problems()
    paths = {value: image(tmp_path / split / f"{value}.png", value) for value in objects}
    return DetectionDataset(
        "shop", split, CLASSES, [make_sample(v, paths[v], (SIDE, SIDE), o, problems) for v, o in objects.items()]
    )


def pair(tmp_path: Path) -> DataPair:
    val = {10: [Annotation((4, 4, 30, 30), 0), Annotation((34, 34, 60, 60), 1)], 30: [Annotation((0, 0, 9, 9), 1)]}
    return DataPair(
        "shop",
        dataset(tmp_path, "train", {77: [Annotation((5, 5, 25, 25), 0)]}),
        dataset(tmp_path, "val", val),
        Augmentation.NONE,
    )


def test_thresholds_by_precision(tmp_path: Path) -> None:
    """cat: right at 0.9. dog: wrong at 0.7, right at 0.5, wrong at 0.2 (0.6 is suppressed): never better than a
    half."""
    data = pair(tmp_path)
    found, counts = thresholds_for(0.5, Finder(Bright(TABLE)), data.val, lambda done, total, text: None)
    assert found == {"cat": pytest.approx(0.9), "dog": pytest.approx(0.5)} and counts == {"cat": 1, "dog": 2}
    found, _ = thresholds_for(0.9, Finder(Bright(TABLE, ("dog", "eel"))), data.val, lambda done, total, text: None)
    assert set(found.values()) == {LEFT_OUT}
    with pytest.raises(InputError, match="precision 2"):
        thresholds_for(2, Finder(Bright(TABLE)), data.val, lambda done, total, text: None)


# Two views


def test_a_mirrored_view_comes_back(tmp_path: Path) -> None:
    """Both views find something on the left of what they see: the second one's lies on the right."""
    found = Finder(Bright({10: [((4, 4, 20, 30), 0.8, 0)]}), "nms")(np.full((SIDE, SIDE, 3), 10, np.uint8), 0.3)
    assert sorted(found.boxes.tolist()) == [[4, 4, 20, 30], [44, 4, 60, 30]]
    found = Finder(Bright({10: [((4, 4, 20, 30), 0.8, 0)]}), "weighted")(np.full((SIDE, SIDE, 3), 10, np.uint8), 0.3)
    assert found.scores.tolist() == pytest.approx([0.4, 0.4])  # seen in one view of two
    assert (
        len(Finder(Bright({10: [((4, 4, 20, 30), 0.8, 0)]}), "weighted")(np.full((SIDE, SIDE, 3), 10, np.uint8), 0.5))
        == 0
    )


def test_merging() -> None:
    a = Detections(
        np.array([[0, 0, 20, 20], [40, 40, 60, 60]], np.float32), np.array([0.8, 0.5], np.float32), np.array([0, 0])
    )
    b = Detections(
        np.array([[2, 0, 22, 20], [0, 0, 20, 20]], np.float32), np.array([0.4, 0.3], np.float32), np.array([0, 1])
    )
    best = suppressed([a, b], 0.6)
    assert best.scores.tolist() == pytest.approx([0.8, 0.5, 0.3]) and best.boxes[0].tolist() == [0, 0, 20, 20]
    mean = weighted([a, b], 0.6)
    assert mean.scores.tolist() == pytest.approx([0.6, 0.25, 0.15]) and mean.labels.tolist() == [0, 0, 1]
    assert mean.boxes[0].tolist() == pytest.approx([2 / 3, 0, 20 + 2 / 3, 20], rel=1e-5)
    assert len(weighted([Detections.none(), Detections.none()], 0.6)) == len(suppressed([Detections.none()], 0.6)) == 0


# The file, and back


def test_round_trip(tmp_path: Path) -> None:
    """Every box over its class's threshold, with its score; between it and the lower one a region to ignore; broken
    images are named."""
    images = folder(tmp_path)
    assert label(tmp_path, Bright(TABLE), LabelThresholds(0.4, (("dog", 0.6),), ignore_from=0.3)) == (3, 2, 1)
    out = tmp_path / "out" / "pseudo.json"
    assert not out.with_name("pseudo.json.part").exists()
    found = read_coco(out, [out.parent], name="pseudo", split="pseudo", classes=CLASSES)
    assert [s.path.resolve() for s in found.samples] == [
        images / "deep" / f"{v}.png" for v in TABLE
    ] and not found.problems
    boxes = [
        [(s.boxes[i].tolist(), s.labels[i], round(float(s.scores[i]), 4), s.crowd[i]) for i in range(len(s))]
        for s in found.samples
    ]
    assert boxes == [
        [([4, 4, 30, 30], 0, 0.9, False), ([34, 34, 60, 60], 1, 0.5, True)],
        [],
        [([10, 10, 50, 50], 1, 0.7, False)],
    ]
    said = json.loads(out.read_text())["info"]
    assert said["thresholds"] == {"cat": 0.4, "dog": 0.6} and said["model"]


def test_a_kill_loses_at_most_a_image(tmp_path: Path) -> None:
    folder(tmp_path)
    part = tmp_path / "out" / "pseudo.json.part"
    with pytest.raises(KeyboardInterrupt):
        label(tmp_path, Bright(TABLE, dies_at=3), LabelThresholds())
    with part.open("ab") as file:
        file.write(b'{"file": "deep/30.png", "wid')  # what a kill tears
    with pytest.raises(InputError, match="begun with another score"):
        label(tmp_path, Bright(TABLE), LabelThresholds(0.5))
    network = Bright(TABLE)
    assert label(tmp_path, network, LabelThresholds()) == (3, 3, 1) and network.asked == 1 and not part.exists()
    assert label(tmp_path, Bright(TABLE), LabelThresholds(), name="again.json") == (3, 3, 1)
    first, again = (json.loads((tmp_path / "out" / name).read_text()) for name in ("pseudo.json", "again.json"))
    assert first == again


def test_thresholds_that_make_no_sense(tmp_path: Path) -> None:
    folder(tmp_path)
    for wanted, what in (
        (LabelThresholds(by_class=(("gnu", 0.5),)), r"score for \['gnu'\]"),
        (LabelThresholds(precision=0.9), "without a data set"),
    ):
        with pytest.raises(InputError, match=what):
            label(tmp_path, Bright(TABLE), wanted)
    with pytest.raises(InputError, match="leave every class out"):
        label(tmp_path, Bright(TABLE, ("eel", "gnu")), LabelThresholds(precision=0.9), pair(tmp_path))
    with pytest.raises(InputError, match="score 0"):
        LabelThresholds(0.0)
    with pytest.raises(InputError, match="no image in"):
        pseudo_label(
            tmp_path / "model", Finder(Bright(TABLE)), tmp_path / "out", tmp_path / "x.json", LabelThresholds(), QUIET
        )


@pytest.mark.parametrize("content", ["my notes", '{"images": [], "annotations": [], "categories": []}', "[]"])
def test_labels_of_a_person_are_never_replaced(content: str, tmp_path: Path) -> None:
    folder(tmp_path)
    out = tmp_path / "out" / "pseudo.json"
    label(tmp_path, Bright(TABLE), LabelThresholds())
    label(tmp_path, Bright(TABLE), LabelThresholds())  # its own are made anew
    out.write_text(content)
    with pytest.raises(InputError, match="holds no pseudo-labels"):
        label(tmp_path, Bright(TABLE), LabelThresholds())
    assert out.read_text() == content


# Training with it


def test_labels_carry_weights() -> None:
    labels, weights = np.array([0, 7, 1202]), np.array([1, 0.3, 0], np.float32)
    back, carried = unpack(torch.from_numpy(pack(labels, weights)))
    assert (
        back.tolist() == labels.tolist() and np.array_equal(carried.numpy(), weights) and carried.dtype == torch.float32
    )


def mixed(tmp_path: Path, by_score: bool = False) -> tuple[DataPair, list[str]]:
    folder(tmp_path)
    label(tmp_path, Bright(TABLE), LabelThresholds(0.4, (("dog", 0.6),), ignore_from=0.3))
    return with_pseudo(pair(tmp_path), tmp_path / "out" / "pseudo.json", 0.5, by_score)


def test_mixed_with_a_data_set(tmp_path: Path) -> None:
    """Its own boxes weigh 1, others what was asked, regions to ignore 0; images without a box are left out; so are
    those it has."""
    data, said = mixed(tmp_path)
    assert isinstance(data.train, MixedDataset) and len(data.train) == 3 and data.train.classes == CLASSES
    assert said == [
        "pseudo-labels: 2 boxes in 2 images beside the 1 with labels",
        "pseudo-labels: 1 images left out, they have no box of its classes",
    ]
    batch = next(iter(Loader(data.train.cached(1 << 20), LoaderConfig(3, SIDE, workers=0)).epoch(0)))
    labels, weights = unpack(batch.labels)
    assert (
        labels.tolist() == [0, 0, 1, 1]
        and weights.tolist() == [1, 0.5, 0, 0.5]
        and batch.image_index.tolist() == [0, 1, 1, 2]
    )
    by_score, _ = mixed(tmp_path, True)
    assert isinstance(by_score.train, MixedDataset)
    assert [w.tolist() for w in by_score.train.weights.values()] == [pytest.approx([0.45, 0]), pytest.approx([0.35])]
    assert len({d.fingerprint for d in (pair(tmp_path), data, by_score)}) == 3
    known = DataPair(
        "shop",
        data.train,
        read_coco(tmp_path / "out" / "pseudo.json", [tmp_path / "out"], name="v", split="val"),
        data.augmentation,
    )
    with pytest.raises(InputError, match="no box of"):
        with_pseudo(known, tmp_path / "out" / "pseudo.json")
    with pytest.raises(InputError, match="weight 0"):
        with_pseudo(data, tmp_path / "out" / "pseudo.json", 0)


def predictions() -> Predictions:
    rng = torch.Generator().manual_seed(0)
    points, strides = grid(((8, 8), (4, 4), (2, 2)), (SIDE, SIDE), "cpu")
    logits, boxes = (torch.randn(2, len(points), n, generator=rng).requires_grad_() for n in (2, 68))
    return Predictions(logits, boxes, points, strides)


def test_weights_in_the_loss() -> None:
    """1 is as without; a half halves what its anchors contribute; a box of weight 0 is neither learnt nor
    background."""
    boxes = torch.tensor([[4.0, 4, 28, 28], [10, 10, 60, 60]])
    plain = Truth(boxes, torch.tensor([0, 1]), torch.tensor([0, 1]))
    ones, half, none = (
        Truth(plain.boxes, plain.labels, plain.image_index, torch.tensor([1.0, w])) for w in (1.0, 0.5, 0.0)
    )
    grads, terms, matched = {}, {}, {}
    for name, truth in {"plain": plain, "ones": ones, "half": half, "none": none}.items():
        out = predictions()
        loss, terms[name], matched[name] = DetectionLoss()(out, truth)
        loss.backward()
        assert out.logits.grad is not None
        grads[name] = out.logits.grad
    assert all(torch.equal(terms["plain"][k], terms["ones"][k]) for k in terms["plain"]) and torch.equal(
        grads["plain"], grads["ones"]
    )
    second = matched["plain"].anchor[matched["plain"].box == 1]
    assert torch.allclose(grads["half"][1, second], grads["plain"][1, second] / 2) and torch.allclose(
        grads["half"][0], grads["plain"][0]
    )
    points = predictions().points
    inside = ((points > boxes[1, :2]) & (points < boxes[1, 2:])).all(1)
    assert (
        set(matched["none"].box.tolist()) == {0} and inside.sum() > len(second) and not grads["none"][1, inside].any()
    )
    assert grads["none"][1, ~inside].all() and grads["none"][0].any()


def test_linked_folders_and_names_that_are_not_utf8_are_labelled_and_resumed(tmp_path: Path) -> None:
    photos = folder(tmp_path)
    first, second, *_ = sorted((photos / "deep").iterdir())
    odd = os.fsdecode(b"z\xe9.png")
    os.rename(first, photos / odd)
    (tmp_path / "elsewhere").mkdir()
    os.rename(second, tmp_path / "elsewhere" / second.name)
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    (photos / "loop").symlink_to(photos)
    (photos / "pipe.png").unlink(missing_ok=True)
    os.mkfifo(photos / "pipe.png")
    with pytest.raises(KeyboardInterrupt):
        label(tmp_path, Bright(TABLE, dies_at=len(TABLE)), LabelThresholds(0.4))
    images_, _, broken = label(tmp_path, Bright(TABLE), LabelThresholds(0.4))
    names = [
        entry["file_name"] for entry in json.loads((tmp_path / "out" / "pseudo.json").read_text("utf-8"))["images"]
    ]
    assert images_ == len(TABLE) == len(set(names)) and broken == 2
    assert any(name.endswith(odd) for name in names) and any(f"linked/{second.name}" in name for name in names)
