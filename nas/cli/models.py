"""``nas models``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.core.reporter import Reporter
    from nas.core.text_table import TextTable

EXAMPLES = """\
  nas models
  nas models YOLOv8 'yolo11*'                             families, names, patterns
  nas models --json
  nas models yolov8n --out yolov8n.json --image-size 320  an architecture file, as nas search writes"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("model", nargs="*", default=["all"], help="name, family or pattern (default: all)")
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    parser.add_argument("--out", type=Path, help="write one model's architecture file here")
    parser.add_argument("--image-size", metavar="HxW", help="with --out: 320, or 384x640 (default: the model's own)")
    parser.add_argument(
        "--num-classes",
        type=int,
        default=80,
        help="with --out: training on a data set takes the data set's (default %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """List, or write one."""
    from nas.core.console_reporter import ConsoleReporter
    from nas.core.references import matching
    from search_spaces.errors import InputError

    found = list({r.name: r for word in args.model for r in matching(word)}.values())
    if args.out is not None:
        if len(found) != 1:
            raise InputError(f"--out for {len(found)} models", "one", "name one: nas models yolov8n --out yolov8n.json")
        _write(found[0].name, args, ConsoleReporter())
        return 0
    rows = [_row(r.name) for r in found]
    if args.json:
        import json

        print(json.dumps(rows, indent=2))
        return 0
    reporter = ConsoleReporter()
    reporter.table(_table(rows))
    for i, source in enumerate(_sources(rows), 1):
        reporter.note(f"[{i}] {source}")
    return 0


def _write(name: str, args: argparse.Namespace, reporter: Reporter) -> None:
    from nas.core.architecture_file import read_artifact, write_artifact
    from nas.core.references import reference_artifact
    from search_spaces.errors import InputError

    artifact = reference_artifact(name, args.num_classes, args.image_size)
    if args.out.exists() and read_artifact(args.out) != artifact:
        raise InputError(f"{args.out} holds another architecture", "a new file", "remove it or name another --out")
    write_artifact(args.out, artifact)
    reporter.note(f"written: {args.out}; it goes where files of nas search go: nas train, nas measure, nas bench")


def _row(name: str) -> dict[str, Any]:
    """What is known of a reference: counted here at 80 classes and 640 px, and what its authors say."""
    from dataclasses import asdict

    from nas.core.references import COCO_CLASSES, PUBLISHED_SIZE
    from search_spaces.references import reference
    from search_spaces.spaces import space_of
    from search_spaces.trace import trace

    r = reference(name)
    cost = trace(space_of(r.architecture).graph(r.architecture), COCO_CLASSES, PUBLISHED_SIZE)
    return {
        "name": r.name,
        "family": r.family,
        "space": r.architecture.space,
        "architecture": r.architecture.id,
        "classes": COCO_CLASSES,
        "image_size": PUBLISHED_SIZE,
        "params": cost.params,
        "macs": cost.macs,
        "published": None if r.published is None else asdict(r.published),
    }


def _sources(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["published"]["source"] for row in rows if row["published"]))


def _table(rows: Sequence[dict[str, Any]]) -> TextTable:
    from nas.core.text_table import TextTable
    from nas.core.units import share

    sources = _sources(rows)
    head = ("model", "family", "M params", "GMACs", "published: mAP", "M params", "GFLOPs", "source")
    cells = []
    for row in rows:
        published = row["published"] or {}
        accuracy = None if published.get("map50_95") is None else published["map50_95"] / 100
        figures = [share(accuracy)] + [
            f"{published[name]:.4g}" if published.get(name) is not None else "–" for name in ("params_m", "gflops")
        ]
        source = f"[{sources.index(published['source']) + 1}]" if published else "–"
        cells.append(
            (row["name"], row["family"], f"{row['params'] / 1e6:.2f}", f"{row['macs'] / 1e9:.2f}", *figures, source)
        )
    return TextTable(head, tuple(cells), left=2)
