"""The Python interface: the examples of its page, tables, resuming, errors, lazy import."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nas
from latency_db.core.profiler import SEARCHING
from nas.core.notebook_reporter import NotebookReporter, default_reporter, in_notebook
from nas.core.reporter import Reporter
from nas.estimators import ESTIMATORS
from nas.search.settings import SearchSettings
from nas.supernet.weights import record_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "nas.search.api" not in block]
CUTS = {
    "trials=60)": "trials=3, epochs=1, fixed=SMALLEST, options=CUT)",
    "epochs=50": "epochs=1, options=BATCH",
    "@320": "",
}
"""What makes the examples short enough for a test."""


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The examples of the page, run one after the other beside a small data set; the folder and their variables."""
    import cv2

    from nas.cli import main

    folder = tmp_path_factory.mktemp("example")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NAS_CACHE", str(folder / "cache"))
        patch.setitem(ESTIMATORS._targets, "latency", "tests._fakes:HashLatency")
        patch.setattr("nas.profiling.measure.FINALIST", SEARCHING)
        assert main(["data", "write", "digits@96:train=16,val=4", "--out", "shop"]) == 0
        cv2.imwrite("street.jpg", np.full((60, 80, 3), 99, np.uint8))
        space = nas.spaces["yolo-nano"]
        variables: dict[str, Any] = {
            "SMALLEST": {c.name: c.values[0] for c in space.choices if c.name not in ("width", "stage2_depth")},
            "CUT": {"recipe": {"batch_size": 8}, "augment": False, "sampler": "random"},
            "BATCH": {"batch_size": 8},
        }
        for block in BLOCKS:
            for old, new in CUTS.items():
                block = block.replace(old, new)
            exec(compile(block, "docs/python.md", "exec"), variables)  # noqa: S102
        yield folder, variables


def test_every_cut_is_in_the_page() -> None:
    assert len(BLOCKS) == 3
    assert all(old in PAGE for old in CUTS)


def test_the_examples_run_and_leave_their_files(example: tuple[Path, dict[str, Any]]) -> None:
    folder, variables = example
    for name in ("candidates.csv", "front.html", "S.onnx", "found.png", "runs/shop/S.json", "runs/shop/S.safetensors"):
        assert (folder / name).is_file(), name
    assert variables["measurement"].low_ms <= variables["measurement"].median_ms <= variables["measurement"].high_ms
    assert "openvino" in str(variables["measurement"].target)


