"""The image, the page and the tables of a bench: kinds of mAP never mixed, labels that can be read, numbers that
are the bench's."""

from __future__ import annotations

import csv
import io
import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import escape
from PIL import Image

from nas.bench.models import resolve_models
from nas.bench.report import Panel, bench_data, short_name, write_bench
from nas.bench.report_html import bench_figure
from nas.bench.report_tables import bench_csv, bench_markdown, bench_notes, bench_table
from nas.bench.results import BenchRecord, BenchResult, bench_result
from nas.core.architecture_file import DataRecord, write_artifact
from nas.core.budgets import parse_request
from nas.core.estimate import Estimate
from nas.core.references import reference_artifact
from nas.core.units import quantity
from nas.plotting.canvas import WIDTH
from nas.plotting.labels import Box
from search_spaces.references import FAMILIES, references
from tests._bench import DIGITS, FP32, INT8, OWN, example, own_model

BUDGETS = parse_request(f"S=20ms,M=ref:{next(iter(references()))}")


def names(panel: Panel) -> list[str]:
    return [p.id for s in panel.series for p in s.points]


# the value that is drawn


def test_published_and_own_map_stand_on_panels_of_their_own() -> None:
    drawn = bench_data(example(OWN))
    published, trained, supernet = drawn.panels
    assert published.hollow and not trained.hollow and not supernet.hollow
    assert set(names(published)) == {name for name, r in references().items() if r.published}
    assert set(names(trained)) == {"S", "M", "L"} and set(names(supernet)) == {"night/S", "night/L"}
    assert published.heading == "mAP 50–95 on COCO val2017, published by the authors (hollow)"
    assert trained.heading == "mAP 50–95 on digits, trained by this project" and "supernet" in supernet.heading
    assert published.canvas.y.label == "Published mAP 50–95" and trained.canvas.y.label == "mAP 50–95 on digits"
    assert {panel.canvas.x for panel in drawn.panels} == {published.canvas.x}
    assert (
        published.canvas.bottom
        < trained.canvas.top
        < trained.canvas.bottom
        < supernet.canvas.top
        < supernet.canvas.bottom
        < drawn.height
    )
    assert [p.id for p, _ in supernet.ticks] == ["quick/S"] and not published.ticks and not trained.ticks
    assert all(p.y == supernet.canvas.y.low for p, _ in supernet.ticks)


def test_two_data_sets_are_not_mixed() -> None:
    other = own_model("X", 40.0, 1e9, data=("shop", "ff"))
    drawn = bench_data(example([*OWN[:3], other], limit=0))
    assert [set(names(panel)) for panel in drawn.panels] == [{"S", "M", "L"}, {"X"}]


def test_two_data_sets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = []
    for name, fingerprint in (("a", "1" * 16), ("b", "2" * 16), ("c", "2" * 16)):
        artifact = replace(reference_artifact("yolov8n"), name=name, data=DataRecord("shop", fingerprint))
        artifact = replace(artifact, estimates=(Estimate("map", 0.4, "", 0.3, 0.5),))
        paths.append(str(tmp_path / f"{name}.json"))
        write_artifact(Path(paths[-1]), artifact)
    found = [model.accuracy.data for model in resolve_models(paths) if model.accuracy]
    assert found == ["shop (11111111)", "shop (22222222)", "shop (22222222)"]
    assert [model.accuracy.data for model in resolve_models(paths[1:]) if model.accuracy] == ["shop", "shop"]


def test_own_map_without_an_interval_is_told() -> None:
    bare = own_model("X", 40.0, 1e9)
    assert bare.accuracy is not None
    sure = replace(own_model("Y", 41.0, 2e9), accuracy=replace(bare.accuracy, interval=(38.0, 44.0)))
    bare = replace(bare, accuracy=replace(bare.accuracy, interval=None))
    lines = [line for line in bench_notes(example([bare, sure])) if "no interval of mAP" in line]
    assert lines == ["no interval of mAP is known of X: nas evaluate gives one"]


