"""What an evaluation says beyond one number: errors by hand, curves against their definition, and the files of a
report."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from nas.cli import main
from nas.data.dataset import Annotation, DetectionDataset
from nas.data.images import read_image
from nas.data.source import open_data
from nas.evaluation.bootstrap import compare
from nas.evaluation.matching import match
from nas.evaluation.report import EvaluationResult, evaluation_of
from nas.evaluation.report_confusion import Confusion, confusion_of, judge
from nas.evaluation.report_curves import SCORES, best_threshold, curves_of
from nas.evaluation.report_html import confusion_figure, curve_figure, f1_figure
from nas.evaluation.report_images import remove_earlier
from nas.evaluation.report_tables import class_csv, class_table, difference_text, interval_text
from nas.inference.coco_metrics import Detections, evaluate
from tests._detectors import Files, detector_files
from tests.nas.inference.test_coco_metrics import data_set, found, odd_case, random_case


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return detector_files(tmp_path_factory.getbasetemp())


def square(x: float, label: int, crowd: bool = False) -> Annotation:
    return Annotation((x, 0, x + 100, 100), label, crowd)


def test_errors_by_hand() -> None:
    """Classes a and b. In order: a right one, a double of it, an a found as b, a missed b, one made up, one in a
    crowd, one too unsure."""
    objects = [square(0, 0), square(200, 0), square(400, 1), Annotation((600, 0, 900, 300), 0, crowd=True)]
    right, double, other = (0, 0, 100, 90, 0.9, 0), (0, 0, 100, 80, 0.8, 0), (200, 0, 300, 100, 0.7, 1)
    made_up, in_crowd, unsure = (500, 500, 600, 600, 0.6, 1), (650, 50, 700, 100, 0.5, 0), (400, 0, 500, 100, 0.1, 1)
    data = data_set({1: objects, 2: []})
    first = judge(data.samples[0], found(right, double, other, made_up, in_crowd, unsure), 0.5, 0.3)
    assert first.takes.tolist() == [0, -1, 1, -1, -1] and first.right.tolist() == [True, False, False, False, False]
    assert first.excused.tolist() == [False, False, False, False, True] and first.met.tolist() == [
        True,
        False,
        False,
        True,
    ]
    assert first.errors == 3 + 2 and first.f1 == pytest.approx(2 / 7)
    empty = judge(data.samples[1], Detections.none(), 0.5, 0.3)
    assert empty.errors == 0 and empty.f1 == 1
    confusion = confusion_of(data, [first, empty], 0.5, 0.3)
    assert confusion.names == ("a", "b", "background")
    assert confusion.counts.tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 0]]
    np.testing.assert_allclose(confusion.shares, np.array([[0.5, 0.5, 0], [0, 0, 1], [0.5, 0.5, 0]]))


def test_the_surer_and_the_own_class_go_first() -> None:
    data = data_set({1: [square(0, 0)]})
    verdict = judge(data.samples[0], found((0, 0, 100, 100, 0.9, 1), (0, 0, 100, 70, 0.4, 0)), 0.5, 0.0)
    assert verdict.takes.tolist() == [-1, 0] and verdict.right.tolist() == [False, True]
    verdict = judge(data.samples[0], found((0, 0, 100, 70, 0.9, 0), (0, 0, 100, 100, 0.4, 0)), 0.5, 0.0)
    assert verdict.takes.tolist() == [0, -1]


def test_every_object_and_every_detection_is_counted_once() -> None:
    for seed in range(8):
        data, detections = (odd_case if seed % 2 else random_case)(np.random.default_rng(seed))
        verdicts = [judge(s, detections.get(s.id, Detections.none()), 0.5, 0.3) for s in data.samples]
        counts = confusion_of(data, verdicts, 0.5, 0.3).counts
        for k in range(len(data.classes)):
            assert counts[k].sum() == sum(int(((s.labels == k) & ~s.crowd).sum()) for s in data.samples)
            kept = [d.labels[d.scores >= np.float32(0.3)] for d in detections.values()]
            excused = [v.found.labels[v.excused] for v in verdicts]
            assert counts[:, k].sum() == sum(int((x == k).sum()) for x in kept) - sum(
                int((x == k).sum()) for x in excused
            )
        assert counts[-1, -1] == 0


def test_curves_are_what_their_names_say() -> None:
    for seed in range(4):
        data, detections = (odd_case if seed % 2 else random_case)(np.random.default_rng(seed))
        matches, metrics = match(data, detections), evaluate(data, detections)
        curves, mean = curves_of(matches)
        there = [k for k in range(len(data.classes)) if matches.truths[:, k].any()]
        np.testing.assert_allclose(mean.f1, np.mean([c.f1 for c in curves], axis=0))
        assert mean.best_f1 == pytest.approx(mean.f1.max()) and set(SCORES) <= set(mean.scores)
        for k, curve in zip(there, curves, strict=True):
            assert curve.name == data.classes[k] and curve.scores is mean.scores
            where = matches.of_class(k)
            counted = matches.ignored[where] & 1 == 0
            scores, hits = matches.score[where][counted], (matches.hit[where] & 1)[counted]
            total = matches.truths[:, k].sum()
            by_definition = [
                2 * hits[scores >= s].sum() / ((scores >= s).sum() + total) for s in curve.scores.astype(np.float32)
            ]
            np.testing.assert_allclose(curve.f1, by_definition, atol=1e-12)
            assert curve.best_f1 >= max(by_definition) - 1e-12
            assert curve.best_f1 == pytest.approx(curve.f1.max(), abs=1e-12)  # the best place is on the curve
            best = best_threshold(matches, k)
            if best is not None:
                at = scores >= best.score
                assert (best.f1, best.score) == (curve.best_f1, curve.best_score)
                assert best.f1 == pytest.approx(2 * hits[at].sum() / (at.sum() + total))
                assert best.recall == pytest.approx(hits[at].sum() / total)
                assert best.precision == pytest.approx(hits[at].sum() / at.sum())
        assert np.mean([c.precision.mean() for c in curves]) == pytest.approx(
            metrics.map50, abs=1e-9
        )  # the area under the curves drawn


def test_with_one_class_the_mean_is_the_class() -> None:
    """The table's best F1 and its score are those of the chart, whatever the scores are."""
    for seed in range(20):
        data, detections = one_class(seed)
        evaluation = evaluation_of("S", "none", data, detections, resamples=10)
        (row,), (curve,), mean = evaluation.rows, evaluation.curves, evaluation.mean
        assert row.f1 == curve.best_f1 == mean.best_f1 and row.best_score == curve.best_score == mean.best_score
        assert evaluation.confusion.score == row.best_score
        right = int(evaluation.confusion.counts[0, 0])
        found, objects = int(evaluation.confusion.counts[:, 0].sum()), int(evaluation.confusion.counts[0].sum())
        assert row.f1 is not None and row.f1 == pytest.approx(2 * right / (found + objects))
        figure = f1_figure(evaluation)
        assert f"{row.f1:.3f} at {row.best_score:.3f}" in figure.layout.annotations[0].text


