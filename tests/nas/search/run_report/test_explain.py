"""Explanations against the formulas that the run's figures were made of."""

from __future__ import annotations

import argparse
import math
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nas
from nas.cli.search import _explicit, _settings
from nas.core.estimate import Estimate
from nas.core.reporter import Reporter
from nas.search.explain import verify as verify_module
from nas.search.explain.commands import search_options
from nas.search.explain.counterfactuals import counterfactuals, measured_changes, steps_of
from nas.search.explain.explanation import explain
from nas.search.explain.importance import sobol_indices
from nas.search.explain.run_data import RunData, read_run
from nas.search.explain.search_history import read_log, search_history
from nas.search.explain.surrogate import Difference, RunSurrogates
from nas.search.explain.trust import file_sha256, manifest, trust
from nas.search.explain.verified import read_verified, write_verified
from nas.search.explain.verify import verified_table, verify
from nas.search.explain.waterfall import waterfall
from nas.search.samplers.encoding import Encoding
from nas.search.settings import SearchSettings
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import Choice
from tests._report_run import CLASSES, accuracy_of, latency_of


def test_counterfactuals_are_right_within_their_intervals(run: RunData, surrogates: RunSurrogates) -> None:
    """Of all picks together: the sign of the latency, and 95 % intervals (here at least 85 %, of about 45 steps)."""
    signs, inside = [], []
    for pick in run.selection or ():
        a = pick.candidate.architecture
        for one in counterfactuals(run, pick.candidate, surrogates):
            other = a.replace(**{one.choice: one.after})
            latency, gain = latency_of(other) - latency_of(a), accuracy_of(other) - accuracy_of(a)
            predicted = one.predicted["latency_ms"], one.predicted["map"]
            if abs(latency) > 0.02 * latency_of(a):
                signs.append((predicted[0].value > 0) == (latency > 0))
            for d, true in zip(predicted, (latency, gain), strict=True):
                assert d.low is not None
                assert d.high is not None
                assert d.low <= d.value <= d.high
                inside.append(d.low <= true <= d.high)
    assert len(signs) > 20
    assert np.mean(signs) >= 0.95
    assert np.mean(inside) >= 0.85


def test_every_step_of_every_choice_once_and_in_order(run: RunData, surrogates: RunSurrogates) -> None:
    pick = run.pick("M")
    found = counterfactuals(run, pick, surrogates)
    expected = {(c.name, v) for c in run.plan.points.choices for _, v in steps_of(c, pick.architecture[c.name])}
    assert {(f.choice, f.after) for f in found} == expected
    assert len(found) == len(expected)
    effects = [f.effect("latency_ms") for f in found]
    assert effects == sorted(effects, key=["saves", "costs", "open"].index)
    assert {"saves", "costs"} <= set(effects)
    efficiencies = {
        e: [f.efficiency("latency_ms", "map") or 0 for f in found if f.effect("latency_ms") == e] for e in effects
    }
    assert efficiencies["saves"] == sorted(efficiencies["saves"])
    assert efficiencies["costs"] == sorted(efficiencies["costs"], reverse=True)


def test_steps_of_ordered_choices_and_alternatives() -> None:
    assert steps_of(Choice("w", (8, 16, 24)), 16) == [("down", 8), ("up", 24)]
    assert steps_of(Choice("w", (8, 16)), 8) == [("up", 16)]
    assert steps_of(Choice("b", ("x", "y", "z"), ordered=False), "y") == [("other", "x"), ("other", "z")]


def test_an_evaluated_neighbour_is_measured(run: RunData) -> None:
    a, b = run.candidates[:2]
    found = measured_changes(run, a, b.id)
    assert found["latency_ms"].value == pytest.approx(b["latency_ms"].value - a["latency_ms"].value)
    assert found["latency_ms"].source == "measured"
    assert found["map"].low is not None
    assert measured_changes(run, a, "nobody") == {}