def test_a_bench_of_models_without_map_is_drawn_too(tmp_path: Path) -> None:
    bench = example([replace(m, accuracy=None) for m in OWN], limit=0)
    drawn = bench_data(bench)
    assert len(drawn.panels) == 1 and not drawn.panels[0].series and len(drawn.panels[0].ticks) == len(OWN)
    assert "No mAP" in drawn.panels[0].heading
    write_bench(tmp_path, bench, drawn)


def test_points_are_the_measured_and_published_numbers() -> None:
    bench = example(OWN)
    for panel in bench_data(bench).panels:
        for series in panel.series:
            assert [p.x for p in series.points] == sorted(p.x for p in series.points)
            for p in series.points:
                entry = bench.main[p.id]
                assert entry.latency is not None and entry.model.accuracy is not None
                assert (p.x, p.y) == (entry.latency.value, entry.model.accuracy.share)
                assert p.x_interval == (entry.latency.low, entry.latency.high)
                assert entry.model.family == series.family.name and any(
                    entry.model.accuracy.source in line for line in p.hover
                )
        for (x0, y0), (x1, y1) in itertools.pairwise(panel.front):
            assert (x0 == x1 and y0 < y1) or (x0 <= x1 and y0 == y1)
        assert all(any(x <= p.x and y >= p.y for x, y in panel.front) for s in panel.series for p in s.points)


def test_families_are_told_apart_and_look_alike_in_every_bench() -> None:
    drawn = bench_data(example(OWN))
    looks = {f.name: (f.colour, f.shape) for f in drawn.families}
    assert len(set(looks.values())) == len(looks) and list(looks)[:3] == ["shop", "quick", "night"]
    assert all(looks[f.name] == (f.colour, f.shape) for f in bench_data(example(limit=6)).families)


@pytest.mark.parametrize(
    ("name", "family", "text"),
    [
        ("yolov8n", "YOLOv8", "n"),
        ("yolo-nas-s", "YOLO-NAS", "s"),
        ("yolov7", "YOLOv7", "yolov7"),
        ("yolov7-tiny", "YOLOv7", "tiny"),
        ("shop/S", "shop", "S"),
    ],
)
def test_short_names(name: str, family: str, text: str) -> None:
    assert short_name(name, family) == text


def boxes(panel: Panel) -> list[Box]:
    found = []
    for label, _ in panel.labels:
        x, y = panel.canvas.pixel(*label.anchor)
        found.append(Box.around((x + label.offset[0], y + label.offset[1]), *label.size))
    return found


@pytest.mark.parametrize(("log", "published"), [(True, True), (False, True), (True, False)])
def test_labels_cover_neither_each_other_nor_a_point(log: bool, published: bool) -> None:
    drawn = bench_data(example(OWN, published=published), BUDGETS, log_x=log)
    for panel in drawn.panels:
        found = boxes(panel)
        assert all(box.inside(panel.canvas.area) for box in found)
        assert not [(a, b) for a, b in itertools.combinations(found, 2) if a.overlaps(b)]
        points = [panel.canvas.pixel(p.x, p.y) for s in panel.series for p in s.points]
        assert not [point for box in found for point in points if box.holds(point, 4)]


def test_budgets_are_numbers_and_models() -> None:
    bench = example(OWN)
    drawn = bench_data(bench, BUDGETS)
    name = next(iter(references()))
    latency = bench.main[name].latency
    assert latency is not None
    assert sorted(bound for _, bound, _ in drawn.budgets) == sorted([20.0, latency.value])
    assert {text.split(" ≤")[0] for text, *_ in drawn.budgets} == {"S", f"M ({name})"}
    assert drawn.panels[0].canvas.top > bench_data(bench).panels[0].canvas.top


def failed(bench: BenchResult, name: str) -> BenchResult:
    """The same bench, one model failing in its first round."""
    models = [e.model for e in bench.main.values()]
    turns = [
        BenchRecord(
            i,
            e.model.name,
            e.target,
            None if e.model.name == name else m,
            "out of memory" if e.model.name == name else "",
        )
        for e in bench.entries
        for i, m in enumerate(e.measured)
        if i == 0 or e.model.name != name
    ]
    return bench_result(bench.settings, models, turns, bench.machine)