def one_class(seed: int) -> tuple[DetectionDataset, dict[int, Detections]]:
    """30 images with an object each; most are found, some twice, scores close together."""
    rng = np.random.default_rng(seed)
    data = data_set({i: [square(0, 0)] for i in range(1, 31)}, ("thing",))
    rows = {
        i: [(0.0, 0.0, 100.0, 100.0, 0.46 + 0.003 * rng.random(), 0)] * int(rng.integers(0, 2))
        + [(500.0, 500.0, 600.0, 600.0, 0.459 + 0.003 * rng.random(), 0)] * int(rng.integers(0, 2))
        for i in range(1, 31)
    }
    return data, {i: found(*r) for i, r in rows.items() if r}


def test_labels_of_the_confusion_matrix_are_whole_and_counts_have_their_own_colours() -> None:
    counts = np.array([[900, 0, 10], [0, 9, 1], [100, 0, 0]])
    confusion = Confusion(("frequent", "rare"), counts, 0.5, 0.3)
    figure, parts = confusion_figure(confusion, False), confusion_figure(confusion, True)
    assert list(figure.layout.xaxis.ticktext) == ["frequent", "rare", "background"]
    colours = np.array(figure.data[0].z)
    assert np.array_equal(np.argsort(colours, axis=None, kind="stable"), np.argsort(counts, axis=None, kind="stable"))
    assert colours.max() == 1 and np.array_equal(parts.data[0].z, confusion.shares)
    many = Confusion(tuple(f"class {i}" for i in range(60)), np.eye(61, dtype=np.int64), 0.5, 0.3)
    assert confusion_figure(many, False).layout.xaxis.tickangle == -60


