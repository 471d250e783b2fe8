"""Private parts of Optuna: read in one module, with the same behaviour in every supported version."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nas.search import optuna_compat

ROOT = Path(__file__).resolve().parents[3]
PRIVATE_ATTRIBUTES = {"_storage", "_trial_id", "_study_id", "_contains", "_cached_frozen_trial", "_suggest"}
"""Of studies, trials and distributions."""


def private_uses(source: str) -> Iterator[str]:
    """Yield each private module, name or attribute of Optuna that a source reads."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "optuna":
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (name for name in names if name.startswith("_"))
        elif isinstance(node, ast.Import):
            parts = [part for alias in node.names for part in alias.name.split(".") if alias.name.startswith("optuna.")]
            yield from (part for part in parts if part.startswith("_"))
        elif isinstance(node, ast.Attribute) and node.attr in PRIVATE_ATTRIBUTES:
            own = isinstance(node.value, ast.Name) and node.value.id == "self"
            yield from () if own else (node.attr,)


def test_private_parts_are_read_in_one_module() -> None:
    sources = [file for layer in ("latency_db", "nas", "benchmarks", "tests") for file in (ROOT / layer).rglob("*.py")]
    found = {str(f.relative_to(ROOT)): sorted(set(private_uses(f.read_text(encoding="utf-8")))) for f in sources}
    readers = {name: uses for name, uses in found.items() if uses}
    assert list(readers) == ["nas/search/optuna_compat.py"], readers


@pytest.mark.parametrize(
    "source",
    [
        "from optuna._hypervolume import compute_hypervolume",
        "from optuna.storages.journal._file import BaseJournalFileLock",
        "from optuna import _gp",
        "import optuna._hypervolume.wfg",
        "study._storage.get_trial(trial._trial_id)",
    ],
)
def test_private_uses_are_found(source: str) -> None:
    assert list(private_uses(source))
    assert not list(private_uses("import optuna\nfrom optuna.storages import JournalStorage\nself._storage = 1"))


def test_attributes_of_a_running_trial() -> None:
    study = optuna.create_study()
    trial = study.ask()
    frozen = optuna_compat.frozen_trial(trial)
    optuna_compat.set_trial_user_attr(study, frozen, "worker", "a")
    optuna_compat.set_trial_system_attr(study, frozen, "gain", 0.5)
    study.tell(trial, 1.0)
    assert study.trials[0].user_attrs == {"worker": "a"}
    assert study.trials[0].system_attrs["gain"] == 0.5
    assert optuna_compat.storage_of(study).get_all_studies()[0].study_name == study.study_name


def test_constraints_by_name() -> None:
    study = optuna.create_study()
    trial = study.ask()
    optuna_compat.set_constraint(trial, "latency", 2.0)
    optuna_compat.set_constraint(trial, "size", -1.0)
    study.tell(trial, 1.0)
    assert optuna_compat.constraints_of(study.trials[0]) == {"latency": 2.0, "size": -1.0}
    with pytest.raises(ValueError, match="NaN"):
        optuna_compat.set_constraint(study.ask(), "latency", float("nan"))


def test_constraints_of_a_constraints_func() -> None:
    """Optuna's own samplers write a list; a study of Optuna 4 keeps it when Optuna 5 opens it."""
    frozen = optuna.trial.create_trial(value=0.0, system_attrs={"constraints": (1.0, -2.0)})
    assert optuna_compat.constraints_of(frozen) == {"0": 1.0, "1": -2.0}
    assert optuna_compat.constraints_of(optuna.trial.create_trial(value=0.0)) == {}


@pytest.mark.parametrize(
    "distribution, inside, outside",
    [
        (CategoricalDistribution(("a", "b", 3)), ["a", 3], ["c", 4]),
        (IntDistribution(2, 8, step=3), [2, 5, 8], [1, 3, 9]),
        (FloatDistribution(0.0, 1.0, step=0.25), [0.0, 0.75], [0.3, 1.25]),
        (FloatDistribution(1e-4, 1.0, log=True), [1e-4, 0.1], [1e-5, 2.0]),
    ],
)
def test_a_distribution_contains(distribution: BaseDistribution, inside: list[object], outside: list[object]) -> None:
    assert all(optuna_compat.contains(distribution, value) for value in inside)
    assert not any(optuna_compat.contains(distribution, value) for value in outside)


def test_a_journal_takes_a_custom_lock(tmp_path: Path) -> None:
    class Lock(optuna_compat.BaseJournalFileLock):
        held: list[bool] = []  # noqa: RUF012

        def acquire(self) -> bool:
            self.held.append(True)
            return True

        def release(self) -> None:
            self.held.pop()

    backend = JournalFileBackend(str(tmp_path / "journal"), Lock())
    study = optuna.create_study(storage=JournalStorage(backend))
    study.tell(study.ask(), 1.0)
    assert study.trials[0].state == TrialState.COMPLETE
    assert Lock.held == []


@pytest.mark.slow
@pytest.mark.parametrize("version", ["4.0.0", "4.4.0", "4.9.0", "5.0.0"])
def test_samplers_and_storage_run_with_a_supported_version(version: str, tmp_path: Path) -> None:
    """Install that Optuna beside this environment's packages and run the tests that depend on it. Needs an index."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    if subprocess.run([*pip, f"optuna=={version}"], capture_output=True, text=True, check=False).returncode:
        pytest.skip(f"optuna {version} cannot be installed here")
    tests = ["tests/nas/search/test_optuna_compat.py", "tests/nas/search/samplers", "tests/nas/core/test_pareto.py"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    seen = "import optuna; print(optuna.__version__)"
    loaded = subprocess.run([sys.executable, "-c", seen], env=environment, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == version
    command = [sys.executable, "-m", "pytest", "-q", "-x", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_every_private_method_that_the_cache_calls_is_known() -> None:
    """A call that is not known would not be tried again when the connection to the database is lost."""
    cached = get_storage("sqlite://")
    called = set(re.findall(r"self\._backend\.(_\w+)", inspect.getsource(type(cached))))
    assert called and called <= set(optuna_compat.CACHE_CALLS)
    assert all(callable(getattr(RDBStorage, name, None)) for name in called)
