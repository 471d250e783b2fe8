"""What a terminal, a pipe and a file are shown: safe text, whole tables."""

from __future__ import annotations

import io
import os

import pytest
from rich.console import Console

from nas.core.console_reporter import ConsoleReporter
from nas.core.text_table import TextTable

HOSTILE = "x\x1b[31m\nred\u202e" + os.fsdecode(b"z\xe9.jpg")
WIDE = TextTable(
    ("model", "family", "onnxruntime:fp32@640", "mAP 50–95, %", "whose", "M params", "GMACs", "px", "machine"),
    tuple(
        (
            f"yolo-nas-{size}",
            "YOLO-NAS",
            "1234.5 ± 67.8 ms",
            "47.5",
            "published, COCO val2017",
            "12.17",
            "15.90",
            "640",
            "clean",
        )
        for size in "sml"
    ),
    left=2,
)


def reporter(terminal: bool, width: int = 80) -> tuple[ConsoleReporter, io.StringIO]:
    file = io.StringIO()
    return ConsoleReporter(Console(file=file, width=width, force_terminal=terminal, color_system=None)), file


@pytest.mark.parametrize("terminal", [True, False])
def test_foreign_text_is_one_harmless_line(terminal: bool) -> None:
    work, file = reporter(terminal, 400)
    work.note(HOSTILE)
    work.warning(HOSTILE)
    work.table(TextTable((HOSTILE, "n"), ((HOSTILE, "1"),)), title="t")
    text = file.getvalue()
    assert "\x1b[31m" not in text and "\u202e" not in text and text.count("x\\x1b[31m\\nred\\u202ez\\xe9.jpg") == 4
    text.encode()


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_takes_foreign_text(terminal: bool) -> None:
    work, file = reporter(terminal, 400)
    with work.bars([f"[bold]{HOSTILE}"]) as (update,):
        update(1, 2, HOSTILE)
        update(2, 2, f"[red]{HOSTILE}")
    text = file.getvalue()
    assert "\x1b[31m" not in text and "[bold]x\\x1b" in text and "[red]x\\x1b" in text


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_tables_show_every_word_at_any_width(width: int) -> None:
    work, file = reporter(True, width)
    work.table(WIDE, "Bench")
    lines = file.getvalue().splitlines()
    words = set(file.getvalue().split())
    assert max(map(len, lines)) <= width and "…" not in file.getvalue()
    assert all(word in words for row in (WIDE.headers, *WIDE.rows) for cell in row for word in cell.split())


def test_a_pipe_gets_one_line_per_row_with_whole_cells() -> None:
    work, file = reporter(False)
    work.table(WIDE)
    lines = [line for line in file.getvalue().splitlines() if line.strip()]
    assert len(lines) == 2 + len(WIDE.rows)
    for row in WIDE.rows:
        assert any(all(cell in line for cell in row) for line in lines)
