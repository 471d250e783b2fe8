"""Tables, files of the front, and the efficiency frontier as a page and an image."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from nas.core.atomic import atomic_write
from nas.core.budgets import parse_budgets
from nas.core.estimate import Candidate, Estimate, Objective
from nas.core.pareto import front_of
from nas.core.text_table import TextTable
from nas.core.units import compact, number, quantity
from nas.plotting.canvas import HEIGHT, WIDTH, cost_axis, gain_axis
from nas.plotting.frontier import FrontierData, write_frontier
from nas.plotting.labels import Box, place
from nas.search.confirmation import confirm
from nas.search.report.front_files import Front, front_csv, read_front, results_table, write_front
from nas.search.report.frontier import frontier_data
from nas.search.selection import select
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from tests._candidates import candidates, point

COST, GAIN = Objective("latency_ms", "min", "ms"), Objective("map", "max")
REFERENCES = (("YOLOv8n", 1.05, 0.565), ("YOLO-NAS <S>", 2.9, 0.70))


def data(n: int = 120, seed: int = 1, budgets: str = "S=1.2,M=2.5,L=4.5", **options: object) -> FrontierData:
    pool = candidates(n, seed)
    selection = select(pool, "latency_ms", "map", parse_budgets(budgets))
    given = {
        "selection": selection,
        "references": REFERENCES,
        "target": "onnxruntime:fp32@128",
        "data_set": "digits",
        "hypervolume": 0.6847,
        **options,
    }
    return frontier_data(pool, COST, GAIN, **given)  # type: ignore[arg-type]


def test_the_subtitle_says_whose_map_is_drawn() -> None:
    """The supernet's mAP is no mAP of trained networks, and a picture that is passed on must say so."""

    def of(source: str, c: Candidate) -> Candidate:
        return c.with_estimate(replace(c["map"], source=source))

    pool = [of("predicted", c) for c in candidates(30)]
    chosen = select(pool, "latency_ms", "map", parse_budgets("S=1.2,L=4.5"))
    drawn = frontier_data(pool, COST, GAIN, selection=chosen)
    assert "mAP 50–95 is the supernet's, before training" in " ".join(drawn.subtitle)
    picks = [replace(pick, candidate=of("trained", pick.candidate)) for pick in chosen]
    drawn = frontier_data(pool, COST, GAIN, selection=replace(chosen, picks=tuple(picks)))
    assert "is the supernet's, of S, L that of trained weights" in " ".join(drawn.subtitle)
    for source in ("trained", "table"):
        drawn = frontier_data([of(source, c) for c in candidates(30)], COST, GAIN)
        assert "supernet" not in " ".join(drawn.subtitle)


# numbers


