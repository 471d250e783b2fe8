"""COCO metrics: against numbers worked out by hand, the published ones, and pycocotools."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.data.dataset import Annotation, DetectionDataset, make_sample
from nas.data.problems import Problems
from nas.evaluation.matching import AREAS, average_precision, match, precisions
from nas.inference.coco_metrics import NAMES, Detections, Metrics, evaluate
from search_spaces.errors import InputError

SHARED = Path(__file__).resolve().parents[4] / "shared"
NUMBERS = (
    "map",
    "map50",
    "map75",
    "map_small",
    "map_medium",
    "map_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
)


def data_set(
    objects: dict[int, list[Annotation]], classes: tuple[str, ...] = ("a", "b"), size: int = 1000
) -> DetectionDataset:
    problems = Problems()
    samples = [make_sample(id, Path(f"{id}.jpg"), (size, size), found, problems) for id, found in objects.items()]
    return DetectionDataset("made", "val", classes, samples, problems)


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


def test_perfect_detections() -> None:
    data = data_set({5: [Annotation((10, 10, 30, 30), 0), Annotation((50, 50, 250, 250), 1)]})
    metrics = evaluate(data, {5: found((10, 10, 30, 30, 0.9, 0), (50, 50, 250, 250, 0.8, 1))})
    assert (metrics.map, metrics.map50, metrics.map_small, metrics.map_large, metrics.ar1) == (1, 1, 1, 1, 1)
    assert metrics.map_medium is None and metrics.ar_medium is None  # nothing of that size to find
    assert Metrics.from_dict(json.loads(json.dumps(metrics.to_dict()))) == metrics
    assert metrics.per_class == (("a", 1.0), ("b", 1.0))


def test_worked_out_by_hand() -> None:
    """One class, two objects of 100 x 100. Best first: IoU 0.7 with the first, a miss, IoU 1 with the second.

    IoU <= 0.7 (5 thresholds): hit, miss, hit; precision 1 up to recall 0.5 (51 of 101 points), then 2/3 (50 points).
    IoU > 0.7 (5 thresholds): miss, miss, hit; precision 1/3 up to recall 0.5 (51 points).
    """
    data = data_set({1: [Annotation((0, 0, 100, 100), 0), Annotation((300, 0, 400, 100), 0)], 2: []}, ("a",))
    metrics = evaluate(
        data, {1: found((0, 0, 70.001, 100, 0.9, 0), (300, 0, 400, 100, 0.5, 0)), 2: found((0, 0, 50, 50, 0.7, 0))}
    )
    loose, strict = (51 + 50 * 2 / 3) / 101, 51 / 101 / 3
    assert metrics.map == pytest.approx((5 * loose + 5 * strict) / 10, abs=1e-9)
    assert metrics.map50 == pytest.approx(loose, abs=1e-9)
    assert metrics.map75 == pytest.approx(strict, abs=1e-9)
    assert metrics.ar1 == pytest.approx((5 * 0.5 + 5 * 0) / 10) and metrics.ar100 == pytest.approx(
        (5 * 1 + 5 * 0.5) / 10
    )
    assert dict(metrics.per_class) == {"a": pytest.approx(metrics.map)}


def test_a_crowd_is_neither_found_nor_missed() -> None:
    objects = [Annotation((0, 0, 100, 100), 0), Annotation((200, 200, 600, 600), 0, crowd=True)]
    inside = (300.0, 300.0, 350.0, 350.0, 0.9, 0)
    assert evaluate(data_set({1: objects}), {1: found((0, 0, 100, 100, 0.5, 0), inside)}).map == 1
    assert evaluate(data_set({1: objects[:1]}), {1: found((0, 0, 100, 100, 0.5, 0), inside)}).map == pytest.approx(0.5)


def test_nothing_found_is_zero() -> None:
    data = data_set({1: [Annotation((0, 0, 100, 100), 1)]})
    for detections in ({}, {1: Detections.none()}):
        metrics = evaluate(data, detections)
        assert metrics.map == metrics.map50 == metrics.ar100 == metrics.map_large == 0 and metrics.map_small is None
        assert metrics.per_class == (("a", None), ("b", 0.0))


def test_it_prints_nothing_and_changes_nothing() -> None:
    data = data_set({1: [Annotation((0, 0, 100, 100), 1)]})
    detections = {1: found((0, 0, 90, 100, 0.5, 1))}
    out = io.StringIO()
    with redirect_stdout(out):
        assert evaluate(data, detections) == evaluate(data, detections)
    assert not out.getvalue()


def test_metrics_are_json(tmp_path: Path) -> None:
    data = data_set({1: [Annotation((0, 0, 100, 100), 1)]})
    content = json.loads(json.dumps(evaluate(data, {1: found((0, 0, 90, 100, 0.5, 1))}).to_dict()))
    assert set(content) == {*NUMBERS, "per_class"} and content["per_class"] == {
        "a": None,
        "b": pytest.approx(content["map"]),
    }


@pytest.mark.parametrize(
    "detections, message",
    [
        ({9: found((0, 0, 1, 1, 1, 0))}, r"detections for image 9; expected one of the 1 images"),
        ({1: found((0, 0, 1, 1, 1, 2))}, r"labels 2..2 in image 1; expected 0..1"),
        ({1: found((0, 0, 1, 1, float("nan"), 0))}, r"of image 1 is not finite"),
        ({1: found((0, float("inf"), 1, 1, 1, 0))}, r"of image 1 is not finite"),
    ],
)
def test_impossible_detections(detections: dict[int, Detections], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(data_set({1: [Annotation((0, 0, 100, 100), 1)]}), detections)


def test_nothing_to_find_is_an_error() -> None:
    with pytest.raises(InputError, match="has no object to find"):
        evaluate(data_set({1: [Annotation((0, 0, 100, 100), 1, crowd=True)]}), {})
    with pytest.raises(InputError, match=r"shapes .*; expected \[K, 4\], \[K\], \[K\]"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(1, np.float32), np.zeros(2, np.int64))


def random_case(rng: np.random.Generator) -> tuple[DetectionDataset, dict[int, Detections]]:
    """Images with up to 12 objects of 3 classes, some crowds, found roughly, doubly, wrongly or not at all."""
    objects, detections = {}, {}
    for id in rng.permutation(1000)[:12].tolist():
        truth, rows = [], []
        for _ in range(rng.integers(0, 12)):
            x, y, w, h = *rng.uniform(0, 700, 2), *rng.uniform(4, 250, 2)
            label = int(rng.integers(3))
            truth.append(Annotation((x, y, x + w, y + h), label, bool(rng.random() < 0.1)))
            for _ in range(rng.integers(0, 3)):
                dx, dy = rng.normal(0, 0.15, 2) * (w, h)
                rows.append(
                    (
                        x + dx,
                        y + dy,
                        x + w + dx,
                        y + h,
                        float(rng.random()),
                        label if rng.random() < 0.8 else int(rng.integers(3)),
                    )
                )
        objects[id], detections[id] = truth, found(*rows)
    return data_set(objects, ("a", "b", "c")), detections


def odd_case(rng: np.random.Generator) -> tuple[DetectionDataset, dict[int, Detections]]:
    """What evaluators trip over: crowds, areas of outlines on the borders of the ranges, images with nothing to
    find or nothing found, a class with no object, one with no detection, over 100 detections of a class in an image,
    few different scores, detections that repeat."""
    objects, detections = {}, {}
    step = int(rng.choice([5, 1000]))
    crowded = int(rng.integers(12))
    for i, id in enumerate(rng.permutation(1000)[:12].tolist()):
        truth, rows = [], []
        for _ in range(int(rng.choice([0, 1, 8]))):
            (x, y), (w, h) = rng.integers(0, 700, 2).astype(float), rng.integers(4, 250, 2).astype(float)
            label = int(rng.choice([0, 1, 3]))
            area = float(rng.choice([w * h * 0.6, 32.0**2, 96.0**2])) if rng.random() < 0.4 else None
            truth.append(Annotation((x, y, x + w, y + h), label, bool(rng.random() < 0.15), area))
            for _ in range(rng.integers(0, 4)):
                dx, dy = np.rint(rng.normal(0, 0.1, 2) * (w, h))
                score = float(rng.integers(1, step + 1)) / step
                rows.append(
                    (
                        x + dx,
                        y + dy,
                        x + w + dx,
                        y + h + dy,
                        score,
                        label if label != 3 and rng.random() < 0.8 else int(rng.integers(3)),
                    )
                )
        for _ in range(150 if i == crowded else int(rng.integers(3))):
            x, y, w, h = *rng.uniform(0, 700, 2), *rng.uniform(4, 250, 2)
            rows.append(
                (
                    x,
                    y,
                    x + w,
                    y + h,
                    float(rng.integers(1, step + 1)) / step,
                    1 if i == crowded else int(rng.integers(3)),
                )
            )
        objects[id] = truth
        if rng.random() < 0.9:
            detections[id] = found(*rows, *rows[:2])
    if not any(not a.crowd for truth in objects.values() for a in truth):
        return odd_case(rng)
    return data_set(objects, ("a", "b", "nowhere", "never found")), detections


def pycocotools_of(data: DetectionDataset, detections: dict[int, Detections]) -> tuple[list[float], list[list[float]]]:
    """The twelve numbers, and AP of each class at each size (all, small, medium, large), by pycocotools; -1: nothing
    to find."""
    pytest.importorskip("pycocotools", reason="pycocotools, the oracle of this test, is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rows = []
    for id, d in detections.items():
        for (x1, y1, x2, y2), score, label in zip(
            d.boxes.astype(float), d.scores.astype(float), d.labels.tolist(), strict=True
        ):
            rows.append({"image_id": id, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score, "category_id": label + 1})
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = data.to_coco()
        truth.createIndex()
        oracle = COCOeval(truth, truth.loadRes(rows), "bbox")
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    tables = [[oracle.eval["precision"][:, :, k, a, -1] for a in range(4)] for k in range(len(data.classes))]
    return list(oracle.stats), [[float(t[t > -1].mean()) if (t > -1).any() else -1.0 for t in row] for row in tables]


@pytest.mark.parametrize("case", [random_case, odd_case])
def test_equal_to_pycocotools(
    case: Callable[[np.random.Generator], tuple[DetectionDataset, dict[int, Detections]]],
) -> None:
    """The evaluator's numbers, and those that come of the matches: all twelve, each class, each class at each size,
    on 16 cases of each kind."""
    for seed in range(16):
        data, detections = case(np.random.default_rng(seed))
        stats, per_class = pycocotools_of(data, detections)
        metrics = evaluate(data, detections)
        ours = [-1.0 if (value := getattr(metrics, name)) is None else value for name in NUMBERS]
        np.testing.assert_allclose(ours, stats, atol=1e-9, err_msg=str(seed))
        np.testing.assert_allclose(
            [-1.0 if ap is None else ap for _, ap in metrics.per_class], [row[0] for row in per_class], atol=1e-9
        )
        for i, area in enumerate(AREAS):
            matches = match(data, detections, area)
            by_class = np.nan_to_num(precisions(matches)[0].mean(1), nan=-1.0)
            np.testing.assert_allclose(by_class, [row[i] for row in per_class], atol=1e-9, err_msg=f"{seed} {area}")
            mean = np.nan_to_num(average_precision(matches), nan=-1.0)
            np.testing.assert_allclose(mean, [stats[(0, 3, 4, 5)[i]]], atol=1e-9)
        np.testing.assert_allclose(
            [average_precision(match(data, detections), iou=iou)[0] for iou in (0.5, 0.75)], stats[1:3], atol=1e-9
        )


def test_the_odd_cases_are_odd() -> None:
    cases = [odd_case(np.random.default_rng(seed)) for seed in range(20)]
    samples = [s for data, _ in cases for s in data.samples]
    assert any(s.crowd.any() for s in samples) and any(not len(s) for s in samples)
    assert any(s.id not in detections for data, detections in cases for s in data.samples)
    assert all(not any((s.labels == 2).any() for s in data.samples) for data, _ in cases)
    assert any((s.areas == 32**2).any() for s in samples) and any((s.areas == 96**2).any() for s in samples)
    counts = [np.bincount(d.labels, minlength=4) for _, detections in cases for d in detections.values()]
    assert (
        max(c.max() for c in counts) > 100
        and not any(c[3] for c in counts)
        and any((s.labels == 3).any() for s in samples)
    )
    scores = [np.concatenate([d.scores for d in detections.values()]) for _, detections in cases]
    assert any(len(np.unique(s)) < len(s) / 2 for s in scores)


def published(folder: Path) -> tuple[DetectionDataset, dict[int, Detections], dict[str, Any]]:
    expected = json.loads((folder / "expected.json").read_text())
    truth, rows = (json.loads((folder / expected[key]).read_text()) for key in ("gt", "dets"))
    categories = sorted(truth["categories"], key=lambda c: c["id"])
    label = {c["id"]: i for i, c in enumerate(categories)}
    objects: dict[int, list[Annotation]] = defaultdict(list)
    for a in truth["annotations"]:
        x, y, w, h = a["bbox"]
        objects[a["image_id"]].append(
            Annotation((x, y, x + w, y + h), label[a["category_id"]], bool(a["iscrowd"]), a["area"])
        )
    problems = Problems()
    samples = [
        make_sample(i["id"], Path(i["file_name"]), (i["width"], i["height"]), objects[i["id"]], problems)
        for i in truth["images"]
    ]
    grouped: dict[int, list[tuple[float, float, float, float, float, int]]] = defaultdict(list)
    for r in rows:
        x, y, w, h = r["bbox"]
        grouped[r["image_id"]].append((x, y, x + w, y + h, r["score"], label[r["category_id"]]))
    data = DetectionDataset("coco", "val", [c["name"] for c in categories], samples, problems)
    return data, {id: found(*entries) for id, entries in grouped.items()}, expected


def test_the_published_twelve_numbers() -> None:
    folder = SHARED / "data" / "coco_eval"
    if not folder.is_dir():
        pytest.skip("the optional folder shared/data/coco_eval is not here")
    data, detections, expected = published(folder)
    metrics = evaluate(data, detections)
    assert isinstance(metrics, Metrics) and data.boxes == 830
    names = (
        "AP",
        "AP50",
        "AP75",
        "APsmall",
        "APmedium",
        "APlarge",
        "AR1",
        "AR10",
        "AR100",
        "ARsmall",
        "ARmedium",
        "ARlarge",
    )
    for ours, theirs in zip(NUMBERS, names, strict=True):
        assert getattr(metrics, ours) == pytest.approx(expected[theirs], abs=1e-6), theirs


# metrics from files


@pytest.mark.parametrize("name, value", [("map", "abc"), ("map", None), ("map", 1.5), ("ar1", True), ("per_class", [])])
def test_metrics_of_a_file_are_checked(name: str, value: object) -> None:
    good = {n: None if "_" in n else 0.5 for n in NAMES} | {"per_class": {"a": 0.5, "b": None}}
    assert Metrics.from_dict(good).to_dict() == good
    with pytest.raises(InputError, match=f"^S.safetensors: metrics: {name} is"):
        Metrics.from_dict({**good, name: value}, "S.safetensors: metrics")
    for given in (None, list[int](), dict[str, int](), "x"):
        with pytest.raises(InputError):
            Metrics.from_dict(given)


@pytest.mark.parametrize("ids", [(2**53, 2**53 + 1, 2**53 + 2), (2**63, 2**64, 2**127), (-(10**90), -1, 10**90)])
def test_ids_are_any_integers(ids: tuple[int, ...]) -> None:
    """float64, in which the evaluator stores ids, holds them to 2^53: the images would be taken for one, or for none."""
    box = Annotation((10, 10, 40, 40), 0)
    data = data_set({id: [box] for id in ids})
    detections = {id: found((10, 10, 40, 40, 0.9, 0)) for id in ids[:2]}
    expected = evaluate(data_set({1: [box], 2: [box], 3: [box]}), {1: detections[ids[0]], 2: detections[ids[1]]})
    assert evaluate(data, detections) == expected
    matches = match(data, detections)
    assert matches.images.tolist() == list(ids)
    assert float(average_precision(matches)[0]) == pytest.approx(expected.map)
    with pytest.raises(InputError, match="detections for image 7"):
        evaluate(data, {7: detections[ids[0]]})


def test_an_interval_of_map_is_kept_and_checked() -> None:
    data = data_set({1: [Annotation((10, 10, 40, 40), 0)]})
    metrics = replace(evaluate(data, {1: found((10, 10, 40, 40, 0.9, 0))}), map_interval=(0.25, 0.75))
    content = json.loads(json.dumps(metrics.to_dict()))
    assert content["map_interval"] == [0.25, 0.75]
    assert Metrics.from_dict(content) == metrics
    assert "map_interval" not in evaluate(data, {}).to_dict()  # nothing invented where none was computed
    for wrong in ([0.7, 0.2], [0.2], [0.1, 0.2, 0.3], [0.1, 1.5], ["a", "b"], 0.5, {"low": 0}, [None, 1]):
        with pytest.raises(InputError, match="map_interval"):
            Metrics.from_dict({**content, "map_interval": wrong})
