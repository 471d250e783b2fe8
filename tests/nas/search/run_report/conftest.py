"""One made run and its page for all tests of a worker."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from latency_db.operation_profile.profile import OperationProfile, OperationTime
from latency_db.operation_profile.roofline import Roofline
from nas.core.estimate import Estimate
from nas.core.reporter import Reporter
from nas.search.explain.run_data import RunData, read_run
from nas.search.explain.surrogate import RunSurrogates
from nas.search.run_report import facts as facts_module
from nas.search.run_report.facts import ReportConfig, report_facts, write_facts
from nas.search.run_report.operations import Operations
from nas.search.run_report.page import write_page
from nas.search.run_report.stock import StockNetwork
from search_spaces.image_size import ImageSize
from tests._report_run import TARGET, make_run


def made_operations(run: RunData) -> Operations:
    """Profiles of the picks with one operation per stage."""
    profiles = {}
    for pick in run.selection or ():
        operations = tuple(
            OperationTime(f"{stage}/conv", stage, "Conv", 0.1 * (i + 1), 10**6 * (i + 1), 10**5)
            for i, stage in enumerate(("stem", "stage1", "stage2", "stage3", "stage4", "neck1", "neck2", "head"))
        )
        total = sum(o.ms for o in operations)
        profiles[pick.candidate.id] = OperationProfile(TARGET, "w", operations, total, total, total, 60, "1")
    return Operations(profiles, Roofline(3e10, 2e10, 9e10))


def made_stock(value: float, name: str) -> StockNetwork:
    return StockNetwork(
        name, ImageSize(96, 96), Estimate("latency_ms", value, "ms", value * 0.99, value * 1.01, "measured", TARGET), 10**6, 10**8, None, 37.3
    )  # fmt: skip


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with its report, made once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = shared / "report-run"
    with FileLock(str(shared / "report-run.lock")):
        if not (folder / "report.html").exists():
            make_run(folder, trials=40)
            run = read_run(folder)
            stock = tuple(made_stock(v, n) for v, n in ((2.9, "yolov5n"), (5.1, "yolov8n"), (5.12, "yolo11n")))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(facts_module, "operations_of", lambda *_: made_operations(run))
                patch.setattr(facts_module, "stock_networks", lambda *_: stock)
                facts = report_facts(folder, ReportConfig(), Reporter())
            write_facts(folder / "report.json", facts)
            write_page(folder / "report.html", facts)
    return folder


@pytest.fixture(scope="session")
def run(run_folder: Path) -> RunData:
    return read_run(run_folder)


@pytest.fixture(scope="session")
def surrogates(run: RunData) -> RunSurrogates:
    return RunSurrogates(run)


@pytest.fixture(scope="session")
def facts(run_folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run_folder / "report.json").read_text())
    return loaded