@pytest.mark.parametrize(
    "value, text",
    [
        (0.7123, "0.712"),
        (0, "0"),
        (12.345, "12.3"),
        (9999, "9999"),
        (12_167_600, "12.2 M"),
        (999_999, "1.00 M"),
        (59.92e9, "59.9 G"),
        (-0.05, "-0.0500"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("value, text", [(2.5, "2.5"), (2, "2"), (2e7, "20 M"), (1.5e9, "1.5 G"), (0.001, "0.001")])
def test_compact(value: float, text: str) -> None:
    assert compact(value) == text


@pytest.mark.parametrize(
    "estimate, text",
    [
        (Estimate("latency_ms", 1.8437, "ms", 1.81, 1.87, "measured"), "1.84 ± 0.03 ms"),
        (Estimate("map", 0.7741, "", 0.7625, 0.7855), "0.774 ± 0.012"),
        (Estimate("params", 12_167_600), "12.17 M"),
        (Estimate("map", 0.5, "", 0.5, 0.5), "0.500"),
        (Estimate("map", 0.0), "0.000"),
        (Estimate("map_small", 0.0, "", 0.0, 0.0), "0.000"),
        (Estimate("map", 0.0, "", 0.0, 0.012), "0.000 ± 0.006"),
        (Estimate("map50", 0.05), "0.050"),
        (Estimate("params", 0.0), "0"),
        (Estimate("latency_ms", 25.3, "ms", 5, 45), "25 ± 20 ms"),
        (Estimate("big", 5e6, "", 4e6, 6e6), "5.000 M"),
    ],
)
def test_quantity(estimate: Estimate, text: str) -> None:
    assert quantity(estimate) == text


# front.json, front.csv, tables


def test_front_files_hold_the_front(tmp_path: Path) -> None:
    front = front_of(candidates(80), (COST, GAIN))
    value = Front((COST, GAIN), front, (("S", front[0].id), ("L", front[-1].id)), 0.1 + 0.2, (6.3, 0.41))
    json_path, csv_path = write_front(tmp_path / "run", value)
    assert (json_path.name, csv_path.name) == ("front.json", "front.csv")
    assert read_front(json_path) == value
    raw = json.loads(json_path.read_text(encoding="utf-8"))
    assert raw["objectives"] == ["min:latency_ms", "max:map"] and raw["chosen"] == {"S": front[0].id, "L": front[-1].id}
    rows = list(csv.DictReader(csv_path.open(encoding="utf-8", newline="")))
    assert [row["id"] for row in rows] == [c.id for c in front]
    assert [float(row["latency_ms"]) for row in rows] == [c["latency_ms"].value for c in front]
    assert [float(row["map.low"]) for row in rows] == [c["map"].low for c in front]
    assert (rows[0]["name"], rows[1]["name"], rows[-1]["name"]) == ("S", "", "L")
    assert rows[0]["latency_ms.target"] == "onnxruntime:fp32@128" and rows[0]["params.low"] == ""
    assert rows[0]["choice.neck_depth"] == str(front[0].architecture["neck_depth"])


def test_front_csv_of_different_candidates_and_of_awkward_text() -> None:
    odd = Candidate(Architecture("toy", 2, (("block", 'a,"b"\nc'),)), (Estimate("nwot", 3.5),))
    rows = list(csv.DictReader(io.StringIO(front_csv([point(1, 0.5), odd], {"S": odd.id}))))
    assert rows[0]["nwot"] == "" and rows[1]["map"] == "" and rows[1]["choice.block"] == 'a,"b"\nc'
    assert (rows[1]["name"], rows[1]["space"], rows[1]["trial"]) == ("S", "toy@2", "")
    columns = front_csv([point(1, 0.5), odd]).splitlines()[0].split(",")
    assert columns[:4] == ["name", "id", "trial", "space"]
    assert [c.startswith("choice.") for c in columns] == sorted(c.startswith("choice.") for c in columns)
    assert front_csv([]).strip() == "name,id,trial,space"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"schema": 9}, "schema version 9"),
        ({"candidates": {}}, "candidates is"),
        ({"hypervolume": "x"}, "no number"),
        ({"reference": 3}, "no number"),
        ({"x": 1}, "unknown keys x"),
    ],
)
def test_read_front_names_what_is_wrong(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "front.json"
    atomic_write(path, json.dumps({**Front((COST, GAIN), (point(1, 0.5),)).to_dict(), **change}))
    with pytest.raises(InputError, match=message) as caught:
        read_front(path)
    assert str(caught.value).startswith(str(path))


def test_results_table_as_markdown_and_in_a_terminal() -> None:
    pool = candidates(60, 2)
    rows = [(pick.name, pick.candidate) for pick in select(pool, "latency_ms", "map")]
    table = results_table([*rows, ("ref", Candidate(Architecture("toy", 1, ()), (Estimate("map", 0.5),)))])
    lines = table.markdown().splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines) == 6
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "",
        "architecture",
        "Parameters",
        "MACs",
        "Latency",
        "mAP 50–95",
    ]
    assert re.fullmatch(r"\|( -+ \|){2}( -+: \|){4}", lines[1])
    assert quantity(rows[0][1]["latency_ms"]) in lines[2] and lines[-1].count("–") == 3
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(table.rich("Chosen"))
    text = console.export_text()
    assert "Chosen" in text and all(cell in text for row in table.rows for cell in row)
    assert results_table(rows, ["map"]).headers == ("", "architecture", "mAP 50–95")


def test_tables_take_text_literally() -> None:
    table = TextTable(("a|b", "[red]n"), (("x|y", "[bold]z"),))
    assert "x\\|y" in table.markdown()
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(table.rich())
    assert "[bold]z" in console.export_text()


# the value that is drawn


def test_frontier_data_agrees_with_the_front_and_the_selection() -> None:
    pool = candidates(120, 1)
    drawn = data()
    assert [p.id for p in drawn.front] == [c.id for c in front_of(pool, (COST, GAIN))]
    assert {p.id for p in drawn.candidates} == {c.id for c in pool}
    assert [name for name, _ in drawn.chosen] == ["S", "M", "L"]
    assert drawn.subtitle == (
        f"target onnxruntime:fp32@128  ·  data digits  ·  120 candidates, {len(drawn.front)} on the front  ·  hypervolume 0.685",
    )
    assert drawn.canvas.x.label == "Latency (ms), logarithmic" and drawn.canvas.y.label == "mAP 50–95"
    assert drawn.budgets[0][:2] == ("S ≤ 1.2 ms", 1.2)
    assert len(drawn.ordinary) == 120 - len(drawn.front)