def made(seed: int = 0) -> EvaluationResult:
    data, detections = random_case(np.random.default_rng(seed))
    return evaluation_of("S.onnx", "a runtime", data, detections, resamples=50)


def test_classes_in_tables() -> None:
    evaluation = made()
    content = evaluation.to_dict()
    json.dumps(content, allow_nan=False)
    assert content["map"] == evaluation.metrics.map and content["map_interval"] == [
        evaluation.interval.low,
        evaluation.interval.high,
    ]
    assert {row.name: row.ap for row in evaluation.rows} == pytest.approx(dict(evaluation.metrics.per_class))
    assert np.mean([row.ap50 for row in evaluation.rows]) == pytest.approx(evaluation.metrics.map50)
    assert sum(row.boxes for row in evaluation.rows) == sum(int((~s.crowd).sum()) for s in evaluation.dataset.samples)
    rows = list(csv.DictReader(class_csv(evaluation.rows).splitlines()))
    assert [float(row["ap50"]) for row in rows] == [row.ap50 for row in evaluation.rows]
    assert len(class_table(evaluation.rows).rows[0]) + 2 == len(class_table(evaluation.rows, best=True).rows[0])
    assert evaluation.confusion.score == evaluation.mean.best_score
    assert re.fullmatch(r"0\.\d{3} \(0\.\d{3}–0\.\d{3}\)", interval_text(evaluation.interval))
    same = compare(evaluation.matches, evaluation.matches, 20)
    assert difference_text(same, "A", "B") == (
        "A - B: mAP +0.000 (+0.000 to +0.000); could be chance: the interval holds 0; A is ahead in 50% of resamples"
    )


def test_nothing_found_and_classes_without_objects() -> None:
    data = data_set({1: [square(0, 0)], 2: []}, ("a", "nowhere"))
    evaluation = evaluation_of("S", "none", data, {}, resamples=10)
    first, second = evaluation.rows
    assert (first.ap, first.f1, first.best_score, first.boxes, first.images) == (0.0, None, None, 1, 1)
    assert (second.ap, second.ap50, second.ap_small, second.boxes) == (None, None, None, 0)
    assert [c.name for c in evaluation.curves] == ["a"] and evaluation.confusion.counts.tolist() == [
        [0, 0, 1],
        [0, 0, 0],
        [0, 0, 0],
    ]
    assert "nowhere,,,,,,0,0,,,," in class_csv(evaluation.rows)


def test_figures_of_many_classes_are_not_crowded() -> None:
    evaluation = made()
    few, many = (
        curve_figure("t", ("x", "y"), (*evaluation.curves * n, evaluation.mean), lambda c: (c.scores, c.f1))
        for n in (1, 20)
    )
    assert all(t.showlegend for t in few.data) and [t.showlegend for t in many.data] == [False] * 60 + [True]
    figure = confusion_figure(evaluation.confusion, False)
    assert figure.data[0].texttemplate and list(figure.layout.yaxis.ticktext) == ["a", "b", "c", "background"]


