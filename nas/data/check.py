"""A check of a data set before a training: every image is decoded, every file is accounted for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from nas.data.dataset import DetectionDataset
from nas.data.formats import DataFormat
from nas.data.images import BrokenImage
from nas.data.loader import FEW_BROKEN, MOST_BROKEN
from nas.data.problems import Problems
from nas.data.source import DataPair, check_splits, find_data, report_shared_images
from nas.data.statistics import Statistics, statistics
from nas.data.walk import is_inside
from search_spaces.errors import InputError
from search_spaces.text import counted

MOST_THREADS = 8
"""That decode side by side; each may hold an image of the largest size."""

Digests = dict[int, bytes]
"""Index of a sample -> what its decoded pixels hash to; broken images have none."""
Watch = Callable[[int, int], None]
"""Called with (images done, images in all)."""


@dataclass(frozen=True)
class Report:
    """Results of :func:`check`.

    Attributes:
        name: of the data set.
        format: what people call its format.
        statistics: numbers of each split that could be read.
        problems: split -> its problems; "classes" and "files" are those that belong to no split.
        unusable: why it cannot be trained on; empty if it can.
    """

    name: str
    format: str
    statistics: tuple[Statistics, ...]
    problems: Mapping[str, Problems]
    unusable: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        problems = {place: found.to_dict() for place, found in self.problems.items()}
        notes = {place: found.notes for place, found in self.problems.items() if found.notes}
        splits = [{**asdict(s), "imbalance": s.imbalance, "unused": s.unused} for s in self.statistics]
        return {
            "name": self.name,
            "format": self.format,
            "usable": not self.unusable,
            "reason": self.unusable,
            "splits": splits,
            "problems": problems,
            "notes": notes,
        }

    def lines(self) -> Iterator[str]:
        """Yield the report as lines for a person, the verdict last."""
        classes = len(self.statistics[0].classes) if self.statistics else 0
        yield f"{self.name}: {self.format}, {counted(classes, 'class', 'classes')}"
        for numbers in self.statistics:
            yield from numbers.lines()
        for place, found in self.problems.items():
            for line in found.report():
                yield f"{place}: {line}" if not line.startswith(" ") else line
        for place, found in self.problems.items():
            yield from (f"{place}: {note}" for note in found.notes)
        kinds = len({kind for found in self.problems.values() for kind in found.counts})
        found_kinds = f"{counted(kinds, 'kind')} of problems" if kinds else ""
        if self.unusable:
            yield "; ".join(filter(None, [f"not usable: {self.unusable}", found_kinds]))
        else:
            counts = ", ".join(f"{s.split} {s.images}" for s in self.statistics)
            boxes = counted(sum(s.boxes for s in self.statistics), "box", "boxes")
            yield f"usable: {counts} images, {boxes}; {found_kinds or 'no problem found'}"


def check(spec: str | Path, watch: Watch = lambda done, total: None, cache: Path | None = None) -> Report:
    """Read every split and decode every image.

    Args:
        spec: what a user writes after ``--data``.
        watch: called with (images done, images in all).
        cache: folder of generated data.

    Raises:
        InputError: there is no data set at all. What is wrong within one is in the report.
    """
    found = find_data(spec, cache)
    splits, unread, unusable = _splits(found, spec)
    for data in splits.values():
        _linked(data, Path(spec).expanduser())
    digests = _decode(splits, watch)
    for split, data in splits.items():
        _repeated(data, digests[split])
        _twice(data)
    for first, second in combinations(splits, 2):
        _shared(splits[first], digests[first], splits[second], digests[second])
    problems = {**{split: data.problems for split, data in splits.items()}, **unread}
    problems["classes"] = _alike(next(iter(splits.values())).classes if splits else ())
    problems["files"] = _strays(found)
    broken = [
        _too_many_broken(data, len(digests[split])) for split, data in splits.items() if split in ("train", "val")
    ]
    reasons = [unusable, *broken]
    return Report(
        found.name, found.kind, tuple(map(statistics, splits.values())), problems, "; ".join(filter(None, reasons))
    )


def _splits(found: DataFormat, spec: str | Path) -> tuple[dict[str, DetectionDataset], dict[str, Problems], str]:
    """The splits that can be read; those that cannot and why; why the data set cannot be trained on, if so."""
    splits: dict[str, DetectionDataset] = {}
    unread: dict[str, Problems] = {}
    reasons = []
    for split in found.splits:
        try:
            splits[split] = found.read(split)
        except InputError as error:
            if split in ("train", "val"):
                reasons.append(f"{split}: {error}")
            else:
                unread[split] = Problems()
                unread[split].add("split that cannot be read", spec, str(error))
    try:
        check_splits(found, spec)
        if "train" in splits and "val" in splits:
            report_shared_images(DataPair(found.name, splits["train"], splits["val"]))
    except InputError as error:
        reasons.append(str(error))
    return splits, unread, "; ".join(reasons)


def _linked(data: DetectionDataset, place: Path) -> None:
    """Note how many images of the data set at ``place`` are elsewhere, behind links to files or folders."""
    folder = place if place.is_dir() else place.parent
    real = folder.resolve()
    inside = [sample.path for sample in data.samples if is_inside(sample.path, folder)]
    outside = [path for path in inside if not is_inside(path.resolve(), real)]
    if outside:
        links = f"{counted(len(outside), 'image')} reached by links out of {folder}"
        data.problems.notes.append(f"{links}, all are used, first {outside[0]} -> {outside[0].resolve()}")


def _decode(splits: Mapping[str, DetectionDataset], watch: Watch) -> dict[str, Digests]:
    """Decode every image as it would be loaded; a broken one goes to the problems of its split."""
    jobs = [(data, index) for data in splits.values() for index in range(len(data))]
    digests: dict[str, Digests] = {split: {} for split in splits}
    pool = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="check")
    try:
        for done, ((data, index), digest) in enumerate(
            zip(jobs, pool.map(_digest, *zip(*jobs, strict=True)) if jobs else [], strict=True), 1
        ):
            if isinstance(digest, BrokenImage):
                data.problems.add("broken image", digest.path, f"{digest.reason}, left out")
            else:
                digests[data.split][index] = digest
            watch(done, len(jobs))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return digests


def _digest(data: DetectionDataset, index: int) -> bytes | BrokenImage:
    """Of the decoded pixels, so that the same image is known again in another file format or with other metadata."""
    try:
        rgb = data.load(index)[0]
    except BrokenImage as error:
        return error
    return hashlib.blake2b(np.ascontiguousarray(rgb).data, digest_size=16, salt=b"%dx%d" % rgb.shape[1::-1]).digest()


def _repeated(data: DetectionDataset, digests: Digests) -> None:
    first: dict[bytes, int] = {}
    for index, digest in digests.items():
        other = first.setdefault(digest, index)
        if other != index:
            data.problems.add(
                "image that repeats another",
                data.samples[index].path,
                f"the same pixels as {data.samples[other].path}, both are used",
            )


def _shared(one: DetectionDataset, digests: Digests, two: DetectionDataset, others: Digests) -> None:
    """Report equal pixels as a problem of the second split, whose accuracy they make worthless.

    The same file in train and val is reported by :func:`nas.data.source.report_shared_images`.
    """
    first = {digest: one.samples[index].path for index, digest in digests.items()}
    for index, digest in others.items():
        path = two.samples[index].path
        if digest in first and (
            first[digest].resolve() != path.resolve() or (one.split, two.split) != ("train", "val")
        ):
            two.problems.add(
                f"image also in {one.split}",
                path,
                f"the same pixels as {first[digest]}: {two.split}'s accuracy on it says nothing, take it out of one",
            )


def _twice(data: DetectionDataset) -> None:
    for sample in data.samples:
        rows = np.column_stack([sample.boxes, sample.labels, sample.crowd])
        if repeated := len(rows) - len(np.unique(rows, axis=0)):
            data.problems.add(
                "box that stands there twice",
                sample.path,
                f"{repeated} with the same corners and class, all are used",
                repeated,
            )


def _alike(classes: Sequence[str]) -> Problems:
    """One class that was written in two ways, most likely."""
    problems, first = Problems(), dict[str, str]()
    for name in classes:
        other = first.setdefault("".join(filter(str.isalnum, name.casefold())) or name, name)
        if other != name:
            problems.add(
                "class names that are alike",
                repr(name),
                f"differs from {other!r} in case or punctuation only, taken for another class",
            )
    return problems


def _strays(found: DataFormat) -> Problems:
    try:
        return found.strays()
    except InputError:  # a split that cannot be read, which is reported already
        return Problems()


def _too_many_broken(data: DetectionDataset, whole: int) -> str:
    """The bound at which training stops."""
    broken = len(data) - whole
    if broken > max(FEW_BROKEN, MOST_BROKEN * len(data)) or broken == len(data):
        return f"{broken} of {len(data)} images of {data.split} are broken, at most {MOST_BROKEN:.0%} may be"
    return ""
