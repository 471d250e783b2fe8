"""The facts of a report, the page around them, and writing it while a search runs."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nas.cli import main
from nas.core.architecture_file import Artifact
from nas.core.reporter import Reporter
from nas.search.report.front_files import read_front
from nas.search.run_report import facts as facts_module
from nas.search.run_report import write as write_module
from nas.search.run_report.facts import ReportConfig, report_facts
from nas.search.run_report.operations import Operations
from nas.search.run_report.page import embedded, render_page
from nas.search.run_report.write import watch_report
from search_spaces.errors import InputError
from tests._report_run import CLASSES, make_run

SCHEMA = Path(__file__).resolve().parents[4] / "nas" / "core" / "schemas" / "report.schema.json"


def test_facts_fit_their_schema(facts: dict[str, Any]) -> None:
    jsonschema.validate(facts, json.loads(SCHEMA.read_text()))
    broken = copy.deepcopy(facts)
    broken["explanations"][0]["counterfactuals"][0]["step"] = "sideways"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, json.loads(SCHEMA.read_text()))


def test_facts_are_those_of_the_files(facts: dict[str, Any], run_folder: Path) -> None:
    front = read_front(run_folder / "front.json")
    assert {p["name"]: p["id"] for p in facts["picks"]} == dict(front.chosen)
    assert {c["id"] for c in facts["candidates"] if c["on_front"]} == {c.id for c in front.candidates}
    for pick in facts["picks"]:
        assert pick["file"] == (run_folder / f"{pick['name']}.json").read_text()
    assert facts["run"]["classes"] == list(CLASSES)
    assert Artifact.from_dict(facts["artifact"]).classes == CLASSES


def test_diagrams_mark_what_differs(facts: dict[str, Any]) -> None:
    networks = facts["networks"]
    parts = [{p["name"]: p for p in n["parts"]} for n in networks]
    assert next(iter(parts[0])) == "stem"
    assert list(parts[0])[-1] == "head"
    for name in parts[0]:
        for field in ("kind", "depth", "hidden", "channels"):
            same = len({own[name][field] for own in parts}) == 1
            assert (field in parts[0][name]["differs"]) is not same
    assert sum(p["params"] for p in networks[0]["parts"]) == next(
        c["estimates"]["params"]["value"] for c in facts["candidates"] if c["id"] == networks[0]["id"]
    )


class Page(HTMLParser):
    """Elements of a page as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_text_from_outside_stays_text(facts: dict[str, Any]) -> None:
    wild = copy.deepcopy(facts)
    for text in ("</script><script>alert(1)</script>", "<!--<script>", "\u2028", '"><img src=x onerror=alert(1)>'):
        wild["run"]["name"] = wild["run"]["data"] = wild["run"]["folder"] = text
        wild["trust"]["commands"] = [text]
        page = Page(render_page(wild))
        assert [tag for tag, _ in page.tags].count("script") == 3
        assert "img" not in [tag for tag, _ in page.tags]
        assert json.loads(embedded(wild)) == wild


def test_the_policy_allows_its_own_scripts_only(facts: dict[str, Any]) -> None:
    page = Page(render_page(facts))
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert len(re.findall(r"'sha256-", policy)) == 2
    sources = [a for _, a in page.tags if a.get("src") or (a.get("href") or "data:,") != "data:,"]
    assert sources == []


def test_the_page_is_small(run_folder: Path) -> None:
    assert (run_folder / "report.html").stat().st_size < 6e6


def test_a_running_search_has_a_report(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "running", trials=6, finished=False)
    found = report_facts(folder, ReportConfig((), profile=False), Reporter())
    assert found["run"]["finished"] is False
    assert found["explanations"] == [] or found["picks"]
    assert found["operations"]["missing"] == "not profiled"
    jsonschema.validate(found, json.loads(SCHEMA.read_text()))
    assert "A search under way" in render_page(found)


def test_watching_ends_with_the_search(
    run_folder: Path, facts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = copy.deepcopy(facts)
    running["run"]["finished"] = False
    states = [running, running, facts, facts]
    written: list[Path] = []
    monkeypatch.setattr(write_module, "report_facts", lambda *_: states.pop(0))
    monkeypatch.setattr(write_module, "write_report", lambda folder, page, *_: written.append(page))
    page = tmp_path / "live.html"
    watch_report(run_folder, page, 0.001, ReportConfig(), Reporter())
    assert 'data-refresh="1"' in page.read_text()
    assert written == [page]
    with pytest.raises(InputError, match="above 0"):
        watch_report(run_folder, page, 0.0, ReportConfig(), Reporter())


def test_operations_survive_the_file(facts: dict[str, Any]) -> None:
    assert Operations.from_dict(facts["operations"]).to_dict() == facts["operations"]


def test_errors_of_the_verb(tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert main(["report", str(run_folder), "--stock", "yolov99"]) == 2
    assert main(["report", str(run_folder), "--verify", "-1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("Traceback" not in line for line in lines)


def test_facts_on_standard_output(
    run_folder: Path, facts: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts_module, "_explanations", lambda run: (facts["explanations"], facts["importance"], ""))
    assert main(["report", str(run_folder), "--json", "--no-profile", "--stock", "none"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["explanations"] == facts["explanations"]
    assert printed["operations"]["profiles"].keys() == facts["operations"]["profiles"].keys()
