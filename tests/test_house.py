"""Rules of the house that a reader notices: words, docstrings, length of functions, the README."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def package_of(file: Path) -> str:
    """``nas/search``, ``latency_db/core``, ``search_spaces``, ``benchmarks``, ``docs`` or the file's name."""
    parts = file.relative_to(ROOT).parts
    return "/".join(parts[:2]) if parts[0] in ("nas", "latency_db") and len(parts) > 2 else parts[0]


SOURCES = [
    file
    for layer in ("search_spaces", "latency_db", "nas", "benchmarks")
    for file in sorted((ROOT / layer).rglob("*.py"))
]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PACKAGES = sorted({package_of(file) for file in SOURCES})


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def of(package: str) -> list[Path]:
    return [file for file in SOURCES if package_of(file) == package]


# words

HOME_MADE = re.compile(
    r"\b(told|said|in hand|sittings?|usual speed|anchor speed|merit|nearness|dear|dearer|beaten|goes on|go on with|luck"
    r"|lucky|taught|helping branch|pictures?|comes? to the front|drawn functions|drawn points|told ahead|by hand"
    r"|nas spaces|like:)\b",
    re.IGNORECASE,
)
"""Terms that had a meaning in this project only; the glossary has the field's words for them."""
SERIALIZED = re.compile(
    r"[\"'`](pictures|pictures_per_second|said|told_twice|taught| taught by |lucky|without_lucky|guided, latency told"
    r"|--sittings)[\"'`]"
)
"""Keys of files, and options of recorded commands, of the version before."""
OLD_NAMES = {"nas/cli/renamed.py", "nas/core/budgets.py"}
"""Files whose subject is an old name."""


def home_made(file: Path) -> list[str]:
    """``line: term`` of every home-made term in a file."""
    lines = enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
    return [f"{n}: {found[0]}" for n, line in lines for found in HOME_MADE.finditer(SERIALIZED.sub("", line))]


def homes(package: str) -> dict[str, list[str]]:
    files = of(package) if package in PACKAGES else [page for page in PAGES if package_of(page) == package]
    found = {str(file.relative_to(ROOT)): home_made(file) for file in files}
    return {name: terms for name, terms in found.items() if terms and name not in OLD_NAMES}


@pytest.mark.parametrize("package", [*PACKAGES, "docs", "README.md", "CONTRIBUTING.md"])
def test_words_are_those_of_the_field(package: str) -> None:
    found = homes(package)
    assert not found, found


def test_a_home_made_term_is_found(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('"""What is told ahead."""\nx["told_twice"] = "Sittings"\n')
    assert home_made(file) == ["1: told", "2: Sittings"]


# docstrings


def public(file: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public functions, methods and classes with their dotted names; overloads and members of private classes left
    out."""

    def inside(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
        for node in body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
                continue
            if any(ast.unparse(d).endswith("overload") for d in node.decorator_list):
                continue
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from inside(node.body, f"{prefix}{node.name}.")

    yield from inside(tree(file).body, "")


def undocumented(package: str) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}: {name}"
        for file in of(package)
        for name, node in public(file)
        if not ast.get_docstring(node)
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_public_has_a_docstring(package: str) -> None:
    found = undocumented(package)
    assert not found, found


def own_statements(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def raises_input_error(function: ast.FunctionDef) -> bool:
    return any(
        isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and ast.unparse(node.exc.func).rpartition(".")[2] in ("InputError", "unknown")
        for node in own_statements(function)
    )


COMMANDS = ("run", "main")
"""Functions whose errors the command line prints; nobody calls them from Python."""


def silent_raisers(package: str) -> list[str]:
    """Public functions that raise InputError themselves while their docstring, or that of their class, does not say
    so."""
    found = []
    for file in of(package):
        nodes = dict(public(file))
        for name, node in nodes.items():
            if name in COMMANDS and package in ("nas/cli", "benchmarks"):
                continue
            if isinstance(node, ast.FunctionDef) and raises_input_error(node):
                owner = nodes.get(name.rpartition(".")[0])
                text = (ast.get_docstring(node) or "") + (ast.get_docstring(owner) or "" if owner else "")
                if not re.search(r"Raise|InputError", text):
                    found.append(f"{file.relative_to(ROOT)}: {name}")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_what_raises_says_so(package: str) -> None:
    found = silent_raisers(package)
    assert not found, found


ARRAYS = re.compile(r"\b(NDArray|Floats|Tensor|FloatArray|Array)\b")
SHAPE = re.compile(
    r"\[[A-Za-z0-9_, .*+×…-]+\]|\([A-Za-z0-9_*+]+, ?[A-Za-z0-9_*+,… ]*\)|shape|scalar|per \w+|one \w+ (per|for)|as ``",
    re.IGNORECASE,
)


def shapeless(package: str) -> list[str]:
    """Public functions that take or return arrays while their docstring has no shape."""
    found = []
    for file in of(package):
        for name, node in public(file):
            if isinstance(node, ast.FunctionDef):
                annotations = [a.annotation for a in (*node.args.args, *node.args.kwonlyargs)]
                texts = [ast.unparse(a) for a in (*annotations, node.returns) if a is not None]
                if any(map(ARRAYS.search, texts)) and not SHAPE.search(ast.get_docstring(node) or ""):
                    found.append(f"{file.relative_to(ROOT)}: {name}")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_arrays_have_shapes(package: str) -> None:
    found = shapeless(package)
    assert not found, found


# functions

MOST_LINES = 60
TABLES = {"benchmarks/search_quality.py: main"}
"""Functions that are tables, or read like one."""


def long_functions() -> set[str]:
    return {
        f"{file.relative_to(ROOT)}: {node.name}"
        for file in SOURCES
        for node in ast.walk(tree(file))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > MOST_LINES
    }


def test_no_function_is_long() -> None:
    assert long_functions() - TABLES == set()


# the README


def test_readme() -> None:
    from nas.cli import VERBS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert "\nmake quickstart " in text and "\nmake test " in text
    assert [verb for verb in VERBS if f"| `nas {verb}` |" not in text] == []


def test_links_of_the_pages_lead_somewhere() -> None:
    pages = [*PAGES, *(ROOT / "docs" / "decisions").glob("*.md"), ROOT / "results" / "README.md", ROOT / "CHANGELOG.md"]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))]
    broken = [
        f"{p.relative_to(ROOT)}: {link}" for p, link in links if "://" not in link and not (p.parent / link).exists()
    ]
    assert broken == []