def test_frontier_step_line_is_the_edge_of_what_is_dominated() -> None:
    drawn = data()
    for (x0, y0), (x1, y1) in itertools.pairwise(drawn.steps):
        assert (x0 == x1 and y0 < y1) or (x0 <= x1 and y0 == y1)
    assert all(any(x <= p.x and y >= p.y for x, y in drawn.steps) for p in drawn.candidates)


def test_a_second_measurement_moves_the_point() -> None:
    pool = candidates(80, 3)
    selection = select(pool, "latency_ms", "map")
    confirmed = confirm(
        selection, lambda c: Estimate("latency_ms", c["latency_ms"].value * 1.01, "ms", source="measured")
    )
    drawn = frontier_data(pool, COST, GAIN, selection=confirmed)
    for pick, (_, drawn_point) in zip(confirmed, drawn.chosen, strict=True):
        assert drawn_point.x == pick.candidate["latency_ms"].value
    assert len(drawn.candidates) == 80


@pytest.mark.parametrize("seed", range(6))
def test_labels_cover_neither_each_other_nor_the_points_they_name(seed: int) -> None:
    drawn = data(180, seed, "N=0.9,S=1.2,M=2.5,L=4.5")
    labels = [*drawn.chosen_labels, *drawn.reference_labels]
    anchors = [drawn.canvas.pixel(*label.anchor) for label in labels]
    boxes = [
        Box.around((x + label.offset[0], y + label.offset[1]), *label.size)
        for label, (x, y) in zip(labels, anchors, strict=True)
    ]
    assert len(boxes) == 6
    for box in boxes:
        assert box.inside(drawn.canvas.area) and not any(box.holds(anchor, 6) for anchor in anchors)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_place_keeps_off_what_is_there() -> None:
    area = Box(0, 0, 400, 400)
    (x, y), (x2, y2) = place([(200, 200), (202, 200)], [(60, 20)] * 2, [(150, 180), (160, 185)], area, [(135, 45)] * 2)
    assert abs(x - x2) >= 60 or abs(y - y2) >= 20
    corner = place([(2, 2)], [(60, 20)], [], area, [(135, 45, -45)])[0]
    assert Box.around(corner, 60, 20).inside(area)


def test_close_budgets_stand_in_different_rows() -> None:
    drawn = data(200, 6, "N=1,S=1.1,M=1.2,L=1.3,XL=1.45")
    rows = [row for *_, row in drawn.budgets]
    assert rows[0] != rows[1] and max(rows) >= 2 and drawn.canvas.top > data().canvas.top


def test_axes() -> None:
    assert cost_axis(COST, [1, 7], [], [], None).log is False
    log = cost_axis(COST, [0.5, 6], [8.0], [-1.0], None)
    assert (
        log.log
        and 0 < log.low < 0.5
        and log.high > 8
        and log.fraction(log.low) == 0
        and log.fraction(log.high) == pytest.approx(1)
    )
    assert {0.5, 1, 2, 5} <= set(log.ticks)
    assert cost_axis(Objective("macs", "min"), [2e7, 9e8], [], [], None).tick_texts[0] == "20 M"
    for axis in (
        cost_axis(COST, [3], [], [], None),
        cost_axis(COST, [3], [], [], True),
        gain_axis(GAIN, [0.5, 0.5]),
        gain_axis(GAIN, [0.0]),
    ):
        assert (
            axis.low < axis.high
            and 2 <= len(axis.ticks) <= 14
            and all(axis.low <= tick <= axis.high for tick in axis.ticks)
        )
        assert len(set(axis.tick_texts)) == len(axis.ticks)
    for high in (2, 9, 50, 900, 4e4, 1e8):
        assert 2 <= len(cost_axis(COST, [1, high], [], [], True).ticks) <= 14
    with pytest.raises(InputError, match="logarithmic axis"):
        cost_axis(COST, [0.0, 1], [], [], True)


def test_nothing_or_the_wrong_way_to_plot() -> None:
    with pytest.raises(InputError, match="no candidate"):
        frontier_data([], COST, GAIN)
    with pytest.raises(InputError, match="no candidate with energy"):
        frontier_data(candidates(3), Objective("energy", "min"), GAIN)
    with pytest.raises(InputError, match="a cost to minimise"):
        frontier_data(candidates(3), GAIN, COST)


# the page


