"""``docs/cli.md`` is what the parsers say."""

from __future__ import annotations

from pathlib import Path

from nas.cli import VERBS
from nas.cli.reference import markdown

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_current() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == markdown(), (
        "run: python -m nas.cli.reference > docs/cli.md"
    )


def test_every_verb_has_a_section_and_examples() -> None:
    sections = markdown().split("\n## ")[1:]
    assert [section.splitlines()[0] for section in sections] == [f"nas {verb}" for verb in VERBS]
    assert all("```\nnas " in section or "```\ntorchrun " in section for section in sections)


def test_options_of_actions_are_there() -> None:
    page = markdown()
    assert "### nas db import" in page and "`--device-name` `DEVICE_NAME`" in page


def test_no_placeholder_is_left() -> None:
    assert "%(" not in markdown() and "%%" not in markdown()