def test_who_failed_is_in_the_table_and_not_in_the_image() -> None:
    bench = failed(example(OWN, int8=True), "M")
    assert "M" not in {name for panel in bench_data(bench).panels for name in names(panel)}
    last = bench_table(bench).rows[-1]
    assert last[0] == "M" and last[2] == "failed"
    assert f"failed: M on {FP32}: out of memory" in bench_notes(bench) and "out of memory" in bench_csv(bench)


# tables


def test_table_has_everyone_fastest_first() -> None:
    bench = example(OWN, int8=True)
    table = bench_table(bench)
    assert table.headers[2:5] == (FP32, INT8, "speed-up") and len(table.rows) == len(bench.main)
    shown = [bench.main[row[0]].latency for row in table.rows]
    assert [e.value for e in shown if e] == sorted(e.value for e in shown if e)
    assert all(row[2] == quantity(e) for row, e in zip(table.rows, shown, strict=True) if e)
    assert {row[-5] for row in table.rows} >= {f"{m.params / 1e6:.2f}" for m in OWN}


def test_csv_has_every_number_of_every_target() -> None:
    bench = example(OWN, int8=True)
    rows = list(csv.DictReader(io.StringIO(bench_csv(bench))))
    assert [(row["model"], row["target"]) for row in rows] == [(e.model.name, e.target) for e in bench.entries]
    assert [float(row["latency_ms"]) for row in rows] == [e.latency.value for e in bench.entries if e.latency]
    ratios = {row["model"]: float(row["speed_up"]) for row in rows if row["speed_up"]}
    assert ratios == {name: ratio.value for name, ratio in bench.speed_ups().items()}
    assert {row["map_data"] for row in rows} == {"COCO val2017", DIGITS[0], ""}


def test_markdown_names_machine_families_and_sources() -> None:
    bench = example(OWN, int8=True)
    text = bench_markdown(bench)
    assert '"odd", CPU' in text and "3 rounds" in text and "geometric mean" in text and "nominal speed" in text
    assert all(r.published is None or r.published.source in text for r in references().values())
    assert all(re.search(rf"{family} \d\.\d\dx", text) for family in FAMILIES)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1 and len(rows) == 2 + len(bench.main)


# page and image


def test_page_has_an_axis_per_panel_and_everyone_with_intervals() -> None:
    drawn = bench_data(example(OWN), BUDGETS)
    figure = bench_figure(drawn)
    points = {
        (trace.yaxis, text.split("<br>")[0]) for trace in figure.data if trace.hovertext for text in trace.hovertext
    }
    for i, panel in enumerate(drawn.panels):
        axis = "y" if i == 0 else f"y{i + 1}"
        assert {(axis, f"<b>{name}</b>") for name in names(panel)} <= points
        assert figure.layout[axis.replace("y", "yaxis")].title.text == panel.canvas.y.label
    assert any("quick/S" in text for _, text in points)
    hollow = [trace for trace in figure.data if trace.name in FAMILIES and trace.mode == "markers"]
    assert all(trace.marker.color == "#FFFFFF" and trace.error_x.array is not None for trace in hollow)
    listed = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert len(listed) == len(set(listed)) == len(drawn.families) + 1
    texts = [a.text for a in figure.layout.annotations]
    assert any("published by the authors" in text for text in texts) and "S ≤ 20 ms" in texts


def test_files_are_complete_and_fetch_nothing(tmp_path: Path) -> None:
    bench = example(OWN)
    drawn = bench_data(bench, title="<script>alert(1)</script>")
    written = write_bench(tmp_path, bench, drawn)
    assert [p.name for p in written] == ["bench.json", "bench.csv", "bench.md", "bench.html", "bench.png"]
    text = (tmp_path / "bench.html").read_text(encoding="utf-8")
    outside = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert (
        "alert(1)</script>" not in text and "src=" not in outside and "@import" not in outside and len(text) > 1_000_000
    )
    with Image.open(tmp_path / "bench.png") as image:
        assert image.size == (2 * WIDTH, 2 * drawn.height)
        colours = {rgb for _, rgb in image.convert("RGB").getcolors(1 << 24) or []}
    for family in drawn.families:
        assert tuple(int(family.colour[i : i + 2], 16) for i in (1, 3, 5)) in colours


