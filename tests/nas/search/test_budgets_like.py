"""Budgets that are a reference's latency: as text, in a search from a recorded table, kept for a resumed run, and
what the chosen gain over it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from latency_db.core.measurement import LatencyKey
from latency_db.core.profiler import Network
from latency_db.core.target import Target
from latency_db.database.table_io import Row, write_table
from nas.cli import main
from nas.core.architecture_file import read_artifact
from nas.core.budgets import ReferenceBound, parse_budgets, parse_request
from nas.core.estimate import Estimate, speed_up
from nas.estimators import ESTIMATORS
from nas.search.baseline import Baseline, Comparison
from nas.search.report.front_files import read_front
from nas.search.settings import SearchSettings
from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize
from search_spaces.references import references
from search_spaces.spaces import SPACES
from tests._measured import DEVICE, measurement

NANO = SPACES["yolo-nano"]
FREE = {
    "width": NANO["width"].values[:3],
    "stage2_block": NANO["stage2_block"].values[:2],
    "stage3_depth": NANO["stage3_depth"].values[:2],
}
SPACE = NANO.restrict({c.name: FREE.get(c.name, c.values[:1]) for c in NANO.choices})
FIXED = [part for c in SPACE.choices for part in ("--fix", f"{c.name}={','.join(map(str, c.values))}")]
SMALL, LARGE = list(references())[:2]
CLASSES = 3


def row(network: Network, ms: float) -> Row:
    m = replace(measurement(network, ms, anchor={"wall_ms": 2.0, "cpu_ms": 2.0}), target=Target("onnxruntime"))
    return LatencyKey(m.workload, str(m.target), "1.0", DEVICE.id), m


def reference_row(name: str, ms: float, size: int = 640) -> Row:
    return row(Network(references()[name].architecture, CLASSES, size), ms)


def point_ms(width: int, depth: int) -> float:
    return 1 + width * depth / 16


CANDIDATES = [
    row(
        Network(a, CLASSES, int(a["image_size"])),
        point_ms(int(a["width"]), int(a["stage3_depth"])) * (1 + int(a.id[0], 16) / 1e3),
    )
    for a in SPACE.enumerate()
]
TIMES = sorted(m.median_ms for _, m in CANDIDATES)
MIDDLE, MOST = TIMES[len(TIMES) // 2], 1.2 * TIMES[-1]


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """``nas search`` on a table that holds the space, the first reference at 640 px and 320 px, and the second."""
    rows = [*CANDIDATES, reference_row(SMALL, MOST), reference_row(SMALL, MIDDLE, 320), reference_row(LARGE, 2 * MOST)]
    write_table(tmp_path / "desk.csv", rows, "me")
    monkeypatch.setenv("NAS_TABLES", str(tmp_path / "desk.csv"))
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(ESTIMATORS._targets, "score", "tests._fakes:FakeScore")

    def run(*more: str, out: str = "run") -> int:
        argv = [
            "search",
            "--accuracy",
            "score",
            "--num-classes",
            str(CLASSES),
            "--trials",
            "12",
            "--sampler",
            "random",
            *FIXED,
        ]
        return main([*argv, "--target", "recorded:fp32/desk", "--out", str(tmp_path / out), *more])

    return run


# as text


def test_text_to_budgets() -> None:
    wanted = parse_request(f"S=5ms, M=ref:{SMALL},L=ref:{LARGE}@320")
    assert wanted.entries == (("S", 5.0), ("M", ReferenceBound(SMALL)), ("L", ReferenceBound(LARGE, 320)))
    assert str(ReferenceBound(LARGE, 320)) == f"ref:{LARGE}@320" and list(wanted.references) == ["M", "L"]
    assert wanted.resolve({"M": 7.25, "L": 9.0}).entries == (("S", 5.0), ("M", 7.25), ("L", 9.0))
    assert parse_request("S=2,M=4") == parse_request("S=2ms,M=4ms") and not parse_request("S=2").references


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("S=ref:yolov8q", ("'yolov8q'", "did you mean", "yolov8")),
        ("S=ref:", ("'S=ref:'", "ref:REFERENCE")),
        (f"S=ref:{SMALL}@100", ("100", "multiple of 32")),
        (f"S=ref:{SMALL}@big", ("big", "ref:REFERENCE")),
        (f"S=ref:{SMALL},s=5ms", ("S, s", "each name once")),
        (f"S=5ms,L=ref:{SMALL},M=4ms", ("M=4ms is not above S=5ms", "small to large")),
    ],
)
def test_text_that_is_wrong(text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as error:
        parse_request(text)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_number_is_wanted_where_nothing_is_measured() -> None:
    with pytest.raises(InputError, match=f"budget M=ref:{SMALL}.*a number"):
        parse_budgets(f"S=2ms,M=ref:{SMALL}")


def test_the_wrong_order_names_both_measured_values() -> None:
    wanted = parse_request(f"S=ref:{SMALL},M=ref:{LARGE}")
    with pytest.raises(InputError) as error:
        wanted.resolve({"S": 12.3456, "M": 10.5})
    assert str(error.value).startswith(
        f"budget M=ref:{LARGE}, measured 10.5 ms, is not above S=ref:{SMALL}, measured 12.35 ms;"
    )
    with pytest.raises(InputError, match=f"M=ref:{SMALL}, measured 4 ms, is not above S=5ms"):
        parse_request(f"S=5ms,M=ref:{SMALL}").resolve({"M": 4.0})


# as values


def latency(ms: float, half: float | None = None) -> Estimate:
    low, high = (None, None) if half is None else (ms - half, ms + half)
    return Estimate("latency_ms", ms, "ms", low, high, "measured", "onnxruntime:fp32")


def test_ratio_of_two_latencies_with_its_interval() -> None:
    ratio = speed_up("x", latency(10, 0.3), latency(5, 0.2))
    assert ratio.value == 2 and ratio.low == pytest.approx(1.9) and ratio.high == pytest.approx(2.1)
    assert speed_up("x", latency(10), latency(5, 0.2)).low is None


def test_a_comparison_says_both_sides() -> None:
    baseline = Baseline(SMALL, ImageSize(640, 640), latency(12.7, 0.1), 4_000_000, 8_000_000_000)
    faster = Comparison("S", latency(10, 0.1), 3e6, 6e9, baseline)
    assert str(faster).startswith(f"S: 1.27x faster than {SMALL} at 640 px on onnxruntime:fp32 ")
    assert str(faster).endswith(
        "(10.00 ± 0.10 ms against 12.70 ± 0.10 ms), 0.75x its parameters, 0.75x its MACs; "
        f"not measured side by side; accuracy of {SMALL} not known"
    )
    assert "1.02x slower than" in str(Comparison("S", latency(12.95), 3e6, 6e9, baseline))
    assert Comparison.from_dict(json.loads(json.dumps(faster.to_dict()))) == faster
    with pytest.raises(InputError, match="lacks latency"):
        Baseline.from_dict({"name": "x", "image_size": 640, "params": 1, "macs": 1})


# in a search


def test_a_search_as_fast_as_references(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search("--budgets", f"S=ref:{SMALL}@320,M=ref:{SMALL}") == 0
    said = capsys.readouterr().out
    assert f"budget ref:{SMALL}@320: {SMALL} at 320 px takes" in said and f"with {CLASSES} classes" in said
    front = read_front(tmp_path / "run" / "front.json")
    assert [c.name for c in front.comparisons] == ["S", "M"]
    for comparison, budget, size in zip(front.comparisons, (MIDDLE, MOST), (320, 640), strict=True):
        assert comparison.baseline.latency.value == pytest.approx(budget) and comparison.baseline.image_size == size
        assert comparison.latency.value <= budget * 1.02
        assert comparison.speed_up.value == pytest.approx(comparison.baseline.latency.value / comparison.latency.value)
        assert str(comparison) in said
        artifact = read_artifact(tmp_path / "run" / f"{comparison.name}.json")
        assert comparison.speed_up in artifact.estimates
    small, large = (c.baseline for c in front.comparisons)
    assert small.params == large.params and large.macs > 3 * small.macs


def test_a_resumed_search_keeps_the_budgets_it_began_with(search: Callable[..., int], tmp_path: Path) -> None:
    assert search("--budgets", f"S={MIDDLE}ms,M=ref:{SMALL}") == 0
    began = SearchSettings.read(tmp_path / "run").baselines
    assert list(began) == ["M"] and began["M"].latency.value == pytest.approx(MOST)
    write_table(tmp_path / "desk.csv", [*CANDIDATES, reference_row(SMALL, 3 * MOST)], "me")
    assert main(["search", "--resume", str(tmp_path / "run"), "--total-trials", "12"]) == 0
    assert SearchSettings.read(tmp_path / "run").baselines == began
    assert read_front(tmp_path / "run" / "front.json").comparisons[0].baseline == began["M"]


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        (
            f"S=ref:{LARGE},M=ref:{SMALL}",
            (f"M=ref:{SMALL}, measured", f"S=ref:{LARGE}, measured", "small to large"),
        ),
        (f"S=ref:{SMALL}@64", ("table desk", "r64")),
        ("S=ref:nothing", ("'nothing'",)),
    ],
)
def test_what_cannot_be_a_budget_is_one_line_and_leaves_no_run(
    budgets: str, words: tuple[str, ...], search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search("--budgets", budgets) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and all(word in lines[0] for word in words), lines
    assert not (tmp_path / "run").exists()
