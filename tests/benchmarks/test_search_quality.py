"""The comparison of samplers on tables: its problems and its counting, on a table small enough to check."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, IntDistribution

from benchmarks import record, search_quality
from benchmarks.search_quality import METHODS, asked, greedy, run, summary
from benchmarks.search_tables import NODES, Problem, any_table, cell
from search_spaces.errors import InputError

SPACE: dict[str, BaseDistribution] = {"depth": IntDistribution(0, 7), "width": IntDistribution(0, 7)}


def problem(whole: bool, log: bool = True) -> Problem:
    """Latency and accuracy rise with depth and width; without ``whole`` every third point is missing."""
    rows = tuple({"depth": d, "width": w} for d in range(8) for w in range(8) if whole or (d + w) % 3)
    depth, width = (np.array([r[name] for r in rows], float) for name in ("depth", "width"))
    latency = (1 + depth) * (1 + width) ** 1.5
    accuracy = np.log1p(depth) + 2 * np.log1p(width) + 0.1 * np.sin(7 * depth + 3 * width)
    return Problem(
        "made up",
        SPACE,
        rows,
        latency,
        accuracy,
        {"macs": latency * 2, "score": accuracy + 1},
        ("macs", "score"),
        log,
        whole,
    )


@pytest.mark.parametrize("whole", [True, False])
def test_a_problem_knows_its_rows_and_its_front(whole: bool) -> None:
    p = problem(whole)
    everything = list(range(len(p.rows)))
    assert p.share(everything) == pytest.approx(1) and 0 < p.share(everything[:5]) < 1
    assert [p.row(r) for r in p.rows] == everything and (whole or p.row({"depth": 0, "width": 0}) is None)
    assert p.worst == (p.latency.max(), p.accuracy.min())
    features = np.array([p.features()(r) for r in p.rows])
    assert features.min(0).tolist() == [0, 0] and features.max(0).tolist() == [1, 1]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_charged_for_new_rows_only(method: str) -> None:
    if method == "gp":
        pytest.importorskip("optuna", minversion="4.4", reason="the GP sampler of this optuna has one objective")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    p = problem(whole=False)
    rows, seconds = asked(p, METHODS[method](p, 0), 14, 0)
    assert len(rows) == len(set(rows)) == len(seconds) == 14 and set(rows) <= set(range(len(p.rows)))


@pytest.mark.parametrize("free", [False, True])
def test_greedy_evaluates_what_it_predicts(free: bool) -> None:
    rows, seconds = greedy(problem(whole=True), 30, 0, free)
    assert len(rows) == len(set(rows)) == len(seconds) == 30


def test_a_cell_is_what_lies_on_its_paths() -> None:
    names = tuple(NODES)
    conv_then_pool = dict(
        zip(names, (3, 0, 1, 0, 4, 2), strict=True)
    )  # 0-1 conv3, 0-3 skip, 1-3 pool; 2-3 conv1 is behind nothing
    expected = {
        "live_skip": 1,
        "live_conv1": 0,
        "live_conv3": 1,
        "live_pool": 1,
        "depth": 1,
        "depth_conv3": 1,
        "paths": 2,
        "bare_skip": 1,
        "pooled_paths": 1,
    }
    assert cell(conv_then_pool) == expected
    mirrored = dict(zip(names, (0, 3, 1, 0, 2, 4), strict=True))  # nodes 1 and 2 exchanged
    assert cell(mirrored) == expected
    assert not any(cell(dict.fromkeys(names, 0)).values())
    chain = dict(zip(names, (3, 0, 0, 2, 0, 3), strict=True))
    assert cell(chain)["depth"] == 3 and cell(chain)["depth_conv3"] == 2 and cell(chain)["paths"] == 1


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_any_table_is_a_problem(tmp_path: Path, ending: str) -> None:
    pandas = pytest.importorskip("pandas")
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / f"mine.{ending}"
    kinds, widths = ["plain", "plain", "wide", "wide", "wide"], [8, 64, 8, 16, 64]
    values = {
        "kind": kinds,
        "width": widths,
        "op": [0, 1, 0, 2, 1],
        "ms": [1.0, 4.0, 2.0, 3.0, None],
        "map": [0.1, 0.3, 0.2, 0.25, 0.4],
        "macs": widths,
    }
    frame = pandas.DataFrame(values)
    frame.to_csv(file, index=False) if ending == "csv" else frame.to_parquet(file)
    found = any_table(file, "ms", "map", ["macs"], log=True, categories=["op"])
    assert found.rows[1] == {"kind": "plain", "width": 2, "op": "1"} and len(found.rows) == 4 and not found.whole
    assert (
        isinstance(found.space["width"], IntDistribution)
        and set(found.free) == {"macs"}
        and found.share([0, 1, 2, 3]) == pytest.approx(1)
    )
    assert len(asked(found, METHODS["guided"](found, 0), 4, 0)[0]) == 4
    with pytest.raises(InputError, match="no column 'mAP'"):
        any_table(file, "ms", "mAP")
    with pytest.raises(InputError, match="several rows of one point"):
        any_table(file, "ms", "map", ["macs", "width", "op"])


def test_shares_grow_and_are_averaged_with_an_interval() -> None:
    runs = [run(problem(whole=False), "guided", 30, seed) for seed in (0, 1)]
    found = summary(runs)
    shares = [v["mean"] for v in found["shares"].values()]
    assert list(found["shares"]) == ["10", "20", "30"] and shares == sorted(shares) and shares[-1] > 0.97
    assert found["shares"]["10"]["half_width"] >= 0 and found["seeds"] == 2


def test_columns_that_are_not_run_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("matplotlib", "plotly"):
        pytest.importorskip(tool)
    for module in (record, search_quality):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["search_quality", "--keep", "--cache", str(tmp_path / "cache.json")])
    column = {
        "shares": {"10": {"mean": 0.8, "half_width": None}, "20": {"mean": 0.9, "half_width": 0.01}},
        "seconds": 0.1,
        "seeds": 2,
    }
    kept = {"made up": {"random": column}}
    (tmp_path / "search_quality.json").write_text(json.dumps({"figure": kept}))
    search_quality.main()
    assert json.loads((tmp_path / "search_quality.json").read_text())["figure"] == kept
    assert (tmp_path / "search_quality.png").stat().st_size > 1000