def test_tables_hold_what_the_files_hold(example: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = example
    run = nas.open_run(folder / "runs" / "shop")
    front = json.loads((run.folder / "front.json").read_text())
    assert list(run.front["id"]) == [c["architecture"]["id"] for c in front["candidates"]]
    assert set(run.front["id"]) <= set(run.candidates["id"]) and len(run.candidates) == 3
    row = run.candidates.iloc[0]
    assert row["map.low"] <= row["map"] <= row["map.high"]
    assert row["choice.image_size"] == 96
    chosen = dict(front["chosen"])
    assert {name: run[name].architecture.id for name in run.names} == chosen
    named = run.candidates[run.candidates["name"] != ""]
    assert set(named["id"]) == set(chosen.values())


def test_a_training_begins_with_the_supernet_that_the_run_was_given(
    example: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, variables = example
    run, given = folder / "runs" / "shop", tmp_path / "given.safetensors"
    shutil.copy(run / "supernet.safetensors", given)
    shutil.copy(run / "S.json", tmp_path)
    replace(SearchSettings.read(run), supernet=str(given)).write(tmp_path)
    model = nas.train(tmp_path / "S.json", folder / "shop", init="supernet", epochs=1, options=variables["BATCH"])
    assert record_of(model.path)["from"] == "supernet"


def test_the_figure_is_that_of_the_verb(example: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = example
    figure = nas.open_run(folder / "runs" / "shop").plot(title="Shop")
    assert type(figure).__name__ == "Figure" and "Shop" in figure.layout.title.text


def test_the_same_search_resumes_and_another_is_refused(
    example: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, variables = example
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NAS_CACHE", str(folder / "cache"))
    same = nas.Search(
        data="shop/",
        budgets={"S": 5, "M": 10},
        trials=3,
        epochs=1,
        fixed=variables["SMALLEST"],
        options=variables["CUT"],
    )
    monkeypatch.setitem(ESTIMATORS._targets, "latency", "tests._fakes:HashLatency")
    again = same.run("runs/shop", Reporter())
    assert again.names == ("S", "M") and len(again.candidates) == 3
    other = nas.Search(data="shop/", budgets={"S": 5}, trials=4, fixed=variables["SMALLEST"])
    with pytest.raises(nas.InputError, match=r"holds a run with another .*trials"):
        other.run("runs/shop", Reporter())


def test_a_running_search_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(ESTIMATORS._targets, "latency", "tests._fakes:HashLatency")
    monkeypatch.setitem(ESTIMATORS._targets, "score", "tests._fakes:FakeScore")
    search = nas.Search(accuracy="score", trials=12, options={"num_classes": 3, "sampler": "random"})
    done = search.run(tmp_path / "run", Reporter())
    finished = done.front
    for name in ("front.json", "S.json", "M.json", "L.json"):
        (tmp_path / "run" / name).unlink(missing_ok=True)
    run = nas.open_run(tmp_path / "run")
    assert run.names == () and len(run.candidates) == 12
    assert set(finished["id"]) == set(run.front["id"])
    assert run.plot() is not None
    with pytest.raises(nas.InputError, match="unknown architecture of the run 'S'"):
        run["S"]


# errors


def test_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(nas.InputError, match="no run of nas search"):
        nas.open_run(tmp_path)


@pytest.mark.parametrize(
    "search, said",
    [
        (nas.Search(accuracy="nwot", options={"early_stopp": True}), "did you mean"),
        (nas.Search(accuracy="nwot", options={"trials": 3}), "'trials'"),
        (nas.Search(accuracy="nwot", fixed={"image_size": 97}), "97"),
        (nas.Search(accuracy="nwot", fixed={"imagesize": 96}), "image_size"),
        (nas.Search(accuracy="nwot", space="yolo"), "yolo-nano"),
        (nas.Search(accuracy="nwot", trials=0), "1 or more"),
        (nas.Search(accuracy="nwot", budgets={"S": 4, "M": 2}), "small to large"),
        (nas.Search(accuracy="nwot", budgets="S=4"), "bounds by name"),  # type: ignore[arg-type]
        (nas.Search(accuracy="nwot", trials="5"), "trials is '5'; expected a whole number"),  # type: ignore[arg-type]
        (nas.Search(), "a data set"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_any_work(search: nas.Search, said: str, tmp_path: Path) -> None:
    with pytest.raises(nas.InputError, match=said):
        search.run(tmp_path / "run", Reporter())
    assert not (tmp_path / "run").exists()


def test_an_export_cannot_be_exported(example: tuple[Path, dict[str, Any]]) -> None:
    folder, variables = example
    with pytest.raises(nas.InputError, match="trained weights"):
        variables["exported"].export(folder / "again.onnx")
    with pytest.raises(nas.InputError, match="no metrics beside"):
        _ = variables["exported"].metrics


def test_build_of_a_reference_an_artifact_and_weights(example: tuple[Path, dict[str, Any]]) -> None:
    import torch

    folder, variables = example
    weights = nas.build(folder / "runs" / "shop" / "S.safetensors")
    fresh = nas.build(variables["run"]["S"].artifact)
    names = [name for name, _ in weights.named_parameters()]
    assert names == [name for name, _ in fresh.named_parameters()]
    assert not all(torch.equal(a, b) for a, b in zip(weights.parameters(), fresh.parameters(), strict=True))
    assert sum(p.numel() for p in nas.build("yolov8n").parameters()) > 3e6


# import


def test_importing_nas_imports_nothing_heavy_and_lists_its_names() -> None:
    code = "import sys, nas; assert 'Search' in dir(nas); nas.Architecture; nas.spaces; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "pandas", "optuna", "numpy", "plotly", "cv2"} & set(done.stdout.split())


@pytest.mark.parametrize("name", nas.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(nas, name) is not None


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        getattr(nas, "serch")  # noqa: B009


# notebooks


def test_a_notebook_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, dict[str, str]]] = []

    class Handle:
        def update(self, bundle: dict[str, str], raw: bool) -> None:
            shown.append(("update", bundle))

    def display(bundle: dict[str, str], raw: bool, display_id: bool | None = None) -> Handle:
        shown.append(("display", bundle))
        return Handle()

    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    assert in_notebook()
    reporter = default_reporter()
    assert isinstance(reporter, NotebookReporter) and reporter.interactive
    reporter.note("a line")
    with reporter.bars(["train <S>", "train M"]) as (first, second):
        first(1, 4, "loss 3 & falling")
        second(4, 4, "")
        first(4, 4, "done")
    kinds = [kind for kind, _ in shown]
    assert kinds[:2] == ["display", "display"] and kinds.count("display") == 2 and kinds[-1] == "update"
    last = shown[-1][1]
    assert "train &lt;S&gt;" in last["text/html"] and "value='4' max='4'" in last["text/html"]
    assert "train M 4/4" in last["text/plain"]


def test_elsewhere_the_console_reports() -> None:
    assert not in_notebook()
    assert not isinstance(default_reporter(), NotebookReporter)
