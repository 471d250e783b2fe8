"""The report's page: one HTML file that needs no network.

Facts stand in the page as JSON that is not executed; the page's script puts them in as text. A Content-Security-Policy
allows the two scripts of the page by their hashes and no request of any kind.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nas.core.atomic import atomic_write
from search_spaces.text import printable

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "report.html"


def write_page(path: Path, facts: Mapping[str, Any], refresh: int = 0) -> Path:
    """Write the page of a report, whole or not at all.

    Args:
        path: The page.
        facts: The facts (:func:`nas.search.run_report.facts.report_facts`).
        refresh: Seconds after which the page loads itself again; 0: never.
    """
    return atomic_write(path, render_page(facts, refresh))


def render_page(facts: Mapping[str, Any], refresh: int = 0) -> str:
    """Return the page of a report as text; ``refresh`` as in :func:`write_page`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    script, plotly = own_script(), plotly_script()
    return environment.get_template(PAGE).render(
        title=f"{printable(str(facts['run']['name']))}: search report",
        policy=policy(plotly, script),
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        facts=Markup(embedded(facts)),
        plotly=Markup(plotly),
        script=Markup(script),
        refresh=refresh,
    )


def embedded(facts: Mapping[str, Any]) -> str:
    """Return JSON that may stand in a script element: no character of it can end the element or begin a comment."""
    text = json.dumps(facts, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def policy(*scripts: str) -> str:
    """Return the Content-Security-Policy of a page with these scripts.

    Plotly sets styles of its elements, and saves an image by way of a ``data:`` or ``blob:`` URL.
    """
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def own_script() -> str:
    """Return the page's script: its files one after the other."""
    files = sorted((TEMPLATES / "scripts").glob("*.js"))
    return _normal("".join(file.read_text(encoding="utf-8") for file in files))


@cache
def plotly_script() -> str:
    """Return plotly.js as the installed package brings it."""
    from plotly.offline import get_plotlyjs

    return _normal(get_plotlyjs())


def _normal(script: str) -> str:
    """Return a script with newlines as a browser hashes them, checked for what would end its element."""
    assert "</script" not in script
    return script.replace("\r\n", "\n").replace("\r", "\n")