def test_a_report(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "evaluate",
        str(files.weights),
        "--data",
        files.spec,
        "--out",
        str(tmp_path),
        "--images",
        "2",
        "--against",
        str(files.other),
    ]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "worst-09-old.jpg").write_bytes(b"of an earlier report")
    (tmp_path / "report.html").write_text("that report")
    assert main([*argv, "--resamples", "100", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"mAP 0\.\d{3} \(0\.\d{3}–[01]\.\d{3}\)  mAP50 0\.\d{3}", said) and "torch" in said
    assert re.search(r"S.safetensors - other.safetensors: mAP \+0\.\d{3} \(.\d\.\d{3} to \+0\.\d{3}\)", said)
    content = json.loads((tmp_path / "metrics.json").read_text())
    low, high = content["map_interval"]
    assert content["map"] > 0.3 and low < high and content["images"] == 8 and content["runtime"].startswith("torch")
    assert content["against"]["difference"]["value"] > 0 and np.sum(content["confusion"]["counts"]) > 0
    assert len((tmp_path / "per_class.csv").read_text().splitlines()) == 1 + 10
    page = (tmp_path / "report.html").read_text()
    linked = re.findall(r'<img src="([^"]+)"', page)
    assert len(linked) == 4 and {p.name for p in (tmp_path / "images").iterdir()} == {
        Path(name).name for name in linked
    }
    for name in linked:
        height, width = read_image(tmp_path / name).shape[:2]
        assert (width, height) == (2 * 480 + 10, 480)
    for name in ('id="pr"', 'id="f1"', 'id="confusion"', 'id="confusion-shares"', "Plotly.newPlot"):
        assert name in page
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert (
        "http://" not in body and "https://" not in body and not re.search(r"<(script|link)[^>]+(src|href)=", page)
    )  # opens without a network


def test_an_export_is_evaluated_like_its_weights(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    found_ = {}
    for path in (files.weights, files.onnx, files.pairs):
        assert (
            main(
                [
                    "evaluate",
                    str(path),
                    "--data",
                    files.spec,
                    "--json",
                    "--resamples",
                    "20",
                    "--device",
                    "cpu",
                    "--batch",
                    "3",
                ]
            )
            == 0
        )
        found_[path.name] = json.loads(capsys.readouterr().out)
    assert found_["S.onnx"]["runtime"].startswith("ONNX Runtime") and found_["S.onnx"]["runtime"].endswith("CPU")
    for name in ("S.onnx", "pairs.onnx"):
        assert found_[name]["map"] == pytest.approx(found_["S.safetensors"]["map"], abs=2e-3)


def test_another_split(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "evaluate",
                str(files.onnx),
                "--data",
                files.spec,
                "--split",
                "train",
                "--resamples",
                "20",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    pair = open_data(files.spec)
    assert f"on {len(pair.train)} train images" in capsys.readouterr().out


def test_the_report_of_a_search_is_not_replaced(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert main(["evaluate", str(files.onnx), "--data", files.spec, "--out", str(tmp_path)]) == 2
    assert "is the folder of a search; expected another folder" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    "options, said",
    [
        (["--batch", "0"], "batch 0"),
        (["--resamples", "0"], "0 resamples"),
        (["--iou", "0"], "IoU 0.0"),
        (["--score", "2"], "score 2.0"),
        (["--against", "none.onnx"], "no model none.onnx"),
        (["--split", "test"], "no test split"),
    ],
)
def test_bad_options_are_one_line(
    files: Files, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(files.onnx), "--data", files.spec, *options]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and said in error[0]


def test_a_place_that_cannot_be_written_is_refused_before_the_evaluation(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nas.evaluation.evaluate.evaluate_file", None)
    (tmp_path / "report").write_text("a file")
    assert main(["evaluate", str(files.onnx), "--data", files.spec, "--out", str(tmp_path / "report")]) == 2
    assert "cannot make folder" in capsys.readouterr().err


def test_numbers_are_kept_where_images_cannot_be_written(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").write_text("a file")
    argv = ["evaluate", str(files.onnx), "--data", files.spec, "--limit", "4", "--resamples", "10"]
    assert main([*argv, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert json.loads((tmp_path / "metrics.json").read_text())["images"] == 4
    assert (tmp_path / "per_class.csv").is_file()


def test_images_that_no_report_wrote_stay(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    kept = tmp_path / "images" / "random-1.jpg"
    kept.write_bytes(b"of a data set")
    remove_earlier(tmp_path)
    assert kept.exists()
    (tmp_path / "report.html").touch()
    remove_earlier(tmp_path)
    assert not kept.exists()
