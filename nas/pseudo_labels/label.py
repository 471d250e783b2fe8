"""Labels that a model gives to a folder of images: a COCO json in the end, until then a file with a line per
image."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.core.atomic import atomic_write
from nas.core.journal import Journal
from nas.core.reporter import Reporter
from nas.data.coco_writer import CocoWriter
from nas.data.images import SUFFIXES, BrokenImage, find_images, read_image
from nas.data.source import DataPair
from nas.pseudo_labels.thresholds import LEFT_OUT, Finder, thresholds_for
from nas.supernet.weights import digest_of
from search_spaces.errors import InputError
from search_spaces.json_checks import JsonObject, read_json
from search_spaces.text import json_text

VERSION = 1
DESCRIPTION = "pseudo-labels"
"""Description in the json, by which earlier labels are recognised."""
MAX_LABELS = 1 << 30
"""Bytes of earlier labels that are read, at most."""
NAMED = 20
"""Broken images that are named one by one; all are counted."""

Line = Mapping[str, Any]


@dataclass(frozen=True)
class LabelThresholds:
    """Which boxes become labels: those with a score of ``score`` or more, of ``by_class`` for a class named there, or
    of what gives ``precision`` on the val split of a data set. What is below, but not below ``ignore_from``, is
    marked as a region of which nothing is known (``iscrowd``)."""

    score: float = 0.4
    by_class: tuple[tuple[str, float], ...] = ()
    precision: float | None = None
    ignore_from: float | None = None

    def __post_init__(self) -> None:
        for value in (
            self.score,
            *(score for _, score in self.by_class),
            *([] if self.ignore_from is None else [self.ignore_from]),
        ):
            if not 0 < value <= 1:
                raise InputError(f"score {value}", "a number over 0, at most 1")

    def thresholds(self, finder: Finder, data: DataPair | None, reporter: Reporter) -> dict[str, float]:
        """Return the lowest score of each class, and report how it was found.

        Raises InputError for a class that the model does not have, and for a precision without a data set.
        """
        classes = finder.backend.classes
        if unknown := [name for name, _ in self.by_class if name not in classes]:
            raise InputError(
                f"a score for {unknown}",
                f"classes of the model: {', '.join(classes[:10])}{' …' if len(classes) > 10 else ''}",
            )
        found = dict.fromkeys(classes, self.score)
        if self.precision is not None:
            if data is None:
                raise InputError("a precision without a data set", "--data with a val split to find it on")
            with reporter.steps("thresholds") as progress:
                found, counts = thresholds_for(self.precision, finder, data.val, progress)
            for name in classes:
                threshold = f"from score {found[name]:.3f} on, by {counts[name]} boxes"
                reporter.note(f"{name}: {'left out: no score suffices' if found[name] == LEFT_OUT else threshold}")
        return found | dict(self.by_class)


def _images_of(folder: Path, reporter: Reporter) -> tuple[Path, ...]:
    """The images below a folder; what was passed over is reported. Raises InputError if there is none."""
    found = find_images(folder)
    if not found.files:
        raise InputError(f"no image in {folder}", f"files ending in {', '.join(sorted(SUFFIXES))}")
    for remark in found.remarks():
        reporter.note(remark)
    return found.files


def pseudo_label(
    model: Path,
    finder: Finder,
    images: Path,
    out: Path,
    wanted: LabelThresholds,
    reporter: Reporter,
    data: DataPair | None = None,
) -> tuple[int, int, int]:
    """Label every image below ``images``, write ``out``, and return the numbers of images, boxes and broken images.

    After a kill, the same call resumes: ``<out>.part`` has a line per finished image. File names in ``out`` are
    relative to its folder. Raises InputError if there is no image, if the options do not fit the model, or if ``out``
    holds anything but earlier pseudo-labels.
    """
    paths = _images_of(images, reporter)
    journal = Journal(out.with_name(out.name + ".part"))
    _check_replaceable(out)
    asked = _asked(model, finder, wanted, data)
    begun = _begun(journal, asked)
    if not begun:
        thresholds = wanted.thresholds(finder, data, reporter)
        journal.start(
            {
                "pseudo_labels": VERSION,
                "asked": asked,
                "thresholds": {k: None if v == LEFT_OUT else v for k, v in thresholds.items()},
            }
        )
        begun = journal.read()
    thresholds_then = JsonObject(begun[0], str(journal.path)).object("thresholds").entries
    done = {JsonObject(line, str(journal.path)).text("file"): line for line in begun[1:]}
    limits = [
        LEFT_OUT if thresholds_then.get(name) is None else float(thresholds_then[name])
        for name in finder.backend.classes
    ]
    least = min([*limits, LEFT_OUT if wanted.ignore_from is None else wanted.ignore_from])
    if math.isinf(least):
        raise InputError("thresholds that leave every class out", "a lower --precision, or --score")
    with reporter.steps("pseudo-label") as progress:
        progress(0, len(paths), "")
        for i, path in enumerate(paths, 1):
            name = path.relative_to(images).as_posix()
            if name not in done:
                done[name] = _labelled(finder, path, name, least)
                journal.append(done[name])
            progress(i, len(paths), name)
    chosen = [done[path.relative_to(images).as_posix()] for path in paths]
    info = {"model": model.name, **asked, "thresholds": thresholds_then}
    content = _coco(chosen, images, out, finder.backend.classes, limits, info)
    atomic_write(out, json_text(content) + "\n")
    journal.path.unlink(missing_ok=True)
    broken = [line for line in chosen if "broken" in line]
    for line in broken[:NAMED]:
        reporter.note(f"{images / line['file']}: {line['broken']}, left out")
    return len(chosen) - len(broken), sum(not a["iscrowd"] for a in content["annotations"]), len(broken)


def _check_replaceable(out: Path) -> None:
    """Raise InputError if ``out`` exists and holds no pseudo-labels: labels of a person are never replaced."""
    if not out.exists():
        return
    try:
        content = read_json(out, max_bytes=MAX_LABELS)
    except InputError:
        content = None
    info = content.get("info") if isinstance(content, Mapping) else None
    if not isinstance(info, Mapping) or info.get("description") != DESCRIPTION:
        raise InputError(f"{out} exists, and holds no pseudo-labels", "an --out that does not exist")


def _asked(model: Path, finder: Finder, wanted: LabelThresholds, data: DataPair | None) -> dict[str, Any]:
    """The settings that a journal was begun with, and that a later call has to have."""
    return {
        "model": digest_of(model),
        "merge": finder.merge,
        **{k: v for k, v in vars(wanted).items() if k != "by_class"},
        "by_class": dict(wanted.by_class),
        "data": data.fingerprint if data else None,
    }


def _begun(journal: Journal, asked: Line) -> Sequence[Line]:
    """What an earlier call has done; an error where that one was asked for something else."""
    found = journal.read()
    hint = f"delete {journal.path} to begin anew, or take another --out"
    if found and found[0].get("pseudo_labels") != VERSION:
        raise InputError(f"{journal.path} is no part of pseudo-labels of this version", hint=hint)
    if found and (then := found[0]["asked"]) != json.loads(json.dumps(asked)):
        other = [name for name in asked if then.get(name) != asked[name]]
        raise InputError(
            f"{journal.path} was begun with another {', '.join(other)}", "the same settings, to go on", hint
        )
    return found


def _labelled(finder: Finder, path: Path, name: str, least: float) -> Line:
    try:
        rgb = read_image(path)
    except BrokenImage as error:
        return {"file": name, "broken": error.reason}
    found = finder(rgb, least)
    size = {"width": rgb.shape[1], "height": rgb.shape[0]}
    return {
        "file": name,
        **size,
        "boxes": found.boxes.tolist(),
        "scores": found.scores.tolist(),
        "labels": found.labels.tolist(),
    }


def _coco(
    lines: Sequence[Line], images: Path, out: Path, classes: Sequence[str], limits: Sequence[float], info: Line
) -> dict[str, Any]:
    whole = [line for line in lines if "broken" not in line]
    place = _relative(images.resolve(), out.resolve().parent)
    unsure = LEFT_OUT if info["ignore_from"] is None else float(info["ignore_from"])
    writer = CocoWriter(classes, {"description": DESCRIPTION, **info})
    limit = np.array(limits, np.float64)
    for line in whole:
        scores, labels = np.array(line["scores"], np.float64), np.array(line["labels"], np.int64)
        # what was found for another class's lower threshold is nothing here
        keep = scores >= np.minimum(limit[labels], unsure)
        writer.add(
            f"{place}/{line['file']}",
            (line["width"], line["height"]),
            np.array(line["boxes"], np.float64).reshape(-1, 4)[keep],
            labels[keep],
            crowd=(scores < limit[labels])[keep],
            scores=scores[keep],
        )
    return writer.content()


def _relative(folder: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(folder, start)).as_posix()
    except ValueError:  # on another drive
        return folder.as_posix()