def test_intervals_of_map_are_drawn_and_written() -> None:
    bench = example(OWN, limit=2)
    first = bench.entries[-len(OWN)].model
    assert first.accuracy is not None and first.accuracy.interval is None
    interval = (first.accuracy.percent - 9.0, first.accuracy.percent + 31.0)
    entries = tuple(
        replace(e, model=replace(e.model, accuracy=replace(first.accuracy, interval=interval)))
        if e.model.name == first.name
        else e
        for e in bench.entries
    )
    bench = replace(bench, entries=entries)
    data = bench_data(bench)
    (point,) = (p for panel in data.panels for s in panel.series for p in s.points if p.id == first.name)
    (panel,) = (panel for panel in data.panels for s in panel.series if point in s.points)
    shares = (interval[0] / 100, interval[1] / 100)
    assert point.y_interval == shares and panel.canvas.y.low <= shares[0] and shares[1] <= panel.canvas.y.high
    (cell,) = (row[3] for row in bench_table(bench).rows if row[0] == first.name)
    assert cell == f"{first.accuracy.share:.3f} ({shares[0]:.3f}–{shares[1]:.3f})"
    assert f"{interval[0]!r},{interval[1]!r}" in bench_csv(bench)
    others = [p for p in (q for panel in data.panels for s in panel.series for q in s.points) if p.id != first.name]
    assert all(p.y_interval is None for p in others)


def test_a_searched_architecture_brings_the_interval_of_its_map(tmp_path: Path) -> None:
    known = Estimate("map", 0.5, low=0.45, high=0.57, source="predicted")
    artifact = replace(reference_artifact("yolov5n", 3, 96), estimates=(known,))
    accuracy = resolve_models([str(write_artifact(tmp_path / "S.json", artifact))])[0].accuracy
    assert accuracy is not None and accuracy.interval == pytest.approx((45, 57))


def test_map_has_its_interval_and_the_page_its_table(tmp_path: Path) -> None:
    models = [
        replace(
            m, accuracy=m.accuracy and replace(m.accuracy, interval=(m.accuracy.percent - 4, m.accuracy.percent + 3))
        )
        for m in OWN
    ]
    bench = example(models)
    data = bench_data(bench)
    for panel in data.panels:
        for point in [p for s in panel.series for p in s.points]:
            accuracy = bench.main[point.id].model.accuracy
            assert accuracy is not None
            if accuracy.interval is None or point.y_interval is None:
                assert point.y_interval is accuracy.interval is None
                continue
            assert point.y_interval == pytest.approx((accuracy.share - 0.04, accuracy.share + 0.03))
            assert panel.canvas.y.low <= point.y_interval[0] and point.y_interval[1] <= panel.canvas.y.high
            assert any(accuracy.text in line for line in point.hover) and re.search(
                r"\(0\.\d{3}–0\.\d{3}\)$", accuracy.text
            )
    page = next(path for path in write_bench(tmp_path, bench, data) if path.suffix == ".html").read_text("utf-8")
    table = bench_table(bench)
    assert all(f"<td>{escape(cell)}</td>" in page for row in table.rows for cell in row)
    figure = bench_figure(data)
    assert any(t.error_y and t.error_y.array is not None and max(t.error_y.array) > 0 for t in figure.data)


def test_text_from_outside_does_no_harm_in_the_page(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>\x1b[31m\u202e"
    bench = example([replace(OWN[0], name=name, family="</title><b>")], limit=0)
    page = next(p for p in write_bench(tmp_path, bench, bench_data(bench, title=name)) if p.suffix == ".html")
    text = page.read_text("utf-8")
    assert "<script>alert" not in text and "\x1b" not in text and "\u202e" not in text and "</title><b>" not in text
