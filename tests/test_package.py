"""What is installed is what the tree says, every registry entry can be imported, and nothing in the sources runs what
it reads or talks to a network."""

from __future__ import annotations

import ast
import configparser
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module, metadata
from importlib.resources import files
from pathlib import Path

import pytest

from search_spaces.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("latency_db", "nas", "search_spaces")
SOURCES = [file for package in (*PACKAGES, "benchmarks") for file in sorted((ROOT / package).rglob("*.py"))]

CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")
NAME = CONFIG["metadata"]["name"]

RUNS_WHAT_IT_READS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
NETWORK = {
    "requests",
    "httpx",
    "aiohttp",
    "urllib3",
    "urllib.request",
    "http.client",
    "http.server",
    "socket",
    "ssl",
    "ftplib",
    "smtplib",
    "torch.hub",
}


# the distribution


def test_installed_metadata_is_that_of_the_tree() -> None:
    installed = metadata.metadata(NAME)
    assert installed["Version"] == CONFIG["metadata"]["version"]
    assert installed["Requires-Python"] == CONFIG["options"]["python_requires"] == ">=3.10"
    assert installed["License-Expression" if "License-Expression" in installed else "License"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_only_the_three_packages_are_installed() -> None:
    top = metadata.distribution(NAME).read_text("top_level.txt")
    assert top is not None
    assert tuple(sorted(top.split())) == PACKAGES


def test_console_script() -> None:
    scripts = {
        entry.name: entry for entry in metadata.distribution(NAME).entry_points if entry.group == "console_scripts"
    }
    assert set(scripts) == {"nas"}
    assert callable(scripts["nas"].load())


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_code_is_a_package_and_types_are_shipped(package: str) -> None:
    """A folder without ``__init__.py`` would work in the tree and be missing where it is installed."""
    assert files(package).joinpath("py.typed").is_file()
    folders = {file.parent for file in (ROOT / package).rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_every_imported_library_is_a_requirement() -> None:
    lines = [CONFIG["options"]["install_requires"], *CONFIG["options.extras_require"].values()]
    declared = {_normal(found[0]) for line in "\n".join(lines).splitlines() if (found := re.match(r"[\w.-]+", line))}
    providers = metadata.packages_distributions()
    imported = {
        module.partition(".")[0]
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for module in imports(file)
    }
    needed = {name: {_normal(d) for d in providers[name]} for name in imported - set(PACKAGES) if name in providers}
    assert {name for name, distributions in needed.items() if not distributions & declared} == set()
    assert {"torch", "numpy", "sqlalchemy"} <= set(needed)


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


# the registries


def registries() -> Iterator[tuple[str, str]]:
    """``(module, attribute)`` of every registry, found by its annotation."""
    for file in SOURCES:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and ast.unparse(node.annotation).startswith("Registry[")
            ):
                yield ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), node.target.id


def test_the_registries_are_found() -> None:
    assert {"BLOCKS", "NECKS", "HEADS", "SPACES", "RUNTIMES"} <= {name for _, name in registries()}


@pytest.mark.parametrize("module, attribute", list(registries()))
def test_every_registry_entry_can_be_imported(module: str, attribute: str) -> None:
    table = getattr(import_module(module), attribute)
    assert isinstance(table, Registry)
    assert len(table) > 0
    for name in table:
        assert table[name] is not None


# what must not be there


def imports(file: Path) -> set[str]:
    """Every dotted name that a file imports, ``from a import b`` as both ``a`` and ``a.b``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def forbidden(file: Path) -> list[str]:
    """What in a file could run or fetch something from outside, each with its line where there is one."""
    found = [
        f"imports {name}"
        for name in sorted(imports(file))
        if any(f"{name}.".startswith(f"{bad}.") for bad in RUNS_WHAT_IT_READS | NETWORK)
    ]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name, options = ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        unsafe_load = name.split(".")[-2:] == ["torch", "load"] and options.get("weights_only") != "True"
        unsafe_yaml = name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load")
        if (
            name in ("eval", "exec", "__import__")
            or name.startswith("torch.hub.")
            or unsafe_load
            or unsafe_yaml
            or options.get("allow_pickle") == "True"
        ):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


RESTRICTED = {"nas/pretrained/pickles.py": ["imports pickle"], "benchmarks/sshd.py": ["imports socket"]}
"""The reader of checkpoints: its unpickler makes stubs of all classes (tests/nas/pretrained/test_pickles.py). The SSH
server of benchmarks and tests: it looks for a free port of this machine."""


def test_nothing_runs_what_it_reads_or_talks_to_a_network() -> None:
    assert len(SOURCES) > 50
    assert {str(file.relative_to(ROOT)): found for file in SOURCES if (found := forbidden(file))} == RESTRICTED


def test_the_reader_of_checkpoints_calls_no_function_of_pickle() -> None:
    """It subclasses the pure Python unpickler, overrides how classes are found, and uses nothing else but an error."""
    source = (ROOT / "nas/pretrained/pickles.py").read_text(encoding="utf-8")
    assert set(re.findall(r"\bpickle\.(\w+)", source)) == {"UnpicklingError", "_Unpickler"}
    assert "def find_class" in source
    assert "super().find_class" not in source


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import os, pickle as p",
        "def f():\n    from pickle import loads",
        "from urllib import request",
        "import urllib.request",
        "from http.client import HTTPConnection",
        "import socket",
        "import requests.adapters",
        "eval('1')",
        "exec('1')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.hub.load('a', 'b')",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
    ],
)
def test_each_of_them_would_be_found(line: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(line)
    assert forbidden(file) != []


@pytest.mark.parametrize(
    "line",
    [
        "model.eval()",
        "torch.load(path, weights_only=True)",
        "from urllib.parse import quote",
        "import requests_like",
        "yaml.safe_load(t)",
    ],
)
def test_their_harmless_neighbours_pass(line: str, tmp_path: Path) -> None:
    file = tmp_path / "good.py"
    file.write_text(line)
    assert forbidden(file) == []


def test_results_table_of_the_readme_is_that_of_the_results() -> None:
    from benchmarks.tables import README, updated

    text = README.read_text()
    assert updated(text) == text, "run: python -m benchmarks.tables"


# what libraries do by themselves


@pytest.mark.parametrize(
    "module",
    [
        "nas.inference.backends",
        "nas.export.onnx",
        "latency_db.runtimes.onnxruntime",
        "latency_db.conversion.onnx_parts",
    ],
)
def test_onnx_runtime_tells_nobody_and_leaves_no_identifier(module: str, tmp_path: Path) -> None:
    """It does by default since 1.32: events in a database in the user's cache folder, from where they are sent."""
    script = (
        f"import {module}, onnxruntime, onnx\n"
        "from onnx import TensorProto, helper\n"
        "values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in 'xy']\n"
        "graph = helper.make_graph([helper.make_node('Relu', ['x'], ['y'])], 'g', values[:1], values[1:])\n"
        "model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)\n"
        "onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])\n"
    )
    hidden = ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")
    environment = {**{k: v for k, v in os.environ.items() if k not in hidden}, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, check=True)
    assert not [
        path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.casefold() or path.name == "deviceid"
    ]
