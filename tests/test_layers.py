"""Imports go one way, never in a circle, and what travels without torch imports none."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("search_spaces", "latency_db", "nas", "benchmarks", "tests")
"""Lowest first: a module imports from its own layer and from lower ones."""
TORCH_FREE = (
    *(
        f"search_spaces.{name}"
        for name in (
            "errors",
            "text",
            "json_checks",
            "foreign_files",
            "registry",
            "architecture",
            "graph",
            "space",
            "op",
            "spaces",
            "blocks",
            "necks",
            "heads",
        )
    ),
    *(f"nas.core.{name}" for name in ("estimate", "pareto", "budgets", "architecture_file", "atomic")),
    *("nas.search.selection", "nas.estimators", "nas.cli"),
)
"""Values and registries; besides these every module of latency_db, of nas.plotting and every space and neck."""

Graph = dict[str, set[str]]


def modules_of(root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module in the layers' folders below ``root``."""
    files = [file for layer in LAYERS for file in sorted((root / layer).rglob("*.py"))]
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def import_graph(modules: Mapping[str, Path], type_checking: bool = False) -> Graph:
    """Module -> the modules of the tree that it imports, at its top or inside a function.

    ``type_checking``: imports for type checkers only count, too.
    """
    return {name: set(_imports(name, file, modules, type_checking)) for name, file in modules.items()}


def package_graph(graph: Graph, depth: int = 2) -> Graph:
    """The same between packages: a dotted name cut to its first ``depth`` parts."""
    packages: Graph = {}
    for name, others in graph.items():
        own = ".".join(name.split(".")[:depth])
        cut = {".".join(other.split(".")[:depth]) for other in others}
        packages.setdefault(own, set()).update(cut - {own})
    return packages


def _imports(name: str, file: Path, modules: Mapping[str, Path], type_checking: bool) -> Iterator[str]:
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    for node in ast.walk(tree) if type_checking else _at_run_time(tree):
        if isinstance(node, ast.Import):
            yield from (found for alias in node.names if (found := _known(alias.name, modules)))
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join((*parts, *filter(None, [node.module])))
            yield from (found for alias in node.names if (found := _known(f"{origin}.{alias.name}", modules)))


def _known(dotted: str, modules: Mapping[str, Path]) -> str | None:
    """The module of the tree that ``dotted`` names, or the one that holds it; ``None`` outside the tree."""
    while dotted not in modules and dotted.partition(".")[0] in LAYERS and "." in dotted:
        dotted = dotted.rpartition(".")[0]
    return dotted if dotted.partition(".")[0] in LAYERS else None


def _at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from _at_run_time(other)
            continue
        yield child
        yield from _at_run_time(child)


def upward(graph: Graph) -> list[str]:
    """The imports that go up, as ``importer -> imported``."""

    def level(name: str) -> int:
        return LAYERS.index(name.partition(".")[0])

    return sorted(
        f"{name} -> {other}" for name, others in graph.items() for other in others if level(other) > level(name)
    )


def cycle(graph: Graph) -> list[str]:
    """The modules of one import cycle in order, the first again at the end; empty if there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        found = next((loop for other in sorted(graph.get(name, ())) if (loop := walk(other, [*path, name]))), [])
        done.add(name)
        return found

    return next((loop for name in sorted(graph) if (loop := walk(name, []))), [])


def test_imports_go_one_way() -> None:
    assert upward(import_graph(modules_of(ROOT))) == []


def test_no_import_cycle() -> None:
    assert cycle(import_graph(modules_of(ROOT))) == []


def rooms() -> Graph:
    """Packages of ``nas``, ``latency_db`` and ``search_spaces`` -> the packages that they import, also for types only."""
    graph = package_graph(import_graph(modules_of(ROOT), type_checking=True))
    return {name: others for name, others in graph.items() if name.partition(".")[0] in LAYERS[:3]}


def test_no_two_packages_import_each_other() -> None:
    """Every package of a layer, with imports for type checkers; a layer's own ``__init__`` imports what it offers."""
    graph = {name: {o for o in others if "." in o} for name, others in rooms().items() if "." in name}
    assert cycle(graph) == []


def test_nobody_imports_the_command_line() -> None:
    importers = [name for name, others in rooms().items() if "nas.cli" in others]
    assert importers == ["nas.__main__"]


def test_no_benchmark_imports_the_command_line() -> None:
    """What a benchmark needs of a verb is a function below it."""
    graph = import_graph(modules_of(ROOT), type_checking=True)
    users = [name for name, others in graph.items() if any(o.startswith("nas.cli") for o in others)]
    assert [name for name in users if name.startswith("benchmarks.")] == []


