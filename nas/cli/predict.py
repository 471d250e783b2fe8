"""``nas predict``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas predict runs/digits/S.onnx picture.jpg
  nas predict S.onnx photos/*.jpg --out drawn --score 0.4"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("model", type=Path, help="exported model (.onnx)")
    parser.add_argument("images", type=Path, nargs="+", help="pictures")
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder for the drawn pictures (default %(default)s)")
    parser.add_argument("--score", type=float, default=0.3, help="least score (default %(default)s)")
    parser.add_argument("--iou", type=float, default=0.6, help="overlap from which boxes of one class are one (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Draw and list what is found; a broken picture is named and passed over."""
    from nas.cli.options import new_folder
    from nas.console import Display
    from nas.predict import Predictor, write_drawn
    from search_spaces.errors import InputError

    display = Display()
    predictor = Predictor(args.model)
    folder = new_folder(args.out)
    failed, taken = 0, set[str]()
    for path in args.images:
        try:
            rgb, found = predictor(path, args.score, args.iou)
        except InputError as error:
            display.note(f"{path}: {error}")
            failed += 1
            continue
        name = next(n for n in (path.stem, *(f"{path.stem}-{i}" for i in range(2, len(args.images) + 2))) if n not in taken)
        taken.add(name)
        drawn = write_drawn(folder / f"{name}.png", rgb, found, predictor.classes)
        named = ", ".join(f"{predictor.classes[k]} {s:.2f}" for k, s in zip(found.labels, found.scores, strict=True))
        display.note(f"{path} -> {drawn}: {len(found)} found" + (f" ({named})" if named else ""))
    return 2 if failed == len(args.images) else 0