def test_sobol_indices_of_a_function_with_known_variances() -> None:
    """f = 4 x + 2 y + x y on a grid: main and total effects in closed form from the full grid."""
    from optuna.distributions import IntDistribution

    encoding = Encoding({"x": IntDistribution(0, 4), "y": IntDistribution(0, 4), "z": IntDistribution(0, 4)})

    def f(p: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = p[:, 0], p[:, 1]
        return np.asarray(4 * x + 2 * y + 3 * x * y)

    levels = np.linspace(0, 1, 5)
    grid = np.array([f(np.array([[x, y, 0.0]]))[0] for x in levels for y in levels]).reshape(5, 5)
    total = grid.var()
    main_x, main_y = grid.mean(1).var() / total, grid.mean(0).var() / total
    found = {c.choice: c for c in sobol_indices(f, encoding, np.random.default_rng(0), 8192)}
    assert found["x"].main == pytest.approx(main_x, abs=0.03)
    assert found["y"].main == pytest.approx(main_y, abs=0.03)
    assert found["x"].total == pytest.approx(1 - main_y, abs=0.03)
    assert found["z"].total == 0
    assert found["x"].low <= found["x"].total <= found["x"].high


def test_importances_name_what_decides(facts: dict[str, Any]) -> None:
    latency, accuracy = facts["importance"]
    assert latency["choices"][0]["choice"] == "width"
    assert {c["choice"] for c in accuracy["choices"][:2]} == {"width", "stage2_block"}
    assert latency["explained"] > 0.8


def test_a_waterfall_adds_up(run: RunData, surrogates: RunSurrogates) -> None:
    fall = waterfall(run, run.pick("S"), surrogates)
    assert fall is not None
    for name in ("latency_ms", "map"):
        end = fall.values[name].value + sum(s.changes[name].value for s in fall.steps) + fall.unexplained[name]
        assert end == pytest.approx(run.pick("S")[name].value)
    a, b = (
        next(p for p in run.selection or () if p.name == fall.start).candidate.architecture,
        run.pick("S").architecture,
    )
    assert {s.choice for s in fall.steps} == {name for name, value in b.choices if a[name] != value}


def test_run_explain_and_its_table(run_folder: Path) -> None:
    found = nas.open_run(run_folder).explain("S")
    table = found.table
    assert found.name == "S"
    assert len(table) == len(found.counterfactuals)
    assert {"choice", "before", "after", "latency_ms.change", "latency_ms.low", "map.high", "efficiency"} <= set(table)
    with pytest.raises(InputError, match="XL"):
        nas.open_run(run_folder).explain("XL")


def test_verified_counterfactuals_are_kept_and_marked(run: RunData, surrogates: RunSurrogates, tmp_path: Path) -> None:
    step = counterfactuals(run, run.pick("S"), surrogates)[0]
    change = {"latency_ms": Difference(-0.5, -0.6, -0.4, "measured")}
    write_verified(tmp_path, {run.pick("S").id: {step.id: change}})
    write_verified(tmp_path, {run.pick("S").id: {"other": change}})
    kept = read_verified(tmp_path)
    assert kept[run.pick("S").id][step.id] == change
    assert "other" in kept[run.pick("S").id]
    assert read_verified(tmp_path / "none") == {}


def test_verifying_measures_the_most_interesting_once(
    run: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures of the formulas stand for measurements; a second call takes other steps."""
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    settings = replace(SearchSettings.read(folder), data=None, num_classes=len(CLASSES))
    settings.write(folder)

    def figures(name: str, unit: str, of: Callable[[Architecture], float]) -> Callable[..., list[Estimate]]:
        return lambda run, points, *_: [Estimate(name, of(p), unit, of(p) - 0.01, of(p) + 0.01) for p in points]

    monkeypatch.setattr(verify_module, "_costs", figures("latency_ms", "ms", latency_of))
    monkeypatch.setattr(verify_module, "_gains", figures("map", "", accuracy_of))
    first, second = verify(folder, 4, Reporter()), verify(folder, 4, Reporter())
    keys = [{(s.name, s.counterfactual.id) for s in steps} for steps in (first, second)]
    assert [len(k) for k in keys] == [4, 4]
    assert not keys[0] & keys[1]
    explained = explain(folder, first[0].name)
    marked = {c.id for c in explained.counterfactuals if c.verified}
    assert {id_ for name, id_ in (*keys[0], *keys[1]) if name == first[0].name} == marked
    step = next(c for c in explained.counterfactuals if c.verified)
    a = run.pick(first[0].name).architecture
    true = latency_of(a.replace(**{step.choice: step.after})) - latency_of(a)
    assert step.best("latency_ms").value == pytest.approx(true)
    assert step.best("latency_ms").source == "measured"
    assert "predicted" in verified_table(first).headers[2]


def test_the_command_gives_the_settings_back(run: RunData) -> None:
    settings = run.plan.settings
    parser = argparse.ArgumentParser()
    options = _explicit(parser)
    args = parser.parse_args(shlex.split(shlex.join(search_options(settings))))
    values = {name: getattr(args, name, default) for name, default in options.defaults.items()}
    again = _settings(values, options.given(args))
    assert {**again.to_dict(), "name": settings.name} == settings.to_dict()


def test_history_rises_to_the_whole_hypervolume(run: RunData) -> None:
    found = search_history(run)
    volumes = [p.hypervolume for p in found.points]
    assert volumes == sorted(volumes)
    assert volumes[-1] == pytest.approx(1)
    assert len(volumes) == found.outcomes["evaluated"] == len(run.candidates)
    assert math.isclose(len(found.supernet["step"]), 40)


def test_a_log_that_ends_in_the_middle_of_a_line(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,cls\n1,0.5\n2,0.4\n3,")
    assert read_log(tmp_path / "log.csv") == {"step": [1.0, 2.0], "cls": [0.5, 0.4]}
    assert read_log(tmp_path / "none.csv") == {}


def test_the_manifest_changes_with_a_file(run: RunData, tmp_path: Path) -> None:
    found = trust(run, [])
    names = {f.name: f.sha256 for f in found.files}
    assert names["S.json"] == file_sha256(run.folder / "S.json")
    assert "report.json" not in names
    assert manifest(found.files) != manifest(found.files[1:])


def test_a_run_with_few_candidates_says_so(run_folder: Path) -> None:
    run = read_run(run_folder)
    few = RunData(run.folder, run.plan, run.candidates[:5], run.trials, run.history, None, (), None)
    with pytest.raises(InputError, match="5 candidates for a surrogate"):
        RunSurrogates(few)
    with pytest.raises(InputError, match="no S yet"):
        few.pick("S")