def test_first_level_of_nas() -> None:
    """At most 16 packages and 3 modules: a newcomer sees the subjects at one look."""
    packages = [d.name for d in (ROOT / "nas").iterdir() if (d / "__init__.py").exists()]
    modules = [f.name for f in (ROOT / "nas").glob("*.py")]
    assert len(packages) <= 16
    assert len(modules) <= 3


def test_every_package_says_what_it_is() -> None:
    """Two sentences: what it is, and what it may import."""
    for layer in LAYERS[:3]:
        for file in (ROOT / layer).rglob("__init__.py"):
            text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            assert text.rstrip().endswith("."), f"{file.relative_to(ROOT)} has no docstring in whole sentences"


def test_the_graph_is_the_real_one() -> None:
    """Known imports of each form are seen, so that an empty graph cannot pass for a clean one."""
    graph = import_graph(modules_of(ROOT))
    assert "search_spaces.errors" in graph["search_spaces.registry"]
    assert "latency_db.core.cpu" in graph["latency_db.timing.cpu_timer"]  # from package import module
    assert "nas.data.digits" in graph["nas.data.source"]
    assert "latency_db.core.profiler" not in graph["latency_db.runtimes"]  # for type checkers only


def tree(root: Path, **sources: str) -> Graph:
    """The import graph of files written below ``root``; ``a__b="…"`` is ``a/b.py``."""
    for name, source in sources.items():
        file = (root / name.replace("__", "/")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return import_graph(modules_of(root))


@pytest.mark.parametrize(
    "source",
    [
        "import nas.b",
        "import os, nas.b as b",
        "from nas import b",
        "from nas.b import f",
        "def f():\n    from nas.b import g",
        "try:\n    import nas.b\nexcept ImportError:\n    pass",
        "if TYPE_CHECKING:\n    import os\nelse:\n    import nas.b",
    ],
)
def test_an_upward_import_is_found(source: str, tmp_path: Path) -> None:
    assert upward(tree(tmp_path, latency_db__a=source, nas__b="")) == ["latency_db.a -> nas.b"]


def test_imports_down_outside_and_for_type_checkers_pass(tmp_path: Path) -> None:
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from nas.b import T\nimport torch"
    graph = tree(
        tmp_path,
        latency_db__a=typed,
        nas__b="from latency_db.a import X\nfrom . import c",
        nas__c="import latency_db.a",
    )
    assert graph == {"latency_db.a": set(), "nas.b": {"latency_db.a", "nas.c"}, "nas.c": {"latency_db.a"}}
    assert upward(graph) == cycle(graph) == []


def test_packages_that_import_each_other_are_found(tmp_path: Path) -> None:
    """Also where no two modules do, and where one direction is for type checkers only."""
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from nas.a.y import T"
    tree(tmp_path, nas__a__x="from nas.b.x import f", nas__a__y="", nas__b__x="", nas__b__y=typed)
    graph = import_graph(modules_of(tmp_path), type_checking=True)
    assert cycle(graph) == []
    assert cycle(package_graph(graph)) == ["nas.a", "nas.b", "nas.a"]


def test_a_cycle_is_found(tmp_path: Path) -> None:
    graph = tree(
        tmp_path,
        nas__a="from nas import b",
        nas__b="def f():\n    from .c import g",
        nas__c="import nas.a",
        nas__d="import nas.a",
    )
    assert cycle(graph) == ["nas.a", "nas.b", "nas.c", "nas.a"]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


LOOK = """
import sys
from importlib import import_module
for name in {names!r}:
    import_module(name)
    if "torch" in sys.modules:
        sys.exit(name + " imports torch")
for registry in {registries!r}:
    table = getattr(import_module(registry[0]), registry[1])
    for name in table:
        table[name]
        if "torch" in sys.modules:
            sys.exit(registry[1] + "[" + repr(name) + "] imports torch")
"""


def test_values_registries_and_database_import_no_torch() -> None:
    everything_of = ("latency_db.", "nas.plotting.", "nas.search.report.")
    names = [*TORCH_FREE, *(name for name in modules_of(ROOT) if name.startswith(everything_of))]
    registries = [
        ("search_spaces.spaces", "SPACES"),
        ("search_spaces.necks", "NECKS"),
        ("latency_db.runtimes", "RUNTIMES"),
    ]
    done = run(LOOK.format(names=names, registries=registries))
    assert done.returncode == 0, done.stderr


def test_a_torch_import_is_found() -> None:
    done = run(LOOK.format(names=["search_spaces.errors", "search_spaces.layers"], registries=[]))
    assert done.returncode == 1
    assert done.stderr.strip() == "search_spaces.layers imports torch"