class _Page(HTMLParser):
    """Tags that fetch something, and the text of the scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        self.fetched += [
            f"{tag} {name}={value}"
            for name, value in attrs
            if name in ("src", "href", "srcset", "action") or "url(" in (value or "")
        ]

    def handle_data(self, content: str) -> None:
        if self._in_script:
            self.scripts.append(content)


def test_page_is_complete_and_fetches_nothing(tmp_path: Path) -> None:
    drawn = data(title="</script><script>alert(1)</script> & Co")
    page_path, _ = write_frontier(tmp_path, drawn)
    text = page_path.read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.fetched == [] and "@import" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert any(len(script) > 1_000_000 for script in page.scripts)  # plotly itself
    own = next(script for script in page.scripts if "Plotly.newPlot" in script and len(script) < 1_000_000)
    assert "http" not in own and "alert(1)</script>" not in text
    for p in drawn.candidates:
        assert p.id in own
    for part in ("S \\u2264 1.2 ms", "onnxruntime:fp32@128", "Parameters: ", "neck_depth=", "YOLO-NAS "):
        assert part in own, part


def test_page_holds_values_intervals_and_names() -> None:
    from nas.plotting.frontier_html import frontier_figure

    drawn = data()
    traces = {trace.name: trace for trace in frontier_figure(drawn).data if trace.name}
    assert set(traces) == {"Candidates", "Front, with 95 % intervals", "Chosen", "Reference"}
    front = traces["Front, with 95 % intervals"]
    assert list(front.x) == [p.x for p in drawn.front] and list(front.y) == [p.y for p in drawn.front]
    first = drawn.front[0]
    assert first.x_interval is not None and first.y_interval is not None
    assert front.error_x.array[0] == pytest.approx(first.x_interval[1] - first.x) and front.error_y.arrayminus[
        0
    ] == pytest.approx(first.y - first.y_interval[0])
    assert traces["Chosen"].hovertext[0].startswith(f"<b>S  {drawn.chosen[0][1].id}</b><br>Latency: ")
    assert "YOLO-NAS &lt;S&gt;" in traces["Reference"].hovertext[1]
    assert len(traces["Candidates"].x) == len(drawn.ordinary)


# the image


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_image_has_its_size_and_shows_its_colours(scale: float, tmp_path: Path) -> None:
    from nas.plotting.frontier_png import write_frontier_png

    with Image.open(write_frontier_png(tmp_path / "frontier.png", data(), scale)) as image:
        image.load()
        assert image.size == (WIDTH * scale, HEIGHT * scale) and image.format == "PNG"
        colours = {rgb: count for count, rgb in image.convert("RGB").getcolors(1 << 24) or []}
    for rgb in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)):
        assert colours.get(rgb, 0) > 100 * scale
    assert max(colours, key=lambda rgb: colours[rgb]) in ((255, 255, 255), (242, 247, 251))


def test_image_is_the_same_each_time_and_changes_nothing_for_others(tmp_path: Path) -> None:
    import matplotlib

    from nas.plotting.frontier_png import write_frontier_png

    before = dict(matplotlib.rcParams)
    first, second = (
        write_frontier_png(tmp_path / name, data(title="100 $ and $ more"), 1).read_bytes()
        for name in ("a.png", "b.png")
    )
    assert first == second and dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "kind, start", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("html", b"<!doctype")]
)
def test_every_format_is_written_the_same_each_time(kind: str, start: bytes, tmp_path: Path) -> None:
    (first,), (second,) = (write_frontier(tmp_path / name, data(), [kind]) for name in ("a", "b"))
    assert first.name == f"frontier.{kind}" and first.read_bytes().startswith(start)
    assert first.read_bytes() == second.read_bytes()


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format of plots 'gif'"):
        write_frontier(tmp_path, data(), ["html", "gif"])
    assert not list(tmp_path.iterdir())


def test_smallest_plots_work(tmp_path: Path) -> None:
    for i, pool in enumerate(([point(1, 0.5)], [point(1, 0.5), point(1.2, 0.52)], [point(1, 0.5), point(1, 0.5, 1)])):
        drawn = frontier_data(pool, COST, GAIN, selection=select(pool, "latency_ms", "map"))
        for path in write_frontier(tmp_path / str(i), drawn):
            assert path.stat().st_size > 10_000


def test_values_and_tables_import_no_plotting_library() -> None:
    modules = "nas.plotting.frontier, nas.search.report.front_files, nas.plotting.canvas"
    heavy = "{'numpy', 'pandas', 'optuna', 'plotly', 'matplotlib', 'torch', 'rich'}"
    command = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert run.stdout.strip() == "[]"
